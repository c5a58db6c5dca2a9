"""Which changes of a run's state there are, and how one is made: the table and its compare-and-set."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.db.models.sql import UpdateQuery

from runs.execution.messages import wake
from runs.models import Event, Run
from runs.notifications import outbox
from runs.queueing import release

S = Run.Status
D = Run.Desired


class NotAllowed(Exception):
    """The run is in no state for this; the message says which it is in and what can be done."""


class LeaseLost(Exception):
    """This attempt is somebody else's now, or over: its worker must kill the trainer and write nothing."""


@dataclass(frozen=True)
class Change:
    """A row of the table: where it may start, where it ends (None: where it was), what the user wants from then on."""

    sources: tuple[Run.Status, ...]
    target: Run.Status | None
    desired: Run.Desired = D.GO_ON


# name (and kind of the Event)      from                         to
CHANGES: dict[str, Change] = {
    # asked for by people
    "cancelled": Change((S.QUEUED, S.PAUSED), S.CANCELLED),
    "cancel_requested": Change((S.RUNNING,), S.RUNNING, D.CANCEL),
    "held": Change((S.QUEUED,), S.PAUSED),
    "pause_requested": Change((S.RUNNING,), S.RUNNING, D.PAUSE),
    "resumed": Change((S.PAUSED,), S.QUEUED),
    "retried": Change((S.FAILED, S.CANCELLED), S.QUEUED),
    "extended": Change((S.SUCCEEDED, S.FAILED, S.CANCELLED, S.PAUSED), S.QUEUED),
    "prioritised": Change((S.QUEUED, S.PAUSED), None),
    "freed": Change((S.QUEUED,), S.QUEUED),  # asked to start without waiting for time or another run
    # what a run waits for besides a worker; a paused one stays paused
    "due": Change((S.QUEUED,), S.QUEUED),
    "followed": Change((S.QUEUED, S.PAUSED), None),
    "left_behind": Change((S.QUEUED, S.PAUSED), None),
    "moved_up": Change((S.QUEUED,), S.QUEUED),
    # done by the worker that holds the attempt, or by the dispatcher once its lease has expired
    "started": Change((S.QUEUED,), S.RUNNING),
    "succeeded": Change((S.RUNNING,), S.SUCCEEDED),
    "failed": Change((S.RUNNING,), S.FAILED),
    "stopped": Change((S.RUNNING,), S.CANCELLED),
    "paused": Change((S.RUNNING,), S.PAUSED),
    "released": Change((S.RUNNING,), S.QUEUED),
    "lost": Change((S.RUNNING,), S.QUEUED),
}
# What those that follow a run are told of.
ENDINGS = {"succeeded", "failed", "stopped", "cancelled", "retried", "extended"}


def change(name: str, run_id: int, message: str, *, where: Q | None = None, **values: Any) -> Run | None:
    """Make a change of the table if the run is in a state for it; None, and nothing done, if not."""
    row = CHANGES[name]
    data = values.pop("data", {})
    if row.target == S.QUEUED and row.sources != (S.QUEUED,):
        values |= {"phase": "", "eta_seconds": None, "rate": None, "finished_at": None, "failure": {}}
    elif row.target == S.PAUSED:
        values |= {"phase": "", "eta_seconds": None, "rate": None}
    elif row.target not in {S.RUNNING, S.QUEUED, None}:  # it is over
        values |= {"phase": "", "eta_seconds": None, "finished_at": Now()}
    if row.target is not None:
        values |= {"status": row.target, "desired": row.desired}
    with transaction.atomic(savepoint=False):  # there is nothing to save: an error ends it all
        ready = Run.objects.filter(where or Q(), pk=run_id, status__in=row.sources)
        run = _updated(ready, row_version=F("row_version") + 1, **values)
        if run is None:
            return None
        event = Event.objects.create(run=run, attempt=run.attempt, kind=name, message=message, data=data)
        outbox.run_changed(run, event)
        wake_for(run)
        if name in ENDINGS:
            release.tell_followers(run)
    return run


def _updated(found: QuerySet[Run], **values: Any) -> Run | None:
    """Update the one row that is found and read it as it is then, in one statement, which Django has no call for."""
    query: UpdateQuery = found.query.chain(UpdateQuery)  # type: ignore[assignment]
    query.add_update_values(values)
    statement, parameters = query.get_compiler(found.db).as_sql()
    return next(iter(Run.objects.raw(f"{statement} RETURNING *", parameters)), None)


def wake_for(run: Run) -> None:
    """Wake a worker on commit if it could take the run."""
    if run.status == S.QUEUED and not run.waits_for:
        transaction.on_commit(partial(wake, run.queue))
