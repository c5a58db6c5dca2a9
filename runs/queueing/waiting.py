"""What a run waits for, in sentences: for its page, the API, and whoever has to do something about it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from runs.execution.capacity import versions_of
from runs.models import Attempt, Run, Worker
from runs.queueing import routing
from runs.queueing.forecast import Forecast, forecast
from runs.queueing.release import moment
from runs.queueing.usage import used_by
from webapp.templatetags.ui import duration, number


@dataclass(frozen=True)
class Waiting:
    """Why a run does not train at this moment."""

    headline: str
    reason: str = ""  # what is in the way, where somebody may have to do something
    ahead: int | None = None  # runs that start before it
    starts_at: datetime | None = None  # when it may start
    blocked: bool = False  # it starts only once something changes: a worker, a limit, another run
    may_start_now: bool = False  # "Start without waiting" would help
    after: Run | None = None

    @property
    def expected(self) -> str:
        """`Starts in about 12 min`; empty if that cannot be told."""
        if self.starts_at is None or self.blocked:
            return ""
        left = (self.starts_at - timezone.now()).total_seconds()
        return "Starts within a minute" if left < 60 else f"Starts in about {_about(left)}"


def waiting(run: Run, *, workers: list[Worker] | None = None, listed: bool = False) -> Waiting | None:
    """Of a run that is queued, or running but asked to stop; None for all others.

    `listed`: one of many, for which place and expected start are left out; `workers`: those online.
    """
    if run.status == Run.Status.RUNNING and run.desired != Run.Desired.GO_ON:
        return _stopping(run)
    if run.status != Run.Status.QUEUED:
        return None
    workers = routing.online() if workers is None else workers
    if run.waits_for == Run.WaitsFor.TIME and run.not_before is not None:
        reason = routing.lacking(run, workers) or _too_few_hosts(run, workers)
        return Waiting(f"Starts at {moment(run)}", reason, starts_at=run.not_before, may_start_now=True)
    if run.waits_for == Run.WaitsFor.RUN:
        return _behind(run)
    expected = Forecast(None, None) if listed else forecast(run)
    if reason := routing.lacking(run, workers) or _too_few_hosts(run, workers):
        # With workers that cannot hold it, how many are before it says nothing.
        return Waiting("Waiting for a worker", reason, None if workers else expected.ahead, blocked=True)
    if limit := _limit_reached(run):
        return Waiting("Waiting for its turn", limit, expected.ahead, expected.starts_at, blocked=True)
    return Waiting("Waiting for a worker", "", expected.ahead, expected.starts_at)


def _too_few_hosts(run: Run, workers: list[Worker]) -> str:
    """What is missing where those that are online could not train it together; empty if they could."""
    able = Counter(versions_of(worker) for worker in routing.taking(workers) if routing.may_hold(worker, run))
    together = max(able.values(), default=0)
    if together >= run.nodes:
        return ""
    verb = "is" if together == 1 else "are"
    return (
        f"It trains on {run.nodes} hosts together, and {together} that can hold it {verb} online"
        f"{', others of other versions' if able.total() > together else ''}: it starts as soon as there are enough."
    )


def _behind(run: Run) -> Waiting:
    other = run.after
    if other is None:
        return Waiting(
            "Waiting for a run that is gone",
            "The run that it was to follow has been deleted.",
            blocked=True,
            may_start_now=True,
        )
    if other.status in {Run.Status.FAILED, Run.Status.CANCELLED}:
        how = "failed" if other.status == Run.Status.FAILED else "was cancelled"
        reason = (
            f"That run {how}, so this one does not start by itself. It does if that one succeeds after all."
        )
        return Waiting(f"Waiting for “{other.name}”", reason, blocked=True, may_start_now=True, after=other)
    return Waiting(f"Starts once “{other.name}” has succeeded", may_start_now=True, after=other)


def _limit_reached(run: Run) -> str:
    """Which of its workspace's limits keeps the run back; empty if none does."""
    place = run.workspace
    most, hours = place.max_concurrent_runs, place.gpu_hours_a_day
    if most is None and (hours is None or not run.gpus):
        return ""
    used = used_by(place.pk)
    if most is not None and used.running >= most:
        runs = "run" if most == 1 else "runs"
        return f"The workspace may have {number(most)} {runs} at once, and {number(used.running)} of them are running."
    if hours is not None and run.gpus and used.gpu_hours >= hours:
        return (
            f"The workspace has used {used.gpu_hours:.1f} of its {hours:g} GPU-hours of today; "
            f"the day ends at midnight, {settings.TIME_ZONE}."
        )
    return ""


def _stopping(run: Run) -> Waiting:
    """Asked to pause or cancel: what happens until it does."""
    headline = "Stopping …" if run.desired == Run.Desired.CANCEL else "Pausing …"
    attempt = Attempt.objects.filter(run=run, number=run.attempt).first()
    if attempt is None:
        return Waiting(headline)
    told = run.events.filter(attempt=run.attempt, kind="stopping").exists()
    beat = attempt.lease_until - timedelta(seconds=settings.LEASE_SECONDS)
    silent = (timezone.now() - beat).total_seconds()
    # A worker that is well looks every second, and is heard of with every heartbeat.
    if silent > settings.HEARTBEAT_SECONDS + 5 or not told:
        return Waiting(
            headline, f"Waiting for the worker's answer: its last heartbeat was {duration(silent)} ago."
        )
    return Waiting(headline, "Saving a checkpoint …")


def _about(seconds: float) -> str:
    """A length as precise as it deserves: whole minutes up to an hour, then quarters, then hours."""
    minutes = seconds / 60
    if minutes < 60:
        return f"{round(minutes)} min"
    hours = round(minutes / 15) / 4 if minutes < 360 else float(round(minutes / 60))
    return duration(hours * 3600).replace(" 0 min", "")
