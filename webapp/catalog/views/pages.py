"""The catalogue and a page a model."""

from __future__ import annotations

from django.core.paginator import Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from webapp.catalog import hub
from webapp.catalog.abilities import abilities_of
from webapp.catalog.listing import ModelFilter
from webapp.catalog.models import BaseModel
from webapp.requests import Request


@require_GET
def model_list(request: Request) -> HttpResponse:
    models = BaseModel.objects.visible_to(request.user)
    chosen = ModelFilter(request.GET, models)
    page = Paginator(chosen.found(), 24).get_page(request.GET.get("page"))
    rows = [(model, abilities_of(model.kind)) for model in page.object_list]
    context = {"filter": chosen, "page": page, "rows": rows, "total": models.count()}
    return render(request, "catalog/list.html", context)


@require_GET
def hub_results(request: Request) -> HttpResponse:
    """What a hub has for the words of the search; asked for after the page is there, since it may take long."""
    words = request.GET.get("q", "").strip()
    answer = hub.search(words) if words else hub.HubAnswer([])
    template = "catalog/list.html#hub" if request.htmx else "catalog/hub.html"
    return render(request, template, {"answer": answer, "words": words})


@require_GET
def model_detail(request: Request, slug: str) -> HttpResponse:
    model = get_object_or_404(BaseModel.objects.visible_to(request.user), slug=slug)
    context = {"model": model, "abilities": abilities_of(model.kind)}
    return render(request, "catalog/detail.html", context)
