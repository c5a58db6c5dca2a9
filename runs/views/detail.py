"""A run: its page, why it waits, and the points of its charts."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from runs import charts, results
from runs.models import Run
from runs.presentation import RunPage
from webapp.datasets.versions import large
from webapp.fragments import Made, render_shared
from webapp.polling import not_modified, polls, tag_of, tag_of_many, tagged
from webapp.requests import Request
from webapp.watching import same_for_all, watched_by_many

WITH = ("base_model", "workspace", "after", "made_from")


# What its page shows is never a moment old of these.
AT_ONCE = ("status", "desired", "attempt", "phase")


def live(pk: int) -> Made | None:
    """What the fragment of a run is made of that goes on; its caller has seen to who may look."""
    # Few runs were made from another or start after one: to join those rows costs more than to ask for one.
    found = Run.objects.select_related("base_model", "workspace", "dataset_version")
    run = found.defer(*large("dataset_version__")).filter(pk=pk).first()
    return None if run is None else _made(run)


def _made(run: Run) -> Made:
    return Made(run, "runs/detail.html#live", {"run": run, "tag": tag_of(run), "page": RunPage(run)})


@polls(Run)
@watched_by_many(Run, AT_ONCE, live)
@require_GET
def detail(request: Request, pk: int) -> HttpResponse:
    found = Run.objects.visible_to(request.user).select_related(*WITH, "dataset_version")
    run = get_object_or_404(found.defer(*large("dataset_version__")), pk=pk)
    tag = tag_of(run)
    if request.htmx and (unchanged := not_modified(request, tag)):
        return unchanged
    made = _made(run)
    if request.htmx:
        return render_shared(request, made, AT_ONCE, request.may_edit)
    shown = charts.charts_of(results.task_of(run))
    context = made.context | {"charts": shown, "newest": charts.newest_table(run, shown)}
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


def _points(request: HttpRequest, pk: int, attempt: int) -> JsonResponse:
    since = charts.parse_since(request.GET.get("since", ""))
    response = JsonResponse({"attempt": attempt, "series": charts.points(pk, since)})
    response["Cache-Control"] = "private, no-store"
    return response


@same_for_all(Run, ("attempt",), _points)
@require_GET
def points(request: Request, pk: int) -> HttpResponse:
    """The points of all series, or with `since=loss:120,…` only those after these steps, as JSON."""
    run = get_object_or_404(Run.objects.visible_to(request.user).only("id", "attempt"), pk=pk)
    return _points(request, run.pk, run.attempt)
