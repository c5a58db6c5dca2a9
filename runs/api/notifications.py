"""Notifications over HTTP: one's own channels, and what was sent through them. Viewers have theirs too."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Field, Query, Router, Schema
from pydantic import ConfigDict

from runs.models import Channel, Delivery
from runs.notifications import channels, messages, outbox
from runs.notifications.channels import ChannelError
from webapp.api import ERRORS, MOST_ROWS, ApiError

router = Router(tags=["notifications"])
USUAL = [str(item) for item in Channel.USUAL]


class ChannelIn(Schema):
    """A way to be told: `webhook` with its `url`, `email` to the profile's address, or `browser`."""

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(description="webhook, email or browser")
    url: str = Field("", description="of a webhook")
    name: str = Field("", max_length=100)
    happenings: list[str] = Field(
        USUAL, description="succeeded, failed, diverged, stalled, recovered, cancelled"
    )
    scope: str = Field("mine", description="mine or workspace")
    stall_minutes: int | None = Field(None, description="the deployment's limit if left out")
    enabled: bool = True


class ChannelOut(Schema):
    id: int
    kind: str
    name: str
    url: str
    happenings: list[str]
    scope: str
    stall_minutes: int | None
    enabled: bool
    failing_since: datetime | None
    last_error: str
    switched_off: str
    created_at: datetime


class NewChannelOut(ChannelOut):
    """`secret` is what a webhook's messages are signed with. It is in this answer and in no other."""

    secret: str | None


class DeliveryOut(Schema):
    """A message. `status` is pending, sent or failed (given up); `id` inside a webhook is `message_id`."""

    id: int
    message_id: str
    channel: int
    type: str
    run: int | None
    title: str
    text: str
    status: str
    attempts: int
    next_attempt_at: datetime | None
    response_status: int | None
    last_error: str
    created_at: datetime
    sent_at: datetime | None
    read_at: datetime | None


class DeliveryPageOut(Schema):
    items: list[DeliveryOut]
    count: int


def _mine(request: Any) -> Any:
    token = request.auth
    return Channel.objects.filter(user=token.user, workspace=token.workspace).select_related("workspace")


def _channel_out(channel: Channel) -> dict[str, Any]:
    plain = {name: getattr(channel, name) for name in ChannelOut.model_fields if name not in {"id", "url"}}
    return {"id": channel.pk, "url": channels.url_of(channel), **plain}


def _delivery_out(delivery: Delivery) -> dict[str, Any]:
    pending = delivery.status == Delivery.Status.PENDING
    own = {"id", "message_id", "channel", "run", "next_attempt_at"}
    plain = {name: getattr(delivery, name) for name in DeliveryOut.model_fields if name not in own}
    return {
        "id": delivery.pk,
        "message_id": messages.webhook_id(delivery),
        "channel": delivery.channel_id,
        "run": delivery.run_id,
        "next_attempt_at": delivery.next_attempt_at if pending else None,
        **plain,
    }


@router.get("/channels", response={200: list[ChannelOut], **ERRORS}, summary="List your channels")
def list_channels(request: HttpRequest) -> Any:
    """The ways by which you are told, in the token's workspace. Nobody sees those of others."""
    return [_channel_out(channel) for channel in _mine(request)]


@router.post("/channels", response={201: NewChannelOut, **ERRORS}, summary="Add a channel")
def add_channel(request: HttpRequest, payload: ChannelIn) -> Any:
    """For `email` and `browser`, of which there is one each, it sets the one that is there."""
    token: Any = request.auth  # type: ignore[attr-defined]
    choices: dict[str, Any] = payload.dict(include={"happenings", "scope", "stall_minutes", "enabled"})
    secret = None
    try:
        if payload.kind == Channel.Kind.WEBHOOK:
            channel, secret = channels.add_webhook(
                token.user, token.workspace, name=payload.name, url=payload.url, **choices
            )
        elif payload.kind == Channel.Kind.EMAIL:
            channel = channels.add_email(token.user, token.workspace, **choices)
        elif payload.kind == Channel.Kind.BROWSER:
            own = outbox.ensure_own(token.user.pk, token.workspace.pk)
            assert own is not None  # a token counts for members alone
            channel = channels.save(own, **choices)
        else:
            raise ChannelError({"kind": f"It is one of: {', '.join(Channel.Kind.values)}."})
    except ChannelError as refused:
        raise ApiError(422, "invalid", str(refused), refused.fields) from refused
    return 201, {**_channel_out(channel), "secret": secret}


@router.get("/channels/{int:channel_id}", response={200: ChannelOut, **ERRORS}, summary="One channel")
def one_channel(request: HttpRequest, channel_id: int) -> Any:
    """Whether it works: `failing_since`, `last_error`, and why it was `switched_off`."""
    return _channel_out(get_object_or_404(_mine(request), pk=channel_id))


@router.delete("/channels/{int:channel_id}", response={204: None, **ERRORS}, summary="Remove a channel")
def delete_channel(request: HttpRequest, channel_id: int) -> Any:
    """With what was sent through it. That in Tuneboard itself comes back, as it usually is, with your next run."""
    get_object_or_404(_mine(request), pk=channel_id).delete()
    return 204, None


@router.post("/channels/{int:channel_id}/test", response={202: DeliveryOut, **ERRORS}, summary="Send a test")
def test_channel(request: HttpRequest, channel_id: int) -> Any:
    """Sent within seconds; ask for its deliveries to see what came of it."""
    delivery = outbox.send_test(get_object_or_404(_mine(request), pk=channel_id))
    delivery.refresh_from_db()
    return 202, _delivery_out(delivery)


@router.get("/deliveries", response={200: DeliveryPageOut, **ERRORS}, summary="List what was sent to you")
def list_deliveries(
    request: HttpRequest,
    channel: int | None = None,
    status: str = Query("", description="pending, sent or failed"),  # type: ignore[type-arg]
    limit: int = Query(50, ge=1, le=200),  # type: ignore[type-arg]
    offset: int = Query(0, ge=0, le=MOST_ROWS),  # type: ignore[type-arg]
) -> Any:
    """Newest first; kept for 90 days."""
    mine = _mine(request)
    if channel is not None:
        mine = mine.filter(pk=get_object_or_404(mine, pk=channel).pk)
    found = Delivery.objects.filter(channel__in=mine.values("pk"))
    if status:
        if status not in Delivery.Status.values:
            known = ", ".join(Delivery.Status.values)
            raise ApiError(422, "invalid", f"status is one of: {known}", {"status": f"one of: {known}"})
        found = found.filter(status=status)
    page = found.order_by("-pk")[offset : offset + limit]
    return {"items": [_delivery_out(delivery) for delivery in page], "count": found.count()}


@router.post(
    "/deliveries/{int:delivery_id}/send", response={202: DeliveryOut, **ERRORS}, summary="Send it again"
)
def send_again(request: HttpRequest, delivery_id: int) -> Any:
    """With the same message id. 409 while it still waits, or in Tuneboard itself."""
    found = Delivery.objects.filter(channel__in=_mine(request).values("pk"))
    delivery = get_object_or_404(found, pk=delivery_id)
    if not outbox.send_again(delivery):
        raise ApiError(409, "not_allowed", "It waits to be sent already, or there is nothing to send.")
    delivery.refresh_from_db()
    return 202, _delivery_out(delivery)
