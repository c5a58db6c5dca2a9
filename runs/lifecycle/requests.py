"""What people ask of a run: to begin, wait, stop, go on, go."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from runs.lifecycle.changes import CHANGES, D, NotAllowed, S, change, wake_for
from runs.models import Event, Run
from runs.queueing import release
from webapp.accounts.models import User

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
        told = f"Queued{_by(by)}{release.in_order_to_wait(run)}."
        Event.objects.create(run=run, kind="submitted", message=told)
        wake_for(run)
    return run


def request_cancel(run_id: int, by: User | None) -> Run:
    """End a run that waits, or ask its worker to stop it; asking twice is asking once."""
    for _ in range(3):  # it may be claimed, or lost, between two statements
        if run := change("cancelled", run_id, f"Cancelled{_by(by)}."):
            return run
        if run := change(
            "cancel_requested", run_id, f"Cancel requested{_by(by)}.", where=~Q(desired=D.CANCEL)
        ):
            return run
        if run := Run.objects.filter(pk=run_id, status=S.RUNNING, desired=D.CANCEL).first():
            return run
    raise _refusal(run_id, "cancelled", "Only a run that waits, runs or is paused can be.")


def request_pause(run_id: int, by: User | None) -> Run:
    """Hold back a run that waits, or ask its worker to save it and stop. A cancel asked for before stands."""
    for _ in range(3):
        if run := change("held", run_id, f"Paused{_by(by)} before it started."):
            return run
        if run := change("pause_requested", run_id, f"Pause requested{_by(by)}.", where=Q(desired=D.GO_ON)):
            return run
        if run := Run.objects.filter(pk=run_id, status=S.RUNNING, desired=D.PAUSE).first():
            return run
    raise _refusal(run_id, "paused", "Only a run that waits or runs, and is not being cancelled, can be.")


def resume(run_id: int, by: User | None) -> Run:
    """Put a paused run back in the queue. The attempt that was paused does not count as a failed one."""
    run = change(
        "resumed",
        run_id,
        f"Queued again{_by(by)}, to go on.",
        queued_at=Now(),
        rank=F("priority"),
        attempts_allowed=F("attempts_allowed") + 1,
    )
    if run is None:
        raise _refusal(run_id, "resumed", "Only a paused run can be.")
    return run


def retry(run_id: int, by: User | None) -> Run:
    """Put a failed or cancelled run back in the queue, to go on from its last checkpoint if it has one."""
    run = change(
        "retried",
        run_id,
        f"Queued again{_by(by)}, for another try.",
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
        changed = change(
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
    run = change(
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
    run = change(
        "freed",
        run_id,
        f"Told{_by(by)} to start without waiting.",
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
