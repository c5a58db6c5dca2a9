"""`manage.py worker`: takes runs and inspects datasets, on this host."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = (
        "Runs a worker on this host: it trains runs and inspects datasets until it is told to stop (Ctrl-C)."
    )
    requires_system_checks = []  # it starts before its database may be there

    def handle(self, *args: Any, **options: Any) -> None:
        os.environ.setdefault("C_FORCE_ROOT", "1")  # messages are JSON: nothing is unpickled
        warnings.filterwarnings("ignore", message=r"\s*You're running the worker with superuser privileges")
        os.environ.setdefault("CELERY_SKIP_CHECKS", "1")  # a worker serves no pages: none need to load
        from runs.execution.worker import WorkerProcess
        from webapp.database import end_forgotten_transactions

        end_forgotten_transactions()

        sys.exit(WorkerProcess().run())
