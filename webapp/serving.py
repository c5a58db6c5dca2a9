"""Sending stored files: whole or in part (Range), with their SHA-256 as ETag and as Repr-Digest (RFC 9530).

Everything is sent as an attachment that no browser guesses the kind of; nothing is in memory whole.
"""

from __future__ import annotations

import base64
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.http import content_disposition_header

from webapp import storage
from webapp.ranges import parse_range

CHUNK = 1 << 18
BYTES = "application/octet-stream"


class Begun:
    """A stream whose first pieces were read before the headers went, so that what cannot be had is told.

    Closing it, as Django does with each response, closes what the rest comes from, such as a cursor of the
    database: left to the garbage collector, that may be closed in the midst of another query.
    """

    def __init__(self, pieces: Sequence[bytes], rest: Generator[bytes, None, None]) -> None:
        self._pieces, self._rest = pieces, rest

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        yield from self._rest

    def close(self) -> None:
        self._rest.close()


@dataclass(frozen=True)
class StoredFile:
    """A file in storage that does not change. `name`: what it is to be called where it arrives."""

    key: str
    name: str
    size: int
    sha256: str


def file_response(request: HttpRequest, file: StoredFile) -> HttpResponseBase:
    """The file, or the one part of it that was asked for: 200, 206, 304 or 416; Http404 if it is gone."""
    etag = f'"{file.sha256}"'
    if request.headers.get("If-None-Match") == etag:
        return _headed(HttpResponse(status=304), file, etag)
    start, end = 0, file.size - 1
    asked = request.headers.get("Range", "")
    condition = request.headers.get("If-Range")
    part = parse_range(asked, file.size) if asked and condition in (None, etag) else None
    if part == "unsatisfiable":
        refused = HttpResponse(status=416)
        refused["Content-Range"] = f"bytes */{file.size}"
        return _headed(refused, file, etag)
    if isinstance(part, tuple):
        start, end = part
    response: HttpResponseBase
    if request.method == "HEAD":
        response = HttpResponse(content_type=BYTES)
    else:
        try:
            source = storage.open_file(file.key)
        except FileNotFoundError:
            raise Http404("This file is no longer in storage.") from None
        response = StreamingHttpResponse(_part(source, start, end - start + 1), content_type=BYTES)
    if isinstance(part, tuple):
        response.status_code = 206
        response["Content-Range"] = f"bytes {start}-{end}/{file.size}"
    response["Content-Length"] = str(end - start + 1)
    return _headed(response, file, etag)


def _part(source: IO[bytes], start: int, length: int) -> Iterator[bytes]:
    with source:
        source.seek(start)
        while length > 0 and (data := source.read(min(CHUNK, length))):
            length -= len(data)
            yield data


def _headed(response: HttpResponseBase, file: StoredFile, etag: str) -> HttpResponseBase:
    digest = base64.b64encode(bytes.fromhex(file.sha256)).decode()
    response["ETag"] = etag
    response["Accept-Ranges"] = "bytes"
    response["Repr-Digest"] = f"sha-256=:{digest}:"
    attached(response, file.name)
    response["Cache-Control"] = "private, no-cache"
    return response


def attached(response: HttpResponseBase, name: str) -> HttpResponseBase:
    """To be saved under a name, and never opened as anything else."""
    response["Content-Disposition"] = content_disposition_header(True, name) or "attachment"
    response["X-Content-Type-Options"] = "nosniff"
    return response


def read_whole(source: IO[bytes]) -> Iterator[bytes]:
    """An open file, piece by piece; closed at its end."""
    with source:
        while data := source.read(CHUNK):
            yield data
