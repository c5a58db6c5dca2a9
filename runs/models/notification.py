"""Who wants to be told of what, by which way; and each message that has been, or is still to be, sent."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from runs.models.reports import Event
from runs.models.run import Run
from webapp.accounts.models import Workspace


class Channel(models.Model):
    """One way to tell one person what happens in one workspace. Nobody but this person sees it."""

    class Kind(models.TextChoices):
        BROWSER = "browser", "In Tuneboard"
        EMAIL = "email", "E-mail"
        WEBHOOK = "webhook", "Webhook"

    class Scope(models.TextChoices):
        MINE = "mine", "my runs"
        WORKSPACE = "workspace", "all runs of the workspace"

    class Happening(models.TextChoices):
        """What one can be told of; messages carry it as `run.<value>`."""

        SUCCEEDED = "succeeded", "A run has succeeded"
        FAILED = "failed", "A run has failed"
        DIVERGED = "diverged", "A run has diverged: its loss became infinite or not a number"
        STALLED = "stalled", "A run stalls: no step for some time"
        RECOVERED = "recovered", "A run that stalled goes on"
        CANCELLED = "cancelled", "A run was cancelled"

    # Whoever cancels a run knows of it.
    USUAL = (
        Happening.SUCCEEDED,
        Happening.FAILED,
        Happening.DIVERGED,
        Happening.STALLED,
        Happening.RECOVERED,
    )

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    name = models.CharField(max_length=100, blank=True)
    happenings = models.JSONField(default=list)
    scope = models.CharField(max_length=10, choices=Scope.choices, default=Scope.MINE)
    stall_minutes = models.IntegerField(null=True)  # None: as the deployment has it
    enabled = models.BooleanField(default=True)
    sealed_url = models.TextField(blank=True)  # of a webhook; chat servers put a secret into it
    sealed_secret = models.TextField(blank=True)  # what a webhook's messages are signed with
    failing_since = models.DateTimeField(null=True)  # since its last success nothing has got through
    last_error = models.TextField(blank=True)
    switched_off = models.TextField(blank=True)  # why Tuneboard has switched it off
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["created_at", "id"]
        indexes = [models.Index(fields=["workspace", "kind"], name="channel_to_tell")]
        constraints = [
            models.UniqueConstraint(
                fields=["user", "workspace", "kind"], condition=~Q(kind="webhook"), name="one_channel_a_kind"
            )
        ]

    def __str__(self) -> str:
        return self.name or self.get_kind_display()


class Delivery(models.Model):
    """A message for one channel, made in the transaction of what it tells of, so that none is lost.

    In Tuneboard itself a message is delivered by being there; the others are sent by the dispatcher.
    """

    class Status(models.TextChoices):
        PENDING = "pending", "Waiting"
        SENT = "sent", "Sent"
        FAILED = "failed", "Given up"

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="deliveries")
    # Of the channel, said again for the list of one's notifications and its poll.
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    in_app = models.BooleanField(default=False)
    run = models.ForeignKey(Run, null=True, on_delete=models.CASCADE, related_name="+")
    event = models.ForeignKey(Event, null=True, on_delete=models.SET_NULL, related_name="+")
    key = models.UUIDField(default=uuid.uuid4, unique=True)  # the message's id, the same at every try
    type = models.CharField(max_length=30)  # run.succeeded …, test, channel.switched_off
    message = models.JSONField()  # {title, text, path, data}: runs/notifications/messages.py
    created_at = models.DateTimeField(db_default=Now())
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.PENDING)
    attempts = models.IntegerField(default=0)
    next_attempt_at = models.DateTimeField(db_default=Now())  # by the clock of the database, as claims are
    claimed_until = models.DateTimeField(null=True)  # a sender has it until then
    response_status = models.IntegerField(null=True)
    last_error = models.TextField(blank=True)
    sent_at = models.DateTimeField(null=True)
    read_at = models.DateTimeField(null=True)

    objects: models.Manager[Any] = models.Manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(
                fields=["next_attempt_at"], condition=Q(status="pending"), name="delivery_next_to_send"
            ),
            models.Index(fields=["user", "-id"], condition=Q(in_app=True), name="delivery_list_of_user"),
            models.Index(
                fields=["user"], condition=Q(in_app=True, read_at__isnull=True), name="delivery_unread"
            ),
            models.Index(fields=["channel", "-id"], name="delivery_list_of_channel"),
            models.Index(fields=["created_at"], name="delivery_to_prune"),
        ]
        constraints = [models.UniqueConstraint(fields=["channel", "event"], name="one_delivery_an_event")]

    @property
    def title(self) -> str:
        return str(self.message.get("title", ""))

    @property
    def text(self) -> str:
        return str(self.message.get("text", ""))
