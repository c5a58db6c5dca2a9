"""The page where a person says what a dataset is for, and sees three rows as the model will see them."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_cache_control, patch_vary_headers
from django.views.decorators.http import require_GET

from webapp.datasets.browse_views import version_or_404
from webapp.datasets.mapping import MappingForm
from webapp.datasets.mapping_examples import examples_of, given_columns
from webapp.datasets.models import DatasetVersion
from webapp.requests import Request

MOST_DIGITS = 15


@require_GET
def mapping(request: Request, pk: int) -> HttpResponse:
    """The form with its examples; asked for by htmx, what changes with a choice."""
    dataset, version = version_or_404(request, pk)
    form = MappingForm(version, request.GET)
    chosen = form.chosen()
    split = _split(version, request.GET.get("split", ""))
    start = request.GET.get("start", "")
    number = int(start) if start.isdecimal() and len(start) <= MOST_DIGITS else 1
    given = given_columns(version, form.needs, chosen)
    context: dict[str, Any] = {
        "dataset": dataset,
        "version": version,
        "form": form,
        "is_current": dataset.version is not None and dataset.version.pk == version.pk,
        "version_query": f"?version={version.content_hash}",
        "splits": [(name, rows) for name, rows in version.splits.items() if rows],
        "asked": {"split": split},
        "given": given,
        "examples": examples_of(version, split, number, given, checked=form.needs is not None),
    }
    template = "datasets/mapping.html#work" if request.htmx else "datasets/mapping.html"
    response = render(request, template, context)
    patch_vary_headers(response, ["HX-Request"])
    patch_cache_control(response, private=True, no_store=True)
    return response


def _split(version: DatasetVersion, asked: str) -> str:
    """The one to train on, unless another that has rows was asked for."""
    known = [name for name, rows in version.splits.items() if rows]
    if asked in known:
        return asked
    return "train" if "train" in known else next(iter(known), "")
