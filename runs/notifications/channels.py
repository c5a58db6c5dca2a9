"""Setting up ways to be told. Everybody sets up their own; what is wrong is said by field."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from runs.models import Channel
from runs.notifications import mail, webhooks
from webapp.accounts.models import User, Workspace
from webapp.addresses import Refused, Unreachable, check_url
from webapp.secrets import Unreadable, reseal, seal, unseal

MOST_WEBHOOKS = 20  # of a person in a workspace
LONGEST_STALL = 7 * 24 * 60  # minutes


class ChannelError(Exception):
    """It cannot be set up so; `fields` says what to change."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(next(iter(fields.values())))
        self.fields = fields


def of_person(user: User, workspace: Workspace) -> list[Channel]:
    """All that this person has set up in this workspace."""
    return list(Channel.objects.filter(user=user, workspace=workspace).select_related("workspace"))


def check(happenings: Iterable[str], scope: str, stall_minutes: int | None) -> dict[str, str]:
    """What is wrong with choices that all channels have, by field."""
    wrong = {}
    unknown = sorted(set(happenings) - set(Channel.Happening.values))
    if unknown:
        known = ", ".join(Channel.Happening.values)
        wrong["happenings"] = f"{', '.join(unknown)} is none of: {known}."
    if scope not in Channel.Scope.values:
        wrong["scope"] = f"It is one of: {', '.join(Channel.Scope.values)}."
    if stall_minutes is not None and not 1 <= stall_minutes <= LONGEST_STALL:
        wrong["stall_minutes"] = f"It is a number of minutes from 1 to {LONGEST_STALL:,}, or left empty."
    return wrong


def save(
    channel: Channel, *, happenings: Iterable[str], scope: str, stall_minutes: int | None, enabled: bool
) -> Channel:
    """Change what a channel tells, and whether; raises ChannelError. Switching it on forgets that it failed."""
    chosen = list(happenings)
    if wrong := check(chosen, scope, stall_minutes):
        raise ChannelError(wrong)
    channel.happenings = [item for item in Channel.Happening.values if item in chosen]
    channel.scope, channel.stall_minutes = scope, stall_minutes
    if enabled and not channel.enabled:
        channel.switched_off, channel.failing_since, channel.last_error = "", None, ""
    channel.enabled = enabled
    channel.save()
    return channel


def add_email(user: User, workspace: Workspace, **choices: Any) -> Channel:
    """Tell this person by e-mail, at the address of their profile; raises ChannelError. Once a workspace."""
    if not mail.is_set_up():
        raise ChannelError(
            {"kind": "This server sends no e-mail: its operator has to set TUNEBOARD_SMTP_URL."}
        )
    if not user.email:
        raise ChannelError({"kind": "Your profile has no e-mail address yet."})
    found = Channel.objects.filter(user=user, workspace=workspace, kind=Channel.Kind.EMAIL).first()
    return save(found or Channel(user=user, workspace=workspace, kind=Channel.Kind.EMAIL), **choices)


def add_webhook(
    user: User, workspace: Workspace, *, name: str, url: str, **choices: Any
) -> tuple[Channel, str]:
    """A webhook and its secret, which is shown here and never again; raises ChannelError."""
    wrong = check(choices["happenings"], choices["scope"], choices["stall_minutes"]) | _url_problem(url)
    kept = Channel.objects.filter(user=user, workspace=workspace, kind=Channel.Kind.WEBHOOK)
    if kept.count() >= MOST_WEBHOOKS:
        wrong["url"] = f"You have {MOST_WEBHOOKS} webhooks here already; remove one first."
    if wrong:
        raise ChannelError(wrong)
    secret = webhooks.new_secret()
    channel = Channel(
        user=user,
        workspace=workspace,
        kind=Channel.Kind.WEBHOOK,
        name=" ".join(name.split())[:100],
        sealed_url=seal(url),
        sealed_secret=seal(secret),
    )
    return save(channel, **choices), secret


def change_webhook(channel: Channel, *, name: str, url: str, **choices: Any) -> Channel:
    """As `add_webhook`, for one that is there; its secret stays."""
    wrong = check(choices["happenings"], choices["scope"], choices["stall_minutes"])
    if url != url_of(channel):
        wrong |= _url_problem(url)
    if wrong:
        raise ChannelError(wrong)
    if url != url_of(channel):
        channel.failing_since, channel.last_error = None, ""
    channel.name, channel.sealed_url = " ".join(name.split())[:100], seal(url)
    return save(channel, **choices)


def _url_problem(url: str) -> dict[str, str]:
    try:
        check_url(url)
    except (Refused, Unreachable) as refused:
        return {"url": str(refused)}
    return {}


def renew_secret(channel: Channel) -> str:
    """A new secret from now on; shown here and never again."""
    secret = webhooks.new_secret()
    channel.sealed_secret = seal(secret)
    channel.save(update_fields=["sealed_secret"])
    return secret


def url_of(channel: Channel) -> str:
    """A webhook's address; empty if its key is lost."""
    try:
        return unseal(channel.sealed_url) if channel.sealed_url else ""
    except Unreadable:
        return ""


def is_readable(channel: Channel) -> bool:
    """False once SECRET_KEY was changed without keeping the old one: address and secret are to be entered anew."""
    try:
        unseal(channel.sealed_secret)
    except Unreadable:
        return False
    return True


def leave(user_id: int, workspace_id: int) -> None:
    """Who leaves a workspace is told nothing of it any more, and leaves no secrets there."""
    Channel.objects.filter(user_id=user_id, workspace_id=workspace_id).delete()


def reseal_all() -> tuple[int, int]:
    """Encrypt every secret under the newest SECRET_KEY; (how many channels, how many cannot be read)."""
    done = lost = 0
    for channel in Channel.objects.filter(kind=Channel.Kind.WEBHOOK).iterator():
        try:
            values = {
                "sealed_url": reseal(channel.sealed_url),
                "sealed_secret": reseal(channel.sealed_secret),
            }
        except Unreadable:
            lost += 1
            continue
        done += Channel.objects.filter(pk=channel.pk, sealed_secret=channel.sealed_secret).update(**values)
    return done, lost
