"""The run that a button is about, for those who may press it: what counts is the run's workspace, not the one shown."""

from __future__ import annotations

from django.core.exceptions import PermissionDenied
from django.shortcuts import get_object_or_404

from runs.models import Run
from webapp.accounts.access import may_edit
from webapp.requests import Request


def run_to_change(request: Request, pk: int) -> Run:
    """404 if this person may not see it, 403 if they may only look."""
    run: Run = get_object_or_404(Run.objects.visible_to(request.user).select_related("workspace"), pk=pk)
    if not may_edit(request.user, run.workspace):
        raise PermissionDenied("You may look at this run but not change it.")
    return run
