"""Deleting a run with everything that belongs to it."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction
from django.db.models import Sum

from runs import lifecycle
from runs.housekeeping.removal import remove_later
from runs.models import Artifact, Checkpoint, HousekeepingReport, Removal, Run
from webapp.accounts.models import User
from webapp.catalog.models import BaseModel


def models_made_of(run_id: int) -> list[BaseModel]:
    """Models of the catalogue whose weights are this run's files."""
    return list(
        BaseModel.objects.filter(source=BaseModel.Source.RUN, reference__startswith=f"runs/{run_id}/")
    )


def row_bytes(run: Run) -> tuple[int, int]:
    """(files, bytes) that the run's rows tell of: model files and checkpoints."""
    files = run.artifacts.aggregate(size=Sum("size"))["size"] or 0
    saved = run.checkpoints.aggregate(size=Sum("size_bytes"))["size"] or 0
    return run.artifacts.count() + run.checkpoints.count(), files + saved


def delete_run(
    run: Run, by: User | None, *, reason: str = "", report: HousekeepingReport | None = None
) -> None:
    """Remove the run's rows now and its files soon; raises lifecycle.NotAllowed while it is at work."""
    if made := models_made_of(run.pk):
        raise lifecycle.NotAllowed(
            f"“{made[0].name}” in the catalogue is made of this run's files: remove that model first."
        )
    count, size = row_bytes(run)
    with transaction.atomic():
        lifecycle.delete(run.pk)
        remove_later(f"runs/{run.pk}", passes=2, downloaded=True)
        Removal.objects.create(
            report=report,
            workspace=run.workspace,
            run_name=run.name,
            kind=Removal.Kind.RUN,
            count=count,
            size_bytes=size,
            reason=reason or f"Deleted by {by.get_username() if by else 'nobody'}.",
        )


def delete_runs(runs: Iterable[Run], by: User) -> tuple[int, list[str]]:
    """Delete several; returns how many went, and a sentence for each that did not."""
    deleted, refused = 0, []
    for run in runs:
        try:
            delete_run(run, by)
        except lifecycle.NotAllowed as reason:
            refused.append(f"“{run.name}”: {reason}")
        else:
            deleted += 1
    return deleted, refused


def with_sizes(runs: list[Run]) -> list[tuple[Run, int]]:
    """Each run with the bytes that its rows tell of."""
    sizes = {run.pk: 0 for run in runs}
    for rows in (
        Artifact.objects.filter(run__in=runs).values_list("run").annotate(Sum("size")),
        Checkpoint.objects.filter(run__in=runs).values_list("run").annotate(Sum("size_bytes")),
    ):
        for run_id, size in rows.order_by():
            sizes[run_id] += size
    return [(run, sizes[run.pk]) for run in runs]
