"""When an attempt is to be stopped before its training ends: how long it may take, and the word that it was told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction

from runs.execution.checkpoints import tell
from runs.execution.failures import failure
from runs.execution.failures import time_limit as deployment_limit
from runs.lifecycle import hold
from runs.models import Attempt, Run
from webapp.templatetags.ui import duration


@dataclass(frozen=True)
class TimeLimit:
    """How long this attempt may go on, and whose limit that is."""

    seconds: float  # from the start of the attempt
    of_run: float | None  # the run's own limit in seconds, over all its attempts; None: the deployment's

    def reached(self, log_tail: str) -> dict[str, Any]:
        """The failure of a run that is stopped for it."""
        if self.of_run is None:
            return deployment_limit(settings.RUN_TIME_LIMIT_SECONDS, log_tail)
        return failure(
            "time_limit",
            f"The run reached its time limit of {duration(self.of_run)}.",
            "Tried again, it goes on from its last checkpoint, for as long again.",
            log_tail,
        )


def limit_of(attempt: Attempt) -> TimeLimit | None:
    """The tighter of the run's limit, less what earlier attempts took of it, and the deployment's."""
    limits = []
    if settings.RUN_TIME_LIMIT_SECONDS:
        limits.append(TimeLimit(settings.RUN_TIME_LIMIT_SECONDS, None))
    run: Run = Run.objects.only("time_limit_seconds", "limit_counts_after").get(pk=attempt.run_id)
    if run.time_limit_seconds:
        earlier = Attempt.objects.filter(
            run=run, number__gt=run.limit_counts_after, number__lt=attempt.number, finished_at__isnull=False
        )
        took = sum(
            max(0.0, (finished - started).total_seconds())
            for started, finished in earlier.values_list("started_at", "finished_at")
        )
        limits.append(TimeLimit(max(0.0, run.time_limit_seconds - took), float(run.time_limit_seconds)))
    return min(limits, key=lambda limit: limit.seconds, default=None)


def tell_stopping(attempt: Attempt, why: str) -> None:
    """The trainer has been told to save and leave: the story and the page say so while it does."""
    with transaction.atomic():
        hold(attempt)
        tell(attempt, "stopping", f"{why}: saving a checkpoint.")
