"""What lists of runs show of each."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils import timezone
from django.utils.html import format_html

from runs import results
from runs.models import Run
from runs.queueing.release import moment
from runs.queueing.usage import Used, used_by
from webapp.accounts.models import Workspace
from webapp.templatetags.ui import NO_VALUE, duration

register = template.Library()


@register.simple_tag
def headline(run: Run) -> tuple[str, str] | None:
    """(title, value) of the run's main metric, if it has one yet."""
    return results.headline(run)


@register.simple_tag
def task_title(run: Run) -> str:
    task = results.task_of(run)
    return task.title if task else run.task


@register.simple_tag
def method_title(run: Run) -> str:
    return results.method_title(run)


@register.simple_tag
def waits_for(run: Run) -> str:
    """What a queued run waits for besides a worker, in a line of a list."""
    if run.waits_for == Run.WaitsFor.TIME and run.not_before is not None:
        return f"not before {moment(run)}"
    if run.waits_for != Run.WaitsFor.RUN:
        return ""
    if run.after is None:
        return "after a run that is gone"
    over = {Run.Status.FAILED: ", which failed", Run.Status.CANCELLED: ", which was cancelled"}
    return f"after “{run.after.name}”{over.get(Run.Status(run.after.status), '')}"


@register.simple_tag
def usage_of(workspace: Workspace) -> Used:
    """What the workspace runs now and has used today, for the page with its limits."""
    return used_by(workspace.pk)


@register.simple_tag
def took(run: Run) -> Any:
    """How long the run has been or was at work; counts on in the page while it runs."""
    if run.started_at is None:
        return NO_VALUE
    if run.finished_at:
        return duration((run.finished_at - run.started_at).total_seconds())
    so_far = duration((timezone.now() - run.started_at).total_seconds())
    return format_html('<time datetime="{}" data-elapsed>{}</time>', run.started_at.isoformat(), so_far)
