"""Polls that cost next to nothing: a fragment carries the tag of its row, and the same tag is answered 304.

A page shows a fragment with `hx-get`, `hx-trigger="every 2s"` and `hx-ptag="{{ tag }}"`. htmx's ptag
extension sends the last tag back in `HX-PTag`. A fragment of something that is over is rendered
without its trigger, so that polling ends; static/js/polling.js keeps hidden tabs from polling.

    @require_GET
    def progress(request, pk):
        dataset = get_object_or_404(Dataset.objects.visible_to(request.user), pk=pk)
        tag = tag_of(dataset)
        if unchanged := not_modified(request, tag):
            return unchanged
        return tagged(render(request, "datasets/detail.html#progress", {"dataset": dataset, "tag": tag}), tag)
"""

from __future__ import annotations

import hashlib
from typing import Any, Protocol

from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_cache_control, patch_vary_headers


class Versioned(Protocol):
    """A row whose `row_version` rises with every change that a page could show."""

    pk: Any
    row_version: int


def tag_of(row: Versioned) -> str:
    """Names what a fragment of this row shows; changes exactly when the row does."""
    return f"{row.pk}-{row.row_version}"


def tag_of_many(*parts: object) -> str:
    """A tag for a fragment of several rows: a short digest of whatever it depends on."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=9).hexdigest()


def not_modified(request: HttpRequest, tag: str) -> HttpResponse | None:
    """304 if the page already shows this tag; else None, and the view goes on to render."""
    if request.headers.get("HX-PTag") != tag:
        return None
    response = HttpResponse(status=304)
    response["HX-PTag"] = tag
    return response


def tagged(response: HttpResponse, tag: str) -> HttpResponse:
    """Give a page or fragment its tag, and keep browsers from showing a fragment as the page."""
    response["HX-PTag"] = tag
    patch_vary_headers(response, ["HX-Request"])
    patch_cache_control(response, private=True, no_store=True)
    return response
