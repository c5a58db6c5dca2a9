"""A run: its page, why it waits, and the points of its charts."""

from __future__ import annotations

from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from runs import charts, results
from runs.models import Run
from runs.presentation import RunPage
from webapp.datasets.versions import large
from webapp.fragments import render_shared
from webapp.polling import not_modified, polls, tag_of, tag_of_many, tagged
from webapp.requests import Request
from webapp.watching import watched_by_many

WITH = ("base_model", "workspace", "after", "made_from")


@polls(Run)
@watched_by_many(Run, at_once=("status", "desired", "attempt", "phase"))
@require_GET
def detail(request: Request, pk: int) -> HttpResponse:
    found = Run.objects.visible_to(request.user).select_related(*WITH, "dataset_version")
    run = get_object_or_404(found.defer(*large("dataset_version__")), pk=pk)
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
def waiting(request: Request, pk: int) -> HttpResponse:
    """What the run waits for, which changes while the run itself does not."""
    run = get_object_or_404(Run.objects.visible_to(request.user).select_related(*WITH), pk=pk)
    page = RunPage(run)
    found = page.waiting
    tag = tag_of_many("waiting", run.pk, found, found.expected if found else "")
    if unchanged := not_modified(request, tag):
        return unchanged
    context = {"run": run, "page": page, "waiting_tag": tag}
    return tagged(render(request, "runs/detail.html#waiting", context), tag)


@require_GET
def points(request: Request, pk: int) -> HttpResponse:
    """The points of all series, or with `since=loss:120,…` only those after these steps, as JSON."""
    run = get_object_or_404(Run.objects.visible_to(request.user).only("id", "attempt"), pk=pk)
    since = charts.parse_since(request.GET.get("since", ""))
    response = JsonResponse({"attempt": run.attempt, "series": charts.points(run.pk, since)})
    response["Cache-Control"] = "private, no-store"
    return response
