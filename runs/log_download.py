"""A whole log as a text file, or a part of it (Range)."""

from __future__ import annotations

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.http import content_disposition_header
from django.utils.text import slugify

from runs.logs import LogGone, LogReader
from runs.models import Attempt, Run
from webapp.ranges import parse_range
from webapp.serving import Begun

KIND = "text/plain; charset=utf-8"


def text_response(request: HttpRequest, run: Run, attempt: Attempt, rank: int = 0) -> HttpResponseBase:
    """The log of an attempt's host as far as it goes: 200, 206, 304 or 416; Http404 if it is no longer kept."""
    reader = LogReader(attempt, rank)
    try:
        size = reader.size
        # What is kept of a log in the middle can go while it grows; its beginning and end say which text it is.
        etag = f'"{attempt.pk}-{rank}-{reader.log.size if reader.log else 0}-{size}"'
        if request.headers.get("If-None-Match") == etag:
            return _headed(HttpResponse(status=304), run, reader, etag)
        start, end = 0, size - 1
        asked, condition = request.headers.get("Range", ""), request.headers.get("If-Range")
        part = parse_range(asked, size) if asked and condition in (None, etag) else None
        if part == "unsatisfiable":
            refused = HttpResponse(status=416, content_type=KIND)
            refused["Content-Range"] = f"bytes */{size}"
            return _headed(refused, run, reader, etag)
        if isinstance(part, tuple):
            start, end = part
        blocks = reader.read(start, end - start + 1)
        # The first block before the headers: what is gone is told as such.
        first = next(blocks, b"") if request.method != "HEAD" else b""
    except LogGone as gone:
        raise Http404(str(gone)) from gone
    response: HttpResponseBase
    if request.method == "HEAD":
        response = HttpResponse(content_type=KIND)
    else:
        response = StreamingHttpResponse(Begun([first], blocks), content_type=KIND)
    if isinstance(part, tuple):
        response.status_code = 206
        response["Content-Range"] = f"bytes {start}-{end}/{size}"
    response["Content-Length"] = str(end - start + 1)
    return _headed(response, run, reader, etag)


def _headed(response: HttpResponseBase, run: Run, reader: LogReader, etag: str) -> HttpResponseBase:
    host = f"-host-{reader.rank + 1}" if run.nodes > 1 else ""
    name = f"{slugify(run.name)[:60] or 'run'}-{run.pk}-attempt-{reader.attempt.number}{host}.txt"
    response["ETag"] = etag
    response["Accept-Ranges"] = "bytes"
    response["Content-Disposition"] = content_disposition_header(True, name) or "attachment"
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "private, no-cache"
    return response
