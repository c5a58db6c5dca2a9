"""`manage.py dispatcher`: puts runs of lost workers back in the queue and wakes workers again."""

from __future__ import annotations

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Looks after queued and running runs until it is told to stop. One is enough; more are harmless."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        from runs.execution.dispatch import dispatch
        from webapp.database import end_forgotten_transactions

        end_forgotten_transactions()

        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        dispatch(stopping)
