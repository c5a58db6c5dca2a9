"""The button that makes a dataset of a run's predictions."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from runs import predictions
from runs.views.changing import run_to_change
from webapp.datasets.intake import IntakeError
from webapp.requests import Request


@require_POST
def make_dataset(request: Request, pk: int) -> HttpResponse:
    run = run_to_change(request, pk)
    try:
        made = predictions.make_dataset(run, request.user)
    except (predictions.NoPredictions, IntakeError) as refused:
        messages.error(request, str(refused))
        return redirect("runs:detail", pk=run.pk)
    if (
        made.workspace_id != request.workspace.pk
    ):  # its page is of another workspace than the one that is shown
        messages.success(request, f"“{made.name}” is a dataset of {run.workspace} now.")
        return redirect("runs:detail", pk=run.pk)
    return redirect("datasets:detail", pk=made.pk)
