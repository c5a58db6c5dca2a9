"""The data browser: rows of a version, page by page, the pictures in them, and all of it to take away."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_safe

from webapp.datasets.browsing import (
    Asked,
    Page,
    RowFilter,
    counted,
    known_count,
    page_of,
)
from webapp.datasets.exporting import CannotExport, export_response, offered
from webapp.datasets.models import Dataset, DatasetVersion
from webapp.datasets.row_pictures import picture_response
from webapp.datasets.searching import SECONDS, Busy
from webapp.datasets.shards import NotHere
from webapp.datasets.versions import find_version, query_of
from webapp.polling import told_apart
from webapp.requests import Request


def version_or_404(request: Request, pk: int) -> tuple[Dataset, DatasetVersion]:
    """The dataset and the version that the address names, if they may be seen."""
    mine = Dataset.objects.filter(workspace=request.workspace).select_related("version")
    dataset: Dataset = get_object_or_404(mine, pk=pk)
    version = find_version(dataset, request.GET.get("version", ""))
    if version is None:
        raise Http404("There is no such version.")
    return dataset, version


@require_GET
def browse(request: Request, pk: int) -> HttpResponse:
    """A page of rows; asked for by htmx, how many there are in all, which can take longer than the rows."""
    dataset, version = version_or_404(request, pk)
    form = RowFilter(version, request.GET)
    asked = form.asked()
    context: dict[str, Any] = {
        "dataset": dataset,
        "version": version,
        "filter": form,
        "asked": asked,
        "columns": version.columns,
        "version_query": query_of(dataset, version),
        "is_current": version.pk == dataset.version_id,
        "exports": offered(version),
    }
    if request.htmx:
        response = render(request, "datasets/browse.html#count", context | _count(version, asked))
    else:
        page = page_of(version, asked)
        context |= {"page": page, "seconds": SECONDS}
        context |= _known(version, asked, page)
        if request.GET.get("count") and context["count"] is None and not page.trouble:
            context |= _count(version, asked)
        response = render(request, "datasets/browse.html", context)
    return told_apart(response)


def _known(version: DatasetVersion, asked: Asked, page: Page) -> dict[str, Any]:
    return {"count": None if page.trouble else known_count(version, asked, page), "counted": None}


def _count(version: DatasetVersion, asked: Asked) -> dict[str, Any]:
    try:
        found = counted(version, asked)
    except (NotHere, Busy) as error:
        return {"count": None, "counted": None, "uncounted": str(error)}
    return {"count": found.matches if found.over else None, "counted": found}


@require_GET
def row_picture(request: Request, pk: int, split: str, row: int, column: int) -> HttpResponse:
    _, version = version_or_404(request, pk)
    response = picture_response(version, split, row, column)
    if response is None:
        raise Http404("There is no picture that a page can show.")
    return response


@require_safe
def download(request: Request, pk: int, kind: str) -> HttpResponseBase:
    """A version, or the split of it that the address names, in one of the forms of exporting.py."""
    dataset, version = version_or_404(request, pk)
    try:
        return export_response(request, version, kind, request.GET.get("split", ""))
    except KeyError:
        raise Http404("There is no such form.") from None
    except (CannotExport, NotHere) as error:
        messages.error(request, str(error))
        return redirect("datasets:detail", dataset.pk)
