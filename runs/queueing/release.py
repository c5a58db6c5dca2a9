"""What a run may have to wait for besides a worker: its time, or the success of another run.

Whoever notices releases it: the change that ends the other run, the dispatcher, a worker that looks for a run.
Each change is one compare-and-set of runs/lifecycle/, so noticing twice releases once.
"""

from __future__ import annotations

from datetime import timedelta

from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from runs.lifecycle import changes
from runs.models import Run
from runs.models.run import READY
from webapp import clock

W = Run.WaitsFor
WAITING = (Run.Status.QUEUED, Run.Status.PAUSED)
PATIENCE_SECONDS = 12 * 3600
MOST_AT_ONCE = 200  # rows a round: no duty takes so long that others wait for it


def waits_for(run: Run) -> Run.WaitsFor:
    """What a run that is queued now has to wait for."""
    if run.after is not None and run.after.status != Run.Status.SUCCEEDED:
        return W.RUN
    return W.TIME if run.not_before is not None and run.not_before > clock.now() else W.NOTHING


def in_order_to_wait(run: Run) -> str:
    """The end of the sentence that says that it was queued."""
    if run.waits_for == W.RUN and run.after is not None:
        return f", to start once “{run.after.name}” has succeeded"
    if run.waits_for == W.TIME and run.not_before is not None:
        return f", to start at {moment(run)}"
    return ""


def moment(run: Run) -> str:
    """When it may start, in the server's time zone, which is named: `24 Nov 2026, 18:00 UTC`."""
    assert run.not_before is not None
    local = timezone.localtime(run.not_before)
    return f"{local.day} {local:%b %Y, %H:%M %Z}"


def release_due() -> int:
    """Let runs whose time has come start; returns how many. One look at an index if there are none."""
    still = Q(waits_for=W.TIME, not_before__lte=Now())
    due = Run.objects.filter(still, status=Run.Status.QUEUED).order_by("not_before")
    found = list(due.values_list("pk", flat=True)[:MOST_AT_ONCE])
    told = "Its time to start has come."
    return sum(changes.change("due", pk, told, where=still, waits_for=W.NOTHING) is not None for pk in found)


def release_followers() -> int:
    """Let runs start that still wait for one that has succeeded: a second net below `tell_followers`."""
    left = Run.objects.filter(status__in=WAITING, waits_for=W.RUN, after__status=Run.Status.SUCCEEDED)
    return sum(_follow(run) is not None for run in left.select_related("after")[:MOST_AT_ONCE])


def move_up() -> int:
    """Raise the rank of runs that have waited for long, so that none waits for ever behind higher priorities."""
    patience = timedelta(seconds=PATIENCE_SECONDS)
    # One rank above its priority for each PATIENCE_SECONDS in the queue.
    patient = Q(queued_at__lt=Now() - patience, rank__lte=F("priority"))
    patient |= Q(queued_at__lt=Now() - 2 * patience, rank__lte=F("priority") + 1)
    waiting = Run.objects.filter(patient, READY, rank__lt=Run.Priority.HIGH, queued_at__lt=Now() - patience)
    told = f"Moved up a priority after {PATIENCE_SECONDS // 3600} hours in the queue."
    found = list(waiting.order_by("queued_at").values_list("pk", flat=True)[:MOST_AT_ONCE])
    still = patient & READY & Q(rank__lt=Run.Priority.HIGH)
    return sum(
        changes.change("moved_up", pk, told, where=still, rank=F("rank") + 1) is not None for pk in found
    )


def tell_followers(run: Run) -> None:
    """In the transaction of a run's change: those that wait for it may start, or learn why they may not."""
    followers = Run.objects.filter(after=run, waits_for=W.RUN, status__in=WAITING)
    for follower in followers.order_by("pk"):
        follower.after = run
        if run.status == Run.Status.SUCCEEDED:
            _follow(follower)
            continue
        news = {Run.Status.FAILED: "has failed", Run.Status.CANCELLED: "has been cancelled"}
        told = (
            f"“{run.name}”, which this run waits for, {news.get(Run.Status(run.status), 'is queued again')}."
        )
        changes.change("left_behind", follower.pk, told, where=Q(waits_for=W.RUN), data={"run": run.pk})


def _follow(run: Run) -> Run | None:
    assert run.after is not None
    told = f"“{run.after.name}”, which this run waited for, has succeeded."
    still = Q(waits_for=W.RUN, after=run.after)
    return changes.change("followed", run.pk, told, where=still, waits_for=waits_for(run), queued_at=Now())
