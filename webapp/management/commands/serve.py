"""`manage.py serve`: the web server alone, for deployments with a database and broker of their own."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand


def command() -> list[str]:
    """How the web server is run: threads, so that a long download holds up nobody else."""
    served = [sys.executable, "-m", "granian", "--interface", "wsgi", "--no-ws"]
    served += ["--host", settings.BIND, "--port", str(settings.PORT)]
    served += ["--blocking-threads", "16", "--workers-kill-timeout", "10"]
    return [*served, "webapp.wsgi:application"]


class Command(BaseCommand):
    help = "Runs the web server. `manage.py prepare` has to have run; `manage.py up` does both."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        os.chdir(settings.ROOT)
        os.execv(sys.executable, command())  # noqa: S606 – a list, no shell
