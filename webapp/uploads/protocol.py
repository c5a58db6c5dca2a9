"""The tus resumable upload protocol 1.0.0 (https://tus.io/protocols/resumable-upload), as one sees it from HTTP.

Core, and the extensions creation, creation-with-upload, expiration, checksum and termination. Pages (views.py) and
the HTTP API (api.py) find out who asks, and leave the rest to `collection` and `single`. Errors are ApiErrors.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import re
import tempfile
import uuid
from collections.abc import Callable
from typing import IO

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.http import http_date

from webapp.accounts.models import User, Workspace
from webapp.api import ApiError
from webapp.uploads import receiving
from webapp.uploads.body import pieces
from webapp.uploads.incoming import clean_name, incoming_folder
from webapp.uploads.models import Upload

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,expiration,checksum,termination"
ALGORITHMS = {"sha1": hashlib.sha1, "sha256": hashlib.sha256}
BYTES = "application/offset+octet-stream"
MOST_METADATA = 4096  # characters of the header
# Of collections and of single uploads; POST to a single one only with X-HTTP-Method-Override.
COLLECTION_METHODS = ("OPTIONS", "POST")
SINGLE_METHODS = ("OPTIONS", "HEAD", "PATCH", "DELETE", "POST")


def collection(
    request: HttpRequest, user: User, workspace: Workspace, address: Callable[[Upload], str]
) -> HttpResponse:
    """Announce an upload (POST) or ask what this server can do (OPTIONS)."""
    method = _method(request)
    if method == "OPTIONS":
        return _abilities()
    _check_version(request)
    if method != "POST":
        raise _no_method(method, COLLECTION_METHODS)
    return _create(request, user, workspace, address)


def single(request: HttpRequest, user: User, workspace: Workspace, pk: uuid.UUID) -> HttpResponse:
    """Ask how far an upload is (HEAD), send its next bytes (PATCH), give it up (DELETE)."""
    upload = find(user, workspace, pk)
    method = _method(request)
    if method == "OPTIONS":
        return _abilities()
    _check_version(request)
    try:
        if method == "HEAD":
            return _look(receiving.current(upload))
        if method == "PATCH":
            return _append(request, upload)
        if method == "DELETE":
            receiving.discard(upload)
            return _answer(204)
    except receiving.Gone as error:
        raise _not_found() from error
    raise _no_method(method, SINGLE_METHODS[:-1])


def find(user: User, workspace: Workspace, pk: uuid.UUID) -> Upload:
    """One's own upload in this workspace; raises ApiError 404, or 410 for one that has just expired."""
    upload = receiving.uploads_of(user, workspace).filter(pk=pk).first()
    if upload is None:
        expired = Upload.objects.filter(pk=pk, created_by=user, workspace=workspace).exists()
        raise (
            ApiError(410, "gone", "This upload has expired; send its file again.")
            if expired
            else _not_found()
        )
    return upload


def _create(
    request: HttpRequest, user: User, workspace: Workspace, address: Callable[[Upload], str]
) -> HttpResponse:
    if "Upload-Defer-Length" in request.headers:
        raise ApiError(400, "no_length", "Say the length of the file at once, in Upload-Length.")
    length = _number(request, "Upload-Length")
    metadata = parsed_metadata(request.headers.get("Upload-Metadata", ""))
    carries_bytes = _is_bytes(request) and _content_length(request) > 0
    if carries_bytes and _content_length(request) > length:
        raise _too_long()
    name = metadata.get("filename") or metadata.get("name") or ""
    try:
        upload = receiving.announce(user, workspace, length, clean_name(name), metadata)
    except receiving.Refused as error:
        raise ApiError(413, "too_large", str(error)) from error
    if carries_bytes:
        try:
            upload = _received(request, upload, 0)
        except receiving.Gone as error:
            raise _not_found() from error
    answer = _answer(201, upload)
    answer["Location"] = address(upload)
    if carries_bytes:
        answer["Upload-Offset"] = str(upload.offset)
    return answer


def _look(upload: Upload) -> HttpResponse:
    answer = _answer(200, upload)
    answer["Upload-Offset"], answer["Upload-Length"] = str(upload.offset), str(upload.length)
    if upload.metadata:
        answer["Upload-Metadata"] = ",".join(
            f"{key} {base64.b64encode(value.encode()).decode()}".strip()
            for key, value in upload.metadata.items()
        )
    answer["Cache-Control"] = "no-store"
    return answer


def _append(request: HttpRequest, upload: Upload) -> HttpResponse:
    if not _is_bytes(request):
        raise ApiError(415, "wrong_type", f"Send the bytes as Content-Type: {BYTES}.")
    offset, length = _number(request, "Upload-Offset"), _content_length(request)
    if offset != receiving.current(upload).offset:
        raise _conflict(upload.offset, offset)
    if offset + length > upload.length:
        raise _too_long()
    upload = _received(request, upload, offset)
    answer = _answer(204, upload)
    answer["Upload-Offset"] = str(upload.offset)
    return answer


