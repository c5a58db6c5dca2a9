"""What becomes of runs and files when a dataset is deleted."""

from __future__ import annotations

from django.db.models import F

from runs.housekeeping.removal import remove_later
from runs.models import Event, Run
from webapp.accounts.models import User
from webapp.datasets.deleting import InUse
from webapp.datasets.models import Dataset

NEED_IT = (Run.Status.QUEUED, Run.Status.RUNNING, Run.Status.PAUSED)
NAMED = 3


def dataset_goes(dataset: Dataset, by: User | None) -> None:
    """Refuse while runs still need it; else tell those that are over, and have its files removed."""
    runs = Run.objects.filter(dataset_version__dataset=dataset)
    if needed := list(runs.filter(status__in=NEED_IT).order_by("pk")[: NAMED + 1]):
        names = ", ".join(f"“{run.name}”" for run in needed[:NAMED])
        more = " and others" if len(needed) > NAMED else ""
        verb = "needs" if len(needed) == 1 else "need"
        raise InUse(
            f"“{dataset.name}” cannot be deleted yet: {names}{more} still {verb} it. "
            f"Cancel {'it' if len(needed) == 1 else 'them'}, or wait until {'it is' if len(needed) == 1 else 'they are'} over."
        )
    told = (
        f"The dataset “{dataset.name}” was deleted{f' by {by.get_username()}' if by else ''}: the results stay, "
        "but this run cannot be tried again or extended."
    )
    over = list(runs.values_list("pk", "attempt"))
    Event.objects.bulk_create(
        Event(run_id=pk, attempt=attempt, kind="dataset_deleted", message=told) for pk, attempt in over
    )
    Run.objects.filter(pk__in=[pk for pk, _ in over]).update(row_version=F("row_version") + 1)
    # Twice: a worker that inspects it without knowing may still write.
    remove_later(f"datasets/{dataset.pk}", passes=2)
