"""Where one is after sign-in: what runs now, the newest results, and the way to a first run."""

from __future__ import annotations

from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from runs.fleet import fleet
from runs.listing import ACTIVE, state_of
from runs.models import Run
from webapp.catalog.models import BaseModel
from webapp.datasets.models import Dataset
from webapp.polling import not_modified, tag_of_many, tagged
from webapp.requests import Request


@require_GET
def overview(request: Request) -> HttpResponse:
    runs = Run.objects.filter(workspace=request.workspace)
    state, workers = state_of(runs), fleet()
    tag = tag_of_many("overview", request.workspace and request.workspace.pk, state, workers.sentence)
    if request.htmx and (unchanged := not_modified(request, tag)):
        return unchanged
    with_model = runs.select_related("base_model")
    context = {
        "tag": tag,
        "active": list(with_model.filter(status__in=ACTIVE).order_by("status", "-created_at")[:8]),
        "active_count": state[2],
        "recent": list(with_model.exclude(status__in=ACTIVE).order_by("-finished_at", "-id")[:6]),
        "counts": runs.aggregate(
            total=Count("id"),
            succeeded=Count("id", filter=Q(status=Run.Status.SUCCEEDED)),
            failed=Count("id", filter=Q(status=Run.Status.FAILED)),
        ),
        "fleet": workers,
    }
    if request.htmx:
        return tagged(render(request, "runs/overview.html#live", context), tag)
    datasets = Dataset.objects.filter(workspace=request.workspace)
    context["models_count"] = BaseModel.objects.visible_to(request.user).count()
    context["datasets_count"] = datasets.filter(status=Dataset.Status.READY).count()
    context["newest_dataset"] = datasets.filter(status=Dataset.Status.READY).first()
    return tagged(render(request, "runs/overview.html", context), tag)
