"""`manage.py drain WORKER`: it finishes the runs that it has and takes no more."""

from __future__ import annotations

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from runs.models import Worker


class Command(BaseCommand):
    help = "Has a worker finish the runs that it has and take no more, as before an upgrade of its host."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("worker", help="its name, host or number on the page Hosts")
        parser.add_argument("--undo", action="store_true", help="have it take runs again")
        parser.add_argument("--wait", action="store_true", help="return when it has finished its runs")

    def handle(self, *args: Any, **options: Any) -> None:
        from runs.execution import admission

        worker = find(options["worker"])
        if options["undo"]:
            admission.take_up(worker)
            self.stdout.write(f"{worker.name} takes runs again.")
            return
        admission.drain(worker)
        held = admission.under_way(worker)
        if not held:
            self.stdout.write(f"{worker.name} has no runs and takes none: it can be stopped.")
            return
        self.stdout.write(f"{worker.name} finishes {_runs(held)} and takes no more.")
        while options["wait"] and held:
            time.sleep(1)
            if (now := admission.under_way(worker)) != held:
                held = now
                self.stdout.write(f"{_runs(held)} left." if held else f"{worker.name} can be stopped.")


def find(text: str) -> Worker:
    """By name, else by number, else by host; raises CommandError if it is none or several."""
    for found in (
        Worker.objects.filter(name=text),
        Worker.objects.filter(pk=int(text)) if text.isdecimal() and len(text) < 16 else Worker.objects.none(),
        Worker.objects.filter(host=text),
    ):
        workers = list(found)
        if len(workers) == 1:
            return workers[0]
        if workers:
            names = ", ".join(worker.name for worker in workers)
            raise CommandError(f"There are several workers on {text}: {names}. Name one of them.")
    known = ", ".join(Worker.objects.order_by("name").values_list("name", flat=True)) or "none"
    raise CommandError(f"There is no worker {text!r}. Known are: {known}.")


def _runs(count: int) -> str:
    return f"{count} run{'s' if count != 1 else ''}"
