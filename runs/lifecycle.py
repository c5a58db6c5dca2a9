"""The only place where a run changes state.

Each change is one compare-and-set UPDATE that names the states it may start from, with its Event in
the same transaction; what follows from it (waking a worker) happens on commit. A change that is not
allowed raises; it is never ignored.

Two rows are locked, always in this order: the attempt, then its run. What the worker that holds an
attempt does is fenced by the attempt: once `finished_at` is set, by whoever, it may write no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now

from runs.execution import capacity
from runs.execution.admission import takes_runs
from runs.execution.messages import queue_of, wake
from runs.logs import last_lines
from runs.models import Attempt, Event, Node, Run, Worker
from runs.notifications import outbox
from runs.queueing import choice, release, routing, usage
from webapp.accounts.models import User

S = Run.Status
D = Run.Desired
W = Run.WaitsFor
# A run that a person sends into the queue again: to its end, with its time limit counted from now on.
AFRESH: dict[str, Any] = {
    "queued_at": Now(),
    "started_at": None,  # the time in between is no part of how long it takes
    "waits_for": W.NOTHING,
    "rank": F("priority"),
    "limit_counts_after": F("attempt"),
}
HAS_DATA = Q(dataset_version__isnull=False)


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
# What becomes of a run whose attempt ended before the training did, by what the user wants of it.
LEAVING = {D.CANCEL: "stopped", D.PAUSE: "paused"}


def _change(name: str, run_id: int, message: str, *, where: Q | None = None, **values: Any) -> Run | None:
    """Make a change of the table if the run is in a state for it; None, and nothing done, if not."""
    change = CHANGES[name]
    data = values.pop("data", {})
    if change.target == S.QUEUED and change.sources != (S.QUEUED,):
        values |= {"phase": "", "eta_seconds": None, "rate": None, "finished_at": None, "failure": {}}
    elif change.target == S.PAUSED:
        values |= {"phase": "", "eta_seconds": None, "rate": None}
    elif change.target not in {S.RUNNING, S.QUEUED, None}:  # it is over
        values |= {"phase": "", "eta_seconds": None, "finished_at": Now()}
    if change.target is not None:
        values |= {"status": change.target, "desired": change.desired}
    with transaction.atomic(savepoint=False):  # there is nothing to save: an error ends it all
        changed = Run.objects.filter(where or Q(), pk=run_id, status__in=change.sources).update(
            row_version=F("row_version") + 1, **values
        )
        if not changed:
            return None
        run: Run = Run.objects.get(pk=run_id)
        event = Event.objects.create(run=run, attempt=run.attempt, kind=name, message=message, data=data)
        outbox.run_changed(run, event)
        if run.status == S.QUEUED and not run.waits_for:
            transaction.on_commit(partial(wake, run.queue))
        if name in ENDINGS:
            release.tell_followers(run)
    return run


# -- asked for by people --------------------------------------------------------------------------
def _by(user: User | None) -> str:
    return f" by {user.get_username()}" if user is not None else ""


def _refusal(run_id: int, verb: str, allowed: str) -> NotAllowed:
    run = Run.objects.filter(pk=run_id).first()
    if run is None:
        return NotAllowed(f"This run cannot be {verb}: it has been deleted.")
    if run.dataset_version_id is None and verb in {"tried again", "extended"}:
        return NotAllowed(f"This run cannot be {verb}: its dataset “{run.dataset_name}” has been deleted.")
    return NotAllowed(f"This run cannot be {verb}: it is {run.get_status_display().lower()}. {allowed}")


def submit(run: Run, by: User | None) -> Run:
    """Save a new run as queued and wake a worker for it on commit."""
    if run.pk is not None:
        raise NotAllowed("This run has been submitted before.")
    run.status, run.desired, run.attempt, run.rank = S.QUEUED, D.GO_ON, 0, run.priority
    if run.created_by is None:
        run.created_by = by
    with transaction.atomic():
        if run.after_id is not None:  # it cannot end between this look and our insert
            run.after = Run.objects.select_for_update(of=("self",)).filter(pk=run.after_id).first()
            if run.after is None:
                raise NotAllowed("The run that this one was to follow has been deleted meanwhile.")
        run.waits_for = release.waits_for(run)
        run.save(force_insert=True)
        told = f"Submitted{_by(by)}{release.in_order_to_wait(run)}."
        Event.objects.create(run=run, kind="submitted", message=told)
        if not run.waits_for:
            transaction.on_commit(partial(wake, run.queue))
    return run


def request_cancel(run_id: int, by: User | None) -> Run:
    """End a run that waits, or ask its worker to stop it; asking twice is asking once."""
    for _ in range(3):  # it may be claimed, or lost, between two statements
        if run := _change("cancelled", run_id, f"Cancelled{_by(by)}."):
            return run
        if run := _change(
            "cancel_requested", run_id, f"Asked to cancel{_by(by)}.", where=~Q(desired=D.CANCEL)
        ):
            return run
        if run := Run.objects.filter(pk=run_id, status=S.RUNNING, desired=D.CANCEL).first():
            return run
    raise _refusal(run_id, "cancelled", "Only a run that waits, runs or is paused can be.")


def request_pause(run_id: int, by: User | None) -> Run:
    """Hold back a run that waits, or ask its worker to save it and stop. A cancel asked for before stands."""
    for _ in range(3):
        if run := _change("held", run_id, f"Paused{_by(by)} before it started."):
            return run
        if run := _change("pause_requested", run_id, f"Asked to pause{_by(by)}.", where=Q(desired=D.GO_ON)):
            return run
        if run := Run.objects.filter(pk=run_id, status=S.RUNNING, desired=D.PAUSE).first():
            return run
    raise _refusal(run_id, "paused", "Only a run that waits or runs, and is not being cancelled, can be.")


def resume(run_id: int, by: User | None) -> Run:
    """Put a paused run back in the queue. The attempt that was paused does not count as a failed one."""
    run = _change(
        "resumed",
        run_id,
        f"Resumed{_by(by)}.",
        queued_at=Now(),
        rank=F("priority"),
        attempts_allowed=F("attempts_allowed") + 1,
    )
    if run is None:
        raise _refusal(run_id, "resumed", "Only a paused run can be.")
    return run


def retry(run_id: int, by: User | None) -> Run:
    """Put a failed or cancelled run back in the queue, to go on from its last checkpoint if it has one."""
    run = _change(
        "retried",
        run_id,
        f"Tried again{_by(by)}.",
        where=HAS_DATA,
        **AFRESH,
        attempts_allowed=F("attempt") + settings.MAX_ATTEMPTS,
    )
    if run is None:
        raise _refusal(run_id, "tried again", "Only a failed or cancelled run can be.")
    return run


def extend(run_id: int, by: User | None, name: str, value: float, title: str) -> Run:
    """Have a run go on from its last state to more epochs or steps: the setting `name` becomes `value`.

    Its files stay until the longer training replaces them. runs/extending.py checks what may be asked for.
    """
    with transaction.atomic():
        run = Run.objects.select_for_update(of=("self",)).filter(pk=run_id).first()
        if run is None or run.status not in CHANGES["extended"].sources:
            raise _refusal(run_id, "extended", "Only one that is over or paused can be.")
        if run.dataset_version_id is None:
            raise _refusal(run_id, "extended", "")
        if not run.checkpoints.exists():
            raise NotAllowed("This run cannot be extended: no checkpoint of it is in storage to go on from.")
        changed = _change(
            "extended",
            run_id,
            f"Extended{_by(by)} to {title}.",
            data={name: value},
            **AFRESH,
            attempts_allowed=F("attempt") + settings.MAX_ATTEMPTS,
            settings={**run.settings, name: value},
        )
        assert changed is not None  # its row is locked
        return changed


def prioritise(run_id: int, by: User | None, priority: int) -> Run:
    """Change the place of a run that waits or is paused among the others."""
    chosen = Run.Priority(priority)
    run = _change(
        "prioritised",
        run_id,
        f"Given {chosen.label.lower()} priority{_by(by)}.",
        priority=chosen,
        rank=chosen,
    )
    if run is None:
        raise _refusal(run_id, "given another priority", "Only a run that waits or is paused can be.")
    return run


def start_now(run_id: int, by: User | None) -> Run:
    """Have a run wait no longer for its time or for another run, but only for a worker."""
    run = _change(
        "freed",
        run_id,
        f"To start without waiting{_by(by)}.",
        where=~Q(waits_for=W.NOTHING),
        waits_for=W.NOTHING,
    )
    if run is None:
        raise _refusal(run_id, "started", "Only one that waits for its time or for another run can be.")
    return run


def delete(run_id: int) -> None:
    """Remove a run with all its rows, unless a worker has it. Its files: runs/housekeeping/deleting.py."""
    with transaction.atomic():
        run = Run.objects.select_for_update().filter(pk=run_id).exclude(status=S.RUNNING).first()
        if run is None:
            raise _refusal(run_id, "deleted", "Cancel it first.")
        run.delete()


# -- done by workers and the dispatcher ------------------------------------------------------------
def claim(worker: Worker, queues: Iterable[str], devices: Sequence[int] | None = None) -> Attempt | None:
    """Take the run that is next for this worker (runs/queueing/choice.py), with a lease; None if none is.

    A run on several hosts begins on all of them, led by this worker, or is passed over.
    `queues`: what the caller can hold at this moment. `devices`: the indexes of the GPUs that it would give.
    """
    release.release_due()
    offers = routing.offers(worker, queues, devices)
    passed_over: list[int] = []
    with transaction.atomic():
        choice.take_turn()
        if capacity.promised(worker) or not takes_runs(worker):
            return None
        while (run_id := choice.next_run(offers, passed_over)) is not None:
            locked = choice.lock(run_id)
            if locked is not None:  # or else somebody is changing it at this moment
                now, nodes = locked
                others = capacity.others_for(run_id, worker) if nodes > 1 else []
                if others is not None:
                    return _begin(run_id, worker, others, now)
            passed_over.append(run_id)
    return None


def _begin(run_id: int, worker: Worker, others: Sequence[Worker], now: datetime) -> Attempt:
    """Start an attempt of a queued run whose row the caller has locked, with a lease on each host.

    `worker` leads it. The `others` hear of their part, if they do not look by themselves before.
    """
    lease_until = now + timedelta(seconds=settings.LEASE_SECONDS)
    with transaction.atomic(savepoint=False):
        run = _change(
            "started",
            run_id,
            f"Started on {', '.join(each.host for each in (worker, *others))}.",
            data={"worker": worker.name, "workers": [each.name for each in (worker, *others)]},
            attempt=F("attempt") + 1,
            phase="preparing",
            started_at=Coalesce(F("started_at"), Now()),
        )
        assert run is not None  # its row is locked
        attempt = Attempt.objects.create(
            run=run, number=run.attempt, worker=worker, started_at=now, lease_until=lease_until
        )
        for rank, other in enumerate(others, 1):
            Node.objects.create(attempt=attempt, rank=rank, worker=other, lease_until=lease_until)
            transaction.on_commit(partial(wake, queue_of(other)))
        return attempt


def hold(attempt: Attempt) -> Attempt:
    """Lock the attempt's row for this transaction; raises LeaseLost unless it is still under way."""
    held = Attempt.objects.select_for_update().filter(pk=attempt.pk, finished_at=None).first()
    if held is None:
        raise LeaseLost(f"attempt {attempt.number} of run {attempt.run_id} is over or somebody else's")
    return held


