"""What a rule would remove: the one plan that the preview shows and that is then applied."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from django.db.models import Count, Max, QuerySet, Sum
from django.db.models.functions import Length

from runs.logs import file_name
from runs.models import Artifact, Checkpoint, LogChunk, Metric, Removal, RetentionRule, Run
from webapp import clock, storage
from webapp.accounts.models import Workspace
from webapp.catalog.models import BaseModel

S = Run.Status
OVER = (S.SUCCEEDED, S.FAILED, S.CANCELLED)
UNFINISHED = (S.FAILED, S.CANCELLED)
RUNS_AT_ONCE = 200
POINTS_KEPT = 1_000  # of a series that is thinned out: no chart draws more
Kind = Removal.Kind


@dataclass(frozen=True)
class Item:
    """A part of one run that would go, and why."""

    run_id: int
    run_name: str
    workspace_id: int
    ended_at: datetime  # of the run: another end means that it went on, and that nothing goes
    kind: Removal.Kind
    count: int  # files, checkpoints or points
    size_bytes: int
    reason: str
    names: tuple[str, ...] = ()
    checkpoints: tuple[int, ...] = field(default=(), repr=False)  # row ids
    keys: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Plan:
    """What would go, as far as `MOST` reaches."""

    items: list[Item]
    is_cut: bool  # there is more; it goes with the next round

    @property
    def size_bytes(self) -> int:
        return sum(item.size_bytes for item in self.items)

    @property
    def runs(self) -> int:
        return len({item.run_id for item in self.items})


def plan(
    rule: RetentionRule, workspace: Workspace, *, now: datetime | None = None, most: int = 1_000
) -> Plan:
    """What this rule would remove in a workspace now, at most so many parts; reads, changes nothing.

    Runs that are marked to be kept, that are not over, or whose files are a model of the catalogue lose nothing.
    """
    found = list(islice(_items(rule, workspace, now or clock.now()), most + 1))
    return Plan(found[:most], len(found) > most)


def _items(rule: RetentionRule, workspace: Workspace, now: datetime) -> Iterator[Item]:
    whole: set[int] = set()
    if rule.run_days is not None:
        for item in _whole_runs(_ended(workspace, OVER, rule.run_days, now), rule.run_days):
            whole.add(item.run_id)
            yield item
    parts = (
        (_checkpoints, rule.checkpoint_days, (S.SUCCEEDED,), "it succeeded"),
        (_checkpoints, rule.unfinished_checkpoint_days, UNFINISHED, "it ended without success"),
        (_files, rule.file_days, (S.SUCCEEDED,), "it succeeded"),
        (_files, rule.unfinished_file_days, UNFINISHED, "it ended without success"),
        (_logs, rule.log_days, OVER, "it ended"),
        (_points, rule.metric_days, OVER, "it ended"),
    )
    for find, days, statuses, what in parts:
        if days is not None:
            ended = _ended(workspace, statuses, days, now).exclude(pk__in=whole)
            yield from find(ended, rule, _since(days, what))


def _since(days: int, what: str) -> str:
    return (
        f"More than {days:,} day{'s' if days != 1 else ''} since {what}." if days else f"As soon as {what}."
    )


def _ended(workspace: Workspace, statuses: tuple[Run.Status, ...], days: int, now: datetime) -> QuerySet[Run]:
    """Runs that the rule may touch, those that ended first in front."""
    runs = Run.objects.filter(
        workspace=workspace, status__in=statuses, keep=False, finished_at__lte=now - timedelta(days=days)
    )
    used = BaseModel.objects.filter(source=BaseModel.Source.RUN).values_list("reference", flat=True)
    makers = {int(part[1]) for text in used if len(part := text.split("/")) > 1 and part[1].isdecimal()}
    return runs.exclude(pk__in=makers).order_by("finished_at", "pk")


def _item(
    run: Run, kind: Removal.Kind, count: int, size: int, reason: str, **more: tuple[object, ...]
) -> Item:
    ended_at: datetime = run.finished_at  # type: ignore[assignment]  # they are over
    return Item(run.pk, run.name, run.workspace_id, ended_at, kind, count, size, reason, **more)  # type: ignore[arg-type]


def _whole_runs(runs: QuerySet[Run], days: int) -> Iterator[Item]:
    for run in runs.iterator():
        stored = list(storage.listing(f"runs/{run.pk}"))
        size = sum(file.size for file in stored)
        yield _item(run, Kind.RUN, len(stored), size, _since(days, "it ended"))


def _checkpoints(runs: QuerySet[Run], rule: RetentionRule, reason: str) -> Iterator[Item]:
    keep = RetentionRule.KeepCheckpoint(rule.checkpoint_keep)
    keep_last = keep in (keep.LAST, keep.BOTH)
    keep_best = keep in (keep.BEST, keep.BOTH)
    for run in runs.filter(checkpoints__isnull=False).distinct().iterator():
        saved: list[Checkpoint] = list(run.checkpoints.order_by("step"))
        gone = [
            each
            for each in saved
            if not (keep_last and each is saved[-1]) and not (keep_best and each.is_best)
        ]
        if gone:
            size = sum(each.size_bytes for each in gone)
            steps = tuple(f"step {each.step:,}" for each in gone)
            rows = tuple(each.pk for each in gone)
            yield _item(run, Kind.CHECKPOINTS, len(gone), size, reason, names=steps, checkpoints=rows)


def _files(runs: QuerySet[Run], rule: RetentionRule, reason: str) -> Iterator[Item]:
    for run in runs.filter(artifacts__isnull=False).distinct().iterator():
        files: list[Artifact] = list(run.artifacts.all())
        size = sum(file.size for file in files)
        names = tuple(file.name for file in files)
        yield _item(
            run,
            Kind.FILES,
            len(files),
            size,
            reason,
            names=names,
            keys=tuple(file.storage_key for file in files),
        )


def _logs(runs: QuerySet[Run], rule: RetentionRule, reason: str) -> Iterator[Item]:
    """Once gone they are not looked for again, unless the run went on: that costs a listing a run."""
    removed_at = _removed_at(Kind.LOGS, runs)
    for run in runs.filter(attempts__isnull=False).distinct().iterator():
        if _is_done(run, removed_at):
            continue
        stored = list(storage.listing(f"runs/{run.pk}/logs"))
        # What an attempt printed whose worker was killed has stayed in the database.
        chunks = LogChunk.objects.filter(attempt__run=run).values_list("attempt__number", "rank")
        kept = list(chunks.annotate(size=Sum(Length("data"))).order_by("attempt__number", "rank"))
        if stored or kept:
            size = sum(file.size for file in stored) + sum(size for *_, size in kept)
            names = (*(file.key.rsplit("/", 1)[1] for file in stored), *(file_name(*log) for *log, _ in kept))
            keys = tuple(file.key for file in stored)
            yield _item(run, Kind.LOGS, len(names), size, reason, names=names, keys=keys)


def _points(runs: QuerySet[Run], rule: RetentionRule, reason: str) -> Iterator[Item]:
    """Some runs at a time, those that have been done left out: counting points reads them all."""
    thin = rule.metric_action == RetentionRule.Points.THIN
    removed_at = _removed_at(Kind.POINTS, runs) if thin else {}
    waiting = [run for run in runs.iterator() if not _is_done(run, removed_at)]
    for start in range(0, len(waiting), RUNS_AT_ONCE):
        some = waiting[start : start + RUNS_AT_ONCE]
        counted = Metric.objects.filter(run__in=some).values_list("run", "series").annotate(n=Count("pk"))
        counts: dict[int, list[int]] = {}
        for run_id, _, count in counted.order_by():
            counts.setdefault(run_id, []).append(count)
        for run in some:
            gone = sum(_thinned(count) if thin else count for count in counts.get(run.pk, ()))
            if gone:
                yield _item(run, Kind.POINTS, gone, 0, reason)


def _removed_at(kind: Removal.Kind, runs: QuerySet[Run]) -> dict[int, datetime]:
    """{run: when this part of it was last removed}."""
    gone = Removal.objects.filter(kind=kind, run__in=runs.order_by()).values_list("run")
    return dict(gone.annotate(Max("at")).order_by())


def _is_done(run: Run, removed_at: dict[int, datetime]) -> bool:
    """Whether this part went after the run had ended: it has not gone on since."""
    return run.pk in removed_at and run.finished_at is not None and removed_at[run.pk] > run.finished_at


def _thinned(count: int) -> int:
    """How many points of a series go when it is thinned out: every n-th stays, the first and the last too."""
    if count <= POINTS_KEPT:
        return 0
    every = -(-count // POINTS_KEPT)
    kept = {1, count, *range(every, count + 1, every)}
    return count - len(kept)
