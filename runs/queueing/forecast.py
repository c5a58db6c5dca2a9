"""The numbers that an outlook is played with, out of the database: who runs, who waits, how long such runs took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils import timezone

from runs.advice.methods import optimiser_steps
from runs.execution.capacity import versions_of
from runs.execution.pool import gpus_of
from runs.models import Attempt, Run, Usage
from runs.models.run import READY
from runs.queueing.outlook import Host, Place, Queued, Running, outlook
from runs.queueing.routing import may_hold, online, taking
from webapp.datasets.versions import large

MOST_PLAYED = 300  # runs; with more in the queue only the place is told
HISTORY = 200  # earlier runs of a model that are looked at
# Of each other workspace as many are before it as of its own, and one more: they take turns.
MANY_AHEAD = """
SELECT coalesce(sum(CASE WHEN workspace_id = %(workspace)s THEN mine.ahead ELSE least(count, mine.ahead + 1) END), 0)
FROM (SELECT count(*) AS ahead FROM runs_run WHERE status = 'queued' AND waits_for = '' AND queue = %(queue)s
      AND workspace_id = %(workspace)s AND (rank > %(rank)s OR rank = %(rank)s AND (queued_at, id) < (%(since)s, %(run)s))
     ) mine,
     (SELECT workspace_id, count(*) FROM runs_run WHERE status = 'queued' AND waits_for = '' AND queue = %(queue)s
      AND rank >= %(rank)s GROUP BY workspace_id) others
"""


@dataclass(frozen=True)
class Forecast:
    """How many runs are before it, and when it may start; None: cannot be told."""

    ahead: int | None
    starts_at: datetime | None


def forecast(run: Run) -> Forecast:
    """Of a run that is ready. A handful of queries, and for long queues one that counts them."""
    workers = taking(online())
    queues = {queue for worker in workers if may_hold(worker, run) for queue in worker.queues} | {run.queue}
    ready = Run.objects.filter(READY, queue__in=queues)
    rows = list(
        ready.select_related("base_model", "dataset_version")
        .defer(*large("dataset_version__"))
        .order_by("queued_at")[: MOST_PLAYED + 1]
    )
    if len(rows) > MOST_PLAYED:
        return Forecast(_ahead_of_many(run), None)
    if run.pk not in {row.pk for row in rows}:
        return Forecast(None, None)  # it has been taken meanwhile
    # Others may take some of the runs that are before it, though they could not hold this one.
    workers = [worker for worker in workers if queues.intersection(worker.queues)]
    attempts = list(
        Attempt.objects.filter(finished_at=None)
        .select_related("run__base_model", "run__dataset_version")
        .defer(*large("run__dataset_version__"))
        .prefetch_related("nodes")
    )
    lengths = Lengths([*rows, *(attempt.run for attempt in attempts)])
    now = timezone.now()
    found = outlook(
        run.pk,
        [
            Queued(
                row.pk,
                row.workspace_id,
                row.rank,
                row.queued_at.timestamp(),
                lengths.of(row),
                gpus_of(row.queue),
                row.nodes,
                frozenset(worker.pk for worker in workers if may_hold(worker, row)),
                (now - row.queued_at).total_seconds(),
            )
            for row in rows
        ],
        [
            Running(
                each.run.workspace_id,
                lengths.left(each.run),
                gpus_of(each.run.queue),
                _hosts_of(each),
            )
            for each in attempts
        ],
        _places({row.workspace_id for row in (*rows, *(attempt.run for attempt in attempts))}),
        [Host(worker.pk, worker.slots, len(worker.devices), versions_of(worker)) for worker in workers],
        settings.RESERVE_SECONDS,
    )
    if found.seconds is None:
        return Forecast(found.ahead, None)
    return Forecast(found.ahead, now + timedelta(seconds=found.seconds))


def _hosts_of(attempt: Attempt) -> list[int]:
    """Ids of the workers that hold it; 0 for one that was taken off the list."""
    beside = [node.worker_id for node in attempt.nodes.all() if node.finished_at is None]
    return [worker or 0 for worker in (attempt.worker_id, *beside)]


def _places(ids: Iterable[int]) -> dict[int, Place]:
    from webapp.accounts.models import Workspace

    today = timezone.localdate(timezone.now(), timezone.get_default_timezone())
    used = dict(
        Usage.objects.filter(workspace__in=ids, day=today).values_list("workspace_id", "slot_seconds")
    )
    return {
        place.pk: Place(max(0.001, place.queue_weight), place.max_concurrent_runs, used.get(place.pk, 0.0))
        for place in Workspace.objects.filter(pk__in=ids)
    }


def _ahead_of_many(run: Run) -> int:
    values: dict[str, Any] = {"workspace": run.workspace_id, "queue": run.queue, "rank": run.rank}
    with connection.cursor() as cursor:
        cursor.execute(MANY_AHEAD, {**values, "since": run.queued_at, "run": run.pk})
        return int(cursor.fetchone()[0])


class Lengths:
    """How long runs may take, by those that were like them and succeeded at the first try."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._known: dict[tuple[object, ...], list[Run]] = {}
        if not runs:
            return
        models = {run.base_model_id for run in runs}
        done = Run.objects.filter(base_model__in=models, status=Run.Status.SUCCEEDED, attempt=1)
        fields = ("base_model_id", "task", "method", "queue", "dataset_version_id", "total_steps")
        for run in done.only(*fields, "started_at", "finished_at").order_by("-pk")[:HISTORY]:
            if run.started_at and run.finished_at and run.finished_at > run.started_at:
                self._known.setdefault(_kind(run), []).append(run)

    def of(self, run: Run) -> float | None:
        """Seconds that a run which waits may take; None if nothing like it has been seen."""
        alike = self._known.get(_kind(run), [])
        whole = self._by_steps(run, alike)
        if whole is None:
            same = [_took(each) for each in alike if each.dataset_version_id == run.dataset_version_id]
            whole = median(same) if same else None
        if whole is not None and run.total_steps:
            whole *= max(0.0, 1 - run.step / run.total_steps)  # it goes on from a checkpoint
        limit = run.time_limit_seconds or settings.RUN_TIME_LIMIT_SECONDS
        return min(whole, limit) if whole is not None and limit else whole

    def left(self, run: Run) -> float | None:
        """Seconds that a running run may take yet: what it says itself, else by those like it."""
        if run.eta_seconds is not None:
            return max(0.0, run.eta_seconds)
        whole = self.of(run)
        if whole is None or run.started_at is None:
            return None
        return max(0.0, whole - (timezone.now() - run.started_at).total_seconds())

    @staticmethod
    def _by_steps(run: Run, alike: Sequence[Run]) -> float | None:
        rates = [_took(each) / each.total_steps for each in alike if each.total_steps]
        rows = run.dataset_version.splits.get("train") if run.dataset_version is not None else None
        steps = optimiser_steps(rows, run.settings) if rows else None
        return median(rates) * steps if rates and steps else None


def _kind(run: Run) -> tuple[object, ...]:
    return run.base_model_id, run.task, run.method, run.queue


def _took(run: Run) -> float:
    assert run.started_at is not None and run.finished_at is not None
    return (run.finished_at - run.started_at).total_seconds()