def _end(attempt: Attempt, outcome: str) -> None:
    """Close the attempt, which fences its worker; raises LeaseLost if it is closed already."""
    if not Attempt.objects.filter(pk=attempt.pk, finished_at=None).update(finished_at=Now(), outcome=outcome):
        raise LeaseLost(f"attempt {attempt.number} of run {attempt.run_id} is over or somebody else's")


def _end_with(attempt: Attempt, outcome: str, name: str, message: str, **values: Any) -> Run:
    with transaction.atomic():
        _end(attempt, outcome)
        run = _change(name, attempt.run_id, message, where=Q(attempt=attempt.number), **values)
        if run is None:
            raise LeaseLost(f"run {attempt.run_id} is no longer running attempt {attempt.number}")
        usage.add(attempt)
        return run


def succeed(attempt: Attempt, metrics: dict[str, float]) -> Run:
    """The attempt has trained, and everything that it made is stored. `metrics` join the newest ones."""
    with transaction.atomic():
        hold(attempt)
        newest = Run.objects.values_list("metrics", flat=True).get(pk=attempt.run_id)
        return _end_with(attempt, "succeeded", "succeeded", "Succeeded.", metrics={**newest, **metrics})


def fail(attempt: Attempt, failure: dict[str, Any]) -> Run:
    """The attempt has shown that this run cannot succeed as it is: {code, message, hint, log_tail}."""
    data = {"code": failure["code"]}
    return _end_with(attempt, "failed", "failed", failure["message"], failure=failure, data=data)


