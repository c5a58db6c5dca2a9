"""The buttons of a run: each asks lifecycle for a change and leads back to the run's page, which says what came of it."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from runs import extending, lifecycle
from runs.launch import LaunchError
from runs.models import Run
from runs.views.changing import run_to_change
from webapp.requests import Request


def _ask(request: Request, pk: int, action: Callable[[Run], object], done: str) -> HttpResponse:
    run = run_to_change(request, pk)
    try:
        action(run)
    except (lifecycle.NotAllowed, LaunchError) as refused:
        messages.error(request, str(refused))
    else:
        messages.success(request, done)
    return redirect("runs:detail", pk=run.pk)


@require_POST
def cancel(request: Request, pk: int) -> HttpResponse:
    done = "Cancel requested."
    return _ask(request, pk, lambda run: lifecycle.request_cancel(run.pk, request.user), done)


@require_POST
def pause(request: Request, pk: int) -> HttpResponse:
    done = "Pause requested."
    return _ask(request, pk, lambda run: lifecycle.request_pause(run.pk, request.user), done)


@require_POST
def resume(request: Request, pk: int) -> HttpResponse:
    done = "The run goes on as soon as a worker is free."
    return _ask(request, pk, lambda run: lifecycle.resume(run.pk, request.user), done)


@require_POST
def retry(request: Request, pk: int) -> HttpResponse:
    return _ask(request, pk, lambda run: lifecycle.retry(run.pk, request.user), "The run is queued again.")


@require_POST
def extend(request: Request, pk: int) -> HttpResponse:
    """To as many epochs or steps in all as the form says."""
    asked = {name: request.POST[name] for name in ("num_train_epochs", "max_steps") if name in request.POST}
    done = "The run goes on from its last checkpoint as soon as a worker is free."
    return _ask(request, pk, lambda run: extending.extend(run, request.user, asked), done)


@require_POST
def priority(request: Request, pk: int) -> HttpResponse:
    def change(run: Run) -> None:
        wanted = request.POST.get("priority", "").upper()
        if wanted not in Run.Priority.names:
            raise LaunchError({"priority": "Choose a low, normal or high priority."})
        lifecycle.prioritise(run.pk, request.user, Run.Priority[wanted])

    return _ask(request, pk, change, "The run has another priority now.")


@require_POST
def start(request: Request, pk: int) -> HttpResponse:
    done = "The run waits for nothing but a worker now."
    return _ask(request, pk, lambda run: lifecycle.start_now(run.pk, request.user), done)
