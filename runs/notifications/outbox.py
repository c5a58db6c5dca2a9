"""Who is told of what: rows for the channels that want it, written with what they tell of.

The rows are made in the caller's transaction. What happened and that it will be told are one fact: a process that dies
takes neither or both with it, and a change that is rolled back is told to nobody.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db.models import F, Q
from django.db.models.functions import Now

from runs.models import Channel, Delivery, Event, Run
from runs.notifications import messages
from webapp.accounts.models import Membership

H = Channel.Happening
# Changes of runs/lifecycle/ that are worth telling.
TOLD = {"succeeded": H.SUCCEEDED, "failed": H.FAILED, "cancelled": H.CANCELLED, "stopped": H.CANCELLED}
NAMESPACE = uuid.UUID("6f0d3c1e-7a51-4a0c-9b7e-2f5f1c8f4d11")


def run_changed(run: Run, event: Event) -> None:
    """Called by lifecycle for every change, inside its transaction; nearly all are of no interest."""
    happening = TOLD.get(event.kind)
    if happening is None:
        return
    if happening == H.FAILED and run.failure.get("code") == "diverged":
        happening = H.DIVERGED
    tell(run, happening, event.message, event=event)


def tell(
    run: Run,
    happening: str,
    told: str,
    *,
    event: Event | None = None,
    channels: Iterable[Channel] | None = None,
    since: datetime | None = None,
) -> int:
    """Write a message for each channel that wants it; how many.

    With `since` the message's id follows from channel, run and that moment: told twice, it is told once.
    """
    wanted = [
        (channel, kind)
        for channel in (listeners(run) if channels is None else channels)
        if (kind := _as_wanted(channel, happening))
    ]
    if not wanted:
        return 0
    composed = {kind: messages.of_run(run, kind, told) for kind in {kind for _, kind in wanted}}
    rows = [
        _row(
            channel, f"run.{kind}", composed[kind], run=run, event=event, key=_key(channel, run, kind, since)
        )
        for channel, kind in wanted
    ]
    Delivery.objects.bulk_create(rows, ignore_conflicts=True)
    return len(rows)


def _as_wanted(channel: Channel, happening: str) -> str | None:
    """What to call it for this channel; None if it does not want to know. A run that diverges also fails."""
    if happening in channel.happenings:
        return happening
    if happening == H.DIVERGED and H.FAILED in channel.happenings:
        return str(H.FAILED)
    return None


def listeners(run: Run) -> list[Channel]:
    """The channels that are on for this run, of people who may see it. Its owner has one from the first run on."""
    if run.created_by_id is not None:
        ensure_own(run.created_by_id, run.workspace_id)
    mine_or_all = Q(scope=Channel.Scope.WORKSPACE) | Q(user_id=run.created_by_id)
    return list(
        Channel.objects.filter(mine_or_all, workspace_id=run.workspace_id, enabled=True)
        .filter(user__is_active=True, user__memberships__workspace_id=F("workspace_id"))
        .select_related("workspace")
    )


def ensure_own(user_id: int, workspace_id: int) -> Channel | None:
    """A member's channel in Tuneboard itself, made with the usual choices at its first use; None for others."""
    own = Channel.objects.filter(user_id=user_id, workspace_id=workspace_id, kind=Channel.Kind.BROWSER)
    if found := own.first():
        return found
    if not Membership.objects.filter(user_id=user_id, workspace_id=workspace_id).exists():
        return None
    made = Channel(
        user_id=user_id,
        workspace_id=workspace_id,
        kind=Channel.Kind.BROWSER,
        happenings=[str(item) for item in Channel.USUAL],
    )
    Channel.objects.bulk_create([made], ignore_conflicts=True)  # two at once make one
    return own.first()


def _key(channel: Channel, run: Run, kind: str, since: datetime | None) -> uuid.UUID:
    return stall_key(channel.pk, run.pk, kind, since) if since is not None else uuid.uuid4()


def stall_key(channel_id: int, run_id: int, kind: str, since: datetime) -> uuid.UUID:
    """The id of what a channel is told of a stall that began at `since`."""
    return uuid.uuid5(NAMESPACE, f"{channel_id}:{run_id}:{kind}:{since.isoformat()}")


def _row(channel: Channel, type: str, message: dict[str, Any], **values: Any) -> Delivery:
    in_app = channel.kind == Channel.Kind.BROWSER
    if in_app:  # it is delivered by standing there
        values |= {"status": Delivery.Status.SENT, "sent_at": Now()}
    return Delivery(
        channel=channel, user_id=channel.user_id, in_app=in_app, type=type, message=message, **values
    )


def send_test(channel: Channel) -> Delivery:
    """A message that says only that it has arrived; sent even if the channel is switched off."""
    row = _row(channel, "test", messages.of_test(channel))
    row.save()
    return row


def send_again(delivery: Delivery) -> bool:
    """Start over with a message that was sent or given up; False while it still waits, or in Tuneboard itself."""
    return bool(
        Delivery.objects.filter(pk=delivery.pk, in_app=False)
        .exclude(status=Delivery.Status.PENDING)
        .update(
            status=Delivery.Status.PENDING,
            attempts=0,
            next_attempt_at=Now(),
            claimed_until=None,
            last_error="",
            response_status=None,
            sent_at=None,
        )
    )


def switched_off(channel: Channel) -> None:
    """Tell the person by their other ways that this one is off."""
    ensure_own(channel.user_id, channel.workspace_id)
    others = Channel.objects.filter(user_id=channel.user_id, workspace_id=channel.workspace_id).exclude(
        pk=channel.pk
    )
    others = others.filter(Q(kind=Channel.Kind.BROWSER) | Q(kind=Channel.Kind.EMAIL, enabled=True))
    message = messages.of_switching_off(channel)
    Delivery.objects.bulk_create([_row(other, "channel.switched_off", message) for other in others])
