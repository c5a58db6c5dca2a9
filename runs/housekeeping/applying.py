"""Does what a plan says, part by part; what has changed since is left alone."""

from __future__ import annotations

import logging
from collections.abc import Callable

from django.db import connection, transaction
from django.db.models import F

from runs import lifecycle
from runs.housekeeping import deleting
from runs.housekeeping.planning import OVER, POINTS_KEPT, Item, Plan
from runs.housekeeping.removal import remove_later
from runs.logs import forget_logs
from runs.models import (
    Artifact,
    Checkpoint,
    Event,
    HousekeepingReport,
    Metric,
    Removal,
    RetentionRule,
    Run,
)
from webapp.templatetags.ui import size as shown_size

log = logging.getLogger(__name__)
Kind = Removal.Kind
WORDS = {
    Kind.CHECKPOINTS: "checkpoint",
    Kind.LOGS: "log file",
    Kind.FILES: "model file",
    Kind.POINTS: "point",
}
# n and c: the number of a point in its series, and how many it has; of c // kept + 1 one stays, as planned.
THIN = """
DELETE FROM {table} WHERE id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY series ORDER BY step) AS n,
               count(*) OVER (PARTITION BY series) AS c
        FROM {table} WHERE run_id = %(run)s
    ) numbered
    WHERE c > %(kept)s AND n <> 1 AND n <> c AND n %% ((c + %(kept)s - 1) / %(kept)s) <> 0
)
"""


def apply(
    plan: Plan, rule: RetentionRule, report: HousekeepingReport, go_on: Callable[[], bool] = lambda: True
) -> list[Item]:
    """Remove what is planned, a transaction a part; returns what went."""
    gone = []
    for item in plan.items:
        if not go_on():
            break
        try:
            if _apply(item, rule, report):
                gone.append(item)
        except lifecycle.NotAllowed as refused:  # it went on, or became a model, since it was planned
            log.info("Run %s keeps its %s: %s", item.run_id, item.kind, refused)
    return gone


def _apply(item: Item, rule: RetentionRule, report: HousekeepingReport) -> bool:
    with transaction.atomic():
        held = Run.objects.select_for_update(of=("self",)).filter(
            pk=item.run_id, status__in=OVER, keep=False, finished_at=item.ended_at
        )
        run: Run | None = held.first()
        if run is None or deleting.models_made_of(item.run_id):
            return False
        if item.kind == Kind.RUN:
            deleting.delete_run(run, None, reason=item.reason, report=report)
            return True
        count, size = DELETE[item.kind](run, item, rule)
        if not count:
            return False
        Removal.objects.create(
            report=report,
            workspace_id=item.workspace_id,
            run=run,
            run_name=run.name,
            kind=item.kind,
            count=count,
            size_bytes=size,
            reason=item.reason,
            details={"names": list(item.names)[:500]},
        )
        tell(run, item.kind, count, size, item.reason)
        return True


def tell(run: Run, kind: Removal.Kind, count: int, size: int, reason: str) -> None:
    """The line of the run's story, and a new version of its page."""
    what = f"{count:,} {WORDS[kind]}{'s' if count != 1 else ''}"
    amount = f" ({shown_size(size)})" if size else ""
    Event.objects.create(
        run=run,
        attempt=run.attempt,
        kind="removed",
        message=f"{what}{amount} removed by the rule of this workspace: {reason[0].lower()}{reason[1:]}",
        data={"kind": str(kind), "count": count, "bytes": size},
    )
    Run.objects.filter(pk=run.pk).update(row_version=F("row_version") + 1)


def _checkpoints(run: Run, item: Item, rule: RetentionRule) -> tuple[int, int]:
    rows = list(Checkpoint.objects.filter(run=run, pk__in=item.checkpoints))
    for row in rows:
        remove_later(row.storage_prefix)
    Checkpoint.objects.filter(pk__in=[row.pk for row in rows]).delete()
    return len(rows), sum(row.size_bytes for row in rows)


def _files(run: Run, item: Item, rule: RetentionRule) -> tuple[int, int]:
    rows = list(Artifact.objects.filter(run=run, storage_key__in=item.keys))
    if rows:
        remove_later(f"runs/{run.pk}/artifacts", [row.storage_key for row in rows], downloaded=True)
        Artifact.objects.filter(pk__in=[row.pk for row in rows]).delete()
    return len(rows), sum(row.size for row in rows)


def _logs(run: Run, item: Item, rule: RetentionRule) -> tuple[int, int]:
    remove_later(f"runs/{run.pk}/logs", list(item.keys))
    forget_logs(run.pk)
    return item.count, item.size_bytes


def _points(run: Run, item: Item, rule: RetentionRule) -> tuple[int, int]:
    if rule.metric_action == RetentionRule.Points.REMOVE:
        return Metric.objects.filter(run=run).delete()[0], 0
    with connection.cursor() as cursor:
        cursor.execute(
            THIN.format(table=connection.ops.quote_name(Metric._meta.db_table)),
            {"run": run.pk, "kept": POINTS_KEPT},
        )
        return cursor.rowcount, 0


DELETE: dict[Removal.Kind, Callable[[Run, Item, RetentionRule], tuple[int, int]]] = {
    Kind.CHECKPOINTS: _checkpoints,
    Kind.FILES: _files,
    Kind.LOGS: _logs,
    Kind.POINTS: _points,
}
