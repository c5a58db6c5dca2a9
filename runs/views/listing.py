"""The list of runs."""

from __future__ import annotations

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from runs.listing import RunFilter, state_of
from runs.models import Run
from webapp.polling import not_modified, tag_of_many, tagged
from webapp.requests import Request

A_PAGE = 25


@require_GET
def run_list(request: Request) -> HttpResponse:
    mine = Run.objects.filter(workspace=request.workspace)
    form = RunFilter(request.GET, request.workspace)
    state = state_of(mine)
    tag = tag_of_many("runs", request.get_full_path(), request.workspace and request.workspace.pk, state)
    if request.htmx and (unchanged := not_modified(request, tag)):
        return unchanged
    page = Paginator(form.apply(mine).select_related("base_model", "after"), A_PAGE).get_page(
        request.GET.get("page")
    )
    context = {"page": page, "filter": form, "tag": tag, "active_count": state[2], "total": state[0]}
    return tagged(render(request, "runs/list.html#rows" if request.htmx else "runs/list.html", context), tag)
