"""What the bell on every page, and the page of a run that stalls, show."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import template
from django.utils import timezone

from runs.models import Channel, Run
from runs.notifications import inbox, stalls

register = template.Library()


@register.simple_tag(takes_context=True)
def bell_state(context: template.Context) -> dict[str, Any]:
    """{newest, unread, tag} of whoever looks; empty for strangers."""
    user = getattr(context.get("request"), "user", None)
    if user is None or not user.is_authenticated:
        return {}
    newest, unread = inbox.state(user.pk)
    return {"newest": newest, "unread": unread, "tag": inbox.tag(newest, unread)}


@register.filter
def unread_label(count: int) -> str:
    """`3`, or `99+` where no more is counted."""
    return f"{inbox.MOST_COUNTED - 1}+" if count >= inbox.MOST_COUNTED else str(count)


@register.filter
def stalled_since(run: Run) -> Any:
    """Since when a run shows no progress, if it was found to stall; else None."""
    return run.stalled_since if stalls.is_stalled(run) else None


@register.filter
def seconds_since(moment: datetime) -> float:
    """For `duration`; 0 where it is still to come."""
    return max(0.0, (timezone.now() - moment).total_seconds())


@register.filter
def seconds_until(moment: datetime) -> float:
    """For `duration`; 0 where it has passed."""
    return max(0.0, (moment - timezone.now()).total_seconds())


@register.filter
def happening_titles(channel: Channel) -> str:
    """`succeeded, failed, stalled`: what a channel tells."""
    return ", ".join(channel.happenings) or "nothing"
