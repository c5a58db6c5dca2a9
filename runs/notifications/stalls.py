"""Runs that get nowhere. A running run whose last sign of progress (a step, or a new phase) is too long ago stalls: its
story says so once, and whoever wants to know is told at their own limit; when steps come again, that is told as well.

Nothing is done to the run: a slow disk or a large evaluation can look the same, and only a person can tell.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q

from runs.models import Attempt, Channel, Delivery, Event, Run
from runs.notifications import outbox

log = logging.getLogger(__name__)
STEPPING = "training"  # the phase in which steps come
SLOW_STEPS = 3  # a run whose steps take long stalls when it has taken so many times the usual


@dataclass(frozen=True)
class Standing:
    """A run that runs, and since when it has shown no progress."""

    run: Run
    since: datetime
    step_seconds: float  # what a step of this attempt has taken on average; 0 before there was one

    def idle_seconds(self, now: datetime) -> float:
        return (now - self.since).total_seconds()

    def limit_seconds(self, minutes: float) -> float | None:
        """When it counts as stalled for somebody who allows `minutes` between steps; None: never."""
        if self.run.phase != STEPPING:
            if not settings.STALL_PHASE_MINUTES:
                return None
            minutes = max(minutes, settings.STALL_PHASE_MINUTES)
        return max(60 * minutes, SLOW_STEPS * self.step_seconds) if minutes else None


def look() -> None:
    """The dispatcher's duty: one query where nothing stalls."""
    now = _database_time()
    for standing in _standing_still(now):
        _stalls(standing, now)
    for run in Run.objects.filter(stalled_since__isnull=False).select_related("workspace"):
        if run.status != Run.Status.RUNNING:
            Run.objects.filter(pk=run.pk, stalled_since=run.stalled_since).update(stalled_since=None)
        elif not is_stalled(run):
            _goes_on(run)


def _database_time() -> datetime:
    """By whose clock steps are dated: that of a dispatcher may be an hour off."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment


def _standing_still(now: datetime) -> list[Standing]:
    """Runs without progress for at least the shortest time that anybody may ask for."""
    before = now - timedelta(minutes=1)
    running = Q(run__status=Run.Status.RUNNING, run__desired=Run.Desired.GO_ON, number=F("run__attempt"))
    silent = Q(run__last_step_at=None) | Q(run__last_step_at__lt=before)
    attempts = Attempt.objects.filter(running, silent, finished_at=None, started_at__lt=before)
    found = []
    for attempt in attempts.select_related("run").defer("log_tail", "run__results"):
        run = attempt.run
        since = max(filter(None, (attempt.started_at, run.last_step_at)))
        steps = run.step - (attempt.resumed_from_step or 0)
        spent = (since - attempt.started_at).total_seconds()
        found.append(Standing(run, since, spent / steps if steps > 0 else 0.0))
    return found


def _stalls(standing: Standing, now: datetime) -> None:
    """Tell those whose limit has passed; the story is told once, when the first has."""
    run, idle = standing.run, standing.idle_seconds(now)
    usual = standing.limit_seconds(settings.STALL_MINUTES)
    late = []
    for channel in outbox.listeners(run):
        limit = usual if channel.stall_minutes is None else standing.limit_seconds(channel.stall_minutes)
        if limit is not None and idle >= limit and Channel.Happening.STALLED in channel.happenings:
            late.append(channel)
    if not late and (usual is None or idle < usual):
        return
    told = f"No step for {minutes(idle)}."
    with transaction.atomic():
        first = (
            Run.objects.filter(pk=run.pk, status=Run.Status.RUNNING, attempt=run.attempt)
            .exclude(stalled_since=standing.since)
            .filter(last_step_at=run.last_step_at)
            .update(stalled_since=standing.since, row_version=F("row_version") + 1)
        )
        event = None
        if first:
            data = {"since": standing.since.isoformat(), "phase": run.phase}
            event = Event.objects.create(
                run=run, attempt=run.attempt, kind="stalled", message=told, data=data
            )
            log.warning("Run %s stalls: %s", run.pk, told)
        elif not Run.objects.filter(pk=run.pk, stalled_since=standing.since).exists():
            return  # it went on, or ended, between the two statements
        where = f" at step {run.step:,} of {run.total_steps:,}" if run.total_steps else ""
        sentence = f"No step for {minutes(idle)}{where}, while {run.phase or 'starting'}."
        outbox.tell(
            run, Channel.Happening.STALLED, sentence, event=event, channels=late, since=standing.since
        )


def _goes_on(run: Run) -> None:
    """Steps come again: told to those who were told of the stall."""
    since = run.stalled_since
    assert since is not None and run.last_step_at is not None
    told = f"Going on again after {minutes((run.last_step_at - since).total_seconds())}."
    with transaction.atomic():
        if not Run.objects.filter(pk=run.pk, stalled_since=since).update(
            stalled_since=None, row_version=F("row_version") + 1
        ):
            return
        event = Event.objects.create(run=run, attempt=run.attempt, kind="recovered", message=told)
        channels = outbox.listeners(run)
        keys = {outbox.stall_key(channel.pk, run.pk, "stalled", since): channel for channel in channels}
        knew = set(Delivery.objects.filter(key__in=list(keys)).values_list("key", flat=True))
        told_before = [channel for key, channel in keys.items() if key in knew]
        outbox.tell(run, Channel.Happening.RECOVERED, told, event=event, channels=told_before, since=since)


def minutes(seconds: float) -> str:
    """`1 minute`, `15 minutes`, `2 hours 5 minutes`."""
    whole = max(1, round(seconds / 60))
    hours, rest = divmod(whole, 60)
    parts = [
        f"{count} {word}{'' if count == 1 else 's'}"
        for count, word in ((hours, "hour"), (rest, "minute"))
        if count
    ]
    return " ".join(parts)


def is_stalled(run: Run) -> bool:
    """Whether it was found to stall and has not gone on since."""
    if run.stalled_since is None or run.status != Run.Status.RUNNING:
        return False
    return run.last_step_at is None or run.last_step_at <= run.stalled_since
