"""Recordings of a version, one at an address, for the player of a page."""

from __future__ import annotations

from django.http import Http404, HttpResponse
from django.views.decorators.http import require_safe

from webapp.datasets.browse_views import version_or_404
from webapp.datasets.recordings import content_type
from webapp.datasets.rows import LARGEST_RECORDING, read_value
from webapp.ranges import parse_range
from webapp.requests import Request


@require_safe
def recording(request: Request, pk: int, split: str, row: int, column: int) -> HttpResponse:
    """Of a row, counted from 1, and a column, from 0: as nothing but sound, whole or in part (Range)."""
    _, version = version_or_404(request, pk)
    data = read_value(version, split, row, column, "audio")
    kind = content_type(data or b"")
    if data is None or not kind or len(data) > LARGEST_RECORDING:
        raise Http404("There is no such recording.")
    part = parse_range(request.headers.get("Range", ""), len(data))
    if part == "unsatisfiable":
        response = HttpResponse(status=416)
        response["Content-Range"] = f"bytes */{len(data)}"
    elif isinstance(part, tuple):
        first, last = part
        response = HttpResponse(data[first : last + 1], content_type=kind, status=206)
        response["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
    else:
        response = HttpResponse(data, content_type=kind)
    response["Accept-Ranges"] = "bytes"
    response["Content-Disposition"] = f'inline; filename="{split}-{row}"'
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["Cache-Control"] = "private, max-age=3600"
    return response