def leave(attempt: Attempt, message: str = "") -> Run:
    """The trainer was stopped as asked: cancelled or paused, as the user wants; else back to the queue."""
    with transaction.atomic():
        hold(attempt)
        desired = (
            Run.objects.select_for_update().values_list("desired", flat=True).filter(pk=attempt.run_id)
        ).first()
        if desired == D.CANCEL:
            return _end_with(attempt, "cancelled", "stopped", message or "Cancelled.")
        if desired == D.PAUSE:
            return _end_with(attempt, "paused", "paused", message or "Paused.")
        # Nobody wanted it to end: its worker is shutting down. That is no failed attempt.
        return _end_with(
            attempt,
            "released",
            "released",
            message or "The worker is shutting down; the run goes back to the queue.",
            attempts_allowed=F("attempts_allowed") + 1,
        )


def lose(attempt: Attempt, failure: dict[str, Any]) -> Run:
    """The attempt died through no known fault of the run: try again if attempts are left, else fail.

    What the user had asked for meanwhile is done instead: nothing runs that could be stopped.
    The run keeps its place in the queue.
    """
    with transaction.atomic():
        hold(attempt)
        run = Run.objects.select_for_update().filter(pk=attempt.run_id, attempt=attempt.number).first()
        if run is None:
            raise LeaseLost(f"run {attempt.run_id} is no longer running attempt {attempt.number}")
        if name := LEAVING.get(D(run.desired)):
            target = CHANGES[name].target
            assert target is not None
            return _end_with(attempt, str(target), name, f"{target.label}. {failure['message']}")
        if run.attempt < run.attempts_allowed:
            message = (
                f"{failure['message']} Trying again: attempt {run.attempt + 1} of {run.attempts_allowed}."
            )
            return _end_with(attempt, "lost", "lost", message, data={"code": failure["code"]})
        return fail(attempt, failure)


def lose_expired(attempt_id: int) -> Run | None:
    """As `lose`, for an attempt whose worker has let its lease expire; None if it is alive after all."""
    with transaction.atomic():
        # One that is locked beats or ends right now, or its worker froze in a transaction: the next round looks.
        expired = Attempt.objects.select_for_update(skip_locked=True, of=("self",)).select_related("worker")
        attempt = expired.filter(pk=attempt_id, finished_at=None, lease_until__lt=Now()).first()
        return lose(attempt, worker_lost(attempt)) if attempt is not None else None


def worker_lost(attempt: Attempt) -> dict[str, Any]:
    """The failure of an attempt whose worker is gone."""
    where = f" on {attempt.worker.host}" if attempt.worker else ""
    return {
        "code": "worker_lost",
        "message": f"The worker{where} was lost: it stopped answering.",
        "hint": "See whether that host was restarted or ran out of memory, then try the run again: "
        "it goes on from its last checkpoint.",
        "log_tail": last_lines(attempt, 50),
    }
