"""What becomes of a run by the worker that holds an attempt of it, or by the dispatcher once its lease has expired."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce, Now

from runs.execution import capacity
from runs.execution.admission import may_claim
from runs.execution.messages import queue_of, wake
from runs.lifecycle.changes import CHANGES, D, LeaseLost, change
from runs.logs import last_lines
from runs.models import Attempt, Node, Run, Worker
from runs.queueing import choice, release, routing, usage

# What becomes of a run whose attempt ended before the training did, by what the user wants of it.
LEAVING = {D.CANCEL: "stopped", D.PAUSE: "paused"}


def claim(worker: Worker, queues: Iterable[str], devices: Sequence[int] | None = None) -> Attempt | None:
    """Take the run that is next for this worker (runs/queueing/choice.py), with a lease; None if none is.

    A run on several hosts begins on all of them, led by this worker, or is passed over.
    `queues`: what the caller can hold at this moment. `devices`: the indexes of the GPUs that it would give.
    """
    offers = routing.offers(worker, queues, devices)
    with transaction.atomic():
        if not choice.take_turn():
            return _take(worker, offers)
    release.release_due()  # not while the others wait for their turn
    with transaction.atomic():
        choice.take_turn()
        return _take(worker, offers)


def _take(worker: Worker, offers: Mapping[str, int | None]) -> Attempt | None:
    if not may_claim(worker):
        return None
    passed_over: list[int] = []
    while (found := choice.next_run(offers, passed_over)) is not None:
        run_id, locked = found
        if locked is not None:  # or else somebody is changing it at this moment
            others = capacity.others_for(run_id, worker) if locked.nodes > 1 else []
            if others is not None:
                return _begin(run_id, worker, others, locked.at, locked.attempt + 1)
        passed_over.append(run_id)
    return None


def _begin(run_id: int, worker: Worker, others: Sequence[Worker], now: datetime, number: int) -> Attempt:
    """Start an attempt of a queued run whose row the caller has locked, with a lease on each host.

    `worker` leads it. The `others` hear of their part, if they do not look by themselves before.
    """
    lease_until = now + timedelta(seconds=settings.LEASE_SECONDS)
    with transaction.atomic(savepoint=False):
        run = change(
            "started",
            run_id,
            _started_on([worker.host, *(each.host for each in others)], number),
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


def _started_on(hosts: list[str], attempt: int) -> str:
    *most, last = hosts
    where = f"hosts {', '.join(most)} and {last}" if most else f"host {last}"
    return f"Started on {where}{f' (attempt {attempt})' if attempt > 1 else ''}."


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
        run = change(name, attempt.run_id, message, where=Q(attempt=attempt.number), **values)
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
            message or "Queued again: its worker is shutting down.",
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
        capacity.count_out(attempt)
        if name := LEAVING.get(D(run.desired)):
            target = CHANGES[name].target
            assert target is not None
            return _end_with(
                attempt,
                str(target),
                name,
                f"{failure['message'].rstrip('.')}; {target.label.lower()}, as was asked.",
            )
        if run.attempt < run.attempts_allowed:
            message = (
                f"{failure['message'].rstrip('.')}; queued again for attempt {run.attempt + 1} "
                f"of {run.attempts_allowed}."
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
    host = f"Host {attempt.worker.host}" if attempt.worker else "Its host"
    return {
        "code": "worker_lost",
        "message": f"{host} was lost: it stopped answering.",
        "hint": "See whether that host was restarted or ran out of memory, then try the run again: "
        "it goes on from its last checkpoint.",
        "log_tail": last_lines(attempt, 50),
    }