def _received(request: HttpRequest, upload: Upload, offset: int) -> Upload:
    """Raises ApiError where the bytes cannot be kept as they should be."""
    length = _content_length(request)
    try:
        if wanted := request.headers.get("Upload-Checksum"):
            with _verified(request, *_checksum(wanted)) as spooled:
                return receiving.receive(upload, offset, pieces(spooled, length))
        return receiving.receive(upload, offset, pieces(request, length))
    except receiving.Moved as error:
        raise ApiError(
            409, "conflict", "Another request sends this upload; ask by HEAD where to go on."
        ) from error
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise ApiError(
            507,
            "disk_full",
            "The server's disk is full. What has arrived is kept; once there is room, the upload goes on.",
        ) from error


def _verified(request: HttpRequest, algorithm: str, digest: bytes) -> IO[bytes]:
    """The body in a temporary file, once it is what the client meant to send: unverified bytes are never kept."""
    hashed = ALGORITHMS[algorithm]()
    spooled = tempfile.TemporaryFile(dir=incoming_folder())  # noqa: SIM115 – the caller closes it
    try:
        for piece in pieces(request, _content_length(request)):
            hashed.update(piece)
            spooled.write(piece)
        if hashed.digest() != digest:
            raise ApiError(
                460,
                "checksum_mismatch",
                "The bytes that came are not those that were sent. Nothing was kept.",
            )
        spooled.seek(0)
    except BaseException:
        spooled.close()
        raise
    return spooled


def _checksum(header: str) -> tuple[str, bytes]:
    algorithm, _, encoded = header.strip().partition(" ")
    if algorithm not in ALGORITHMS:
        raise ApiError(400, "bad_checksum", f"Upload-Checksum takes one of: {', '.join(ALGORITHMS)}.")
    return algorithm, _decoded(encoded, "Upload-Checksum")


def parsed_metadata(header: str) -> dict[str, str]:
    """`key base64,key base64,key`; raises ApiError 400."""
    if len(header) > MOST_METADATA:
        raise ApiError(400, "bad_metadata", f"Upload-Metadata has at most {MOST_METADATA} characters.")
    found: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in header.split(","))):
        key, _, encoded = pair.partition(" ")
        if not re.fullmatch(r"[!-+\--~]+", key) or key in found:
            raise ApiError(400, "bad_metadata", "Each key of Upload-Metadata is ASCII, and there once.")
        value = _decoded(encoded, "Upload-Metadata").decode("utf-8", "replace")
        found[key] = value.replace("\0", "")
    return found


def _decoded(text: str, header: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(400, "bad_header", f"{header} has something that is not base64.") from error


def _number(request: HttpRequest, header: str) -> int:
    text = request.headers.get(header, "")
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ApiError(400, "bad_header", f"{header} is a number of bytes, 0 or more.")
    return int(text)


def _content_length(request: HttpRequest) -> int:
    text = request.META.get("CONTENT_LENGTH") or ""
    if not text and "Transfer-Encoding" in request.headers:
        raise ApiError(411, "length_required", "Send the body with a Content-Length, not in chunks.")
    return int(text) if text.isdecimal() else 0


def _is_bytes(request: HttpRequest) -> bool:
    return request.content_type == BYTES


def _method(request: HttpRequest) -> str:
    """For networks that let neither PATCH nor DELETE pass."""
    override = request.headers.get("X-HTTP-Method-Override", "").upper()
    return override if request.method == "POST" and override else str(request.method)


def _check_version(request: HttpRequest) -> None:
    if request.headers.get("Tus-Resumable") != VERSION:
        raise ApiError(
            412, "wrong_version", f"Send Tus-Resumable: {VERSION}; this server has no other version."
        )


def _abilities() -> HttpResponse:
    answer = _answer(204)
    answer["Tus-Version"], answer["Tus-Extension"] = VERSION, EXTENSIONS
    answer["Tus-Max-Size"] = str(settings.UPLOAD_MAX_BYTES)
    answer["Tus-Checksum-Algorithm"] = ",".join(ALGORITHMS)
    return answer


def _answer(status: int, upload: Upload | None = None) -> HttpResponse:
    answer = HttpResponse(status=status)
    answer["Tus-Resumable"] = VERSION
    if upload is not None:
        answer["Upload-Expires"] = http_date(upload.expires_at.timestamp())
        if upload.is_whole:
            digest = base64.b64encode(bytes.fromhex(upload.sha256)).decode()
            answer["Repr-Digest"] = f"sha-256=:{digest}:"
    return answer


def marked(answer: HttpResponse) -> HttpResponse:
    """An error's answer with the headers that the protocol asks of every answer."""
    answer["Tus-Resumable"] = VERSION
    if answer.status_code == 412:
        answer["Tus-Version"] = VERSION
    if answer.status_code == 460:
        answer.reason_phrase = "Checksum Mismatch"
    return answer


def _conflict(there: int, said: int) -> ApiError:
    return ApiError(409, "conflict", f"{there} bytes are here, so the next one is not byte {said}.")


def _too_long() -> ApiError:
    return ApiError(413, "too_large", "These are more bytes than the upload was announced with.")


def _not_found() -> ApiError:
    return ApiError(404, "not_found", "There is no such upload, or it is not yours.")


def _no_method(method: str, allowed: tuple[str, ...]) -> ApiError:
    return ApiError(
        405, "method_not_allowed", f"{method} cannot be used here; this takes: {', '.join(allowed)}."
    )
