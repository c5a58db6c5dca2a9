"""A run: its page, the points of its charts, and the buttons that ask something of it."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib import messages
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from runs import charts, lifecycle, results
from runs.models import Run
from runs.presentation import RunPage
from webapp.accounts.access import editor_required
from webapp.fragments import render_shared
from webapp.polling import not_modified, polls, tag_of, tagged
from webapp.requests import Request
from webapp.watching import watched_by_many


@polls(Run)
@watched_by_many(Run, at_once=("status", "desired", "attempt", "phase"))
@require_GET
def detail(request: Request, pk: int) -> HttpResponse:
    run = get_object_or_404(Run.objects.visible_to(request.user).select_related("base_model"), pk=pk)
    tag = tag_of(run)
    if request.htmx and (unchanged := not_modified(request, tag)):
        return unchanged
    context = {"run": run, "tag": tag, "page": RunPage(run)}
    if request.htmx:
        return tagged(render_shared(request, detail, run, "runs/detail.html#live", context), tag)
    context["charts"] = shown = charts.charts_of(results.task_of(run))
    context["newest"] = charts.newest_table(run, shown)
    return tagged(render(request, "runs/detail.html", context), tag)


@require_GET
def points(request: Request, pk: int) -> HttpResponse:
    """The points of all series, or with `since=loss:120,…` only those after these steps, as JSON."""
    run = get_object_or_404(Run.objects.visible_to(request.user).only("id", "attempt"), pk=pk)
    since = charts.parse_since(request.GET.get("since", ""))
    response = JsonResponse({"attempt": run.attempt, "series": charts.points(run.pk, since)})
    response["Cache-Control"] = "private, no-store"
    return response


def _ask(request: Request, pk: int, action: Callable[..., object], done: str) -> HttpResponse:
    run = get_object_or_404(Run.objects.visible_to(request.user), pk=pk)
    try:
        action(run.pk, request.user)
    except lifecycle.NotAllowed as refused:
        messages.error(request, str(refused))
    else:
        messages.success(request, done)
    return redirect("runs:detail", pk=run.pk)


@require_POST
@editor_required
def cancel(request: Request, pk: int) -> HttpResponse:
    return _ask(request, pk, lifecycle.request_cancel, "The run is being cancelled.")


@require_POST
@editor_required
def pause(request: Request, pk: int) -> HttpResponse:
    return _ask(request, pk, lifecycle.request_pause, "The run saves where it is, then pauses.")


@require_POST
@editor_required
def resume(request: Request, pk: int) -> HttpResponse:
    return _ask(request, pk, lifecycle.resume, "The run goes on as soon as a worker is free.")


@require_POST
@editor_required
def retry(request: Request, pk: int) -> HttpResponse:
    return _ask(request, pk, lifecycle.retry, "The run is queued again.")
