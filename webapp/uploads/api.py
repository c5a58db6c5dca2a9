"""Resumable uploads for scripts: the tus protocol with a bearer token. A dataset is made of them when they are whole."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router, Schema

from webapp.api import ERRORS, ApiError, error_answer, require_editor
from webapp.uploads import protocol, receiving
from webapp.uploads.models import Upload

router = Router(tags=["uploads"])


class UploadOut(Schema):
    """One file on its way. `sha256` is there once the file is whole: with the last byte, or soon after."""

    id: uuid.UUID
    name: str
    length: int
    offset: int
    sha256: str
    created_at: datetime
    expires_at: datetime


def _answered(work: Callable[[], HttpResponse]) -> HttpResponse:
    try:
        return work()
    except ApiError as error:
        return protocol.marked(error_answer(error.status, error.code, error.message, error.fields))


def _collection(request: Any) -> HttpResponse:
    require_editor(request)
    who = request.auth
    return _answered(lambda: protocol.collection(request, who.user, who.workspace, _address))


def _single(request: Any, pk: uuid.UUID) -> HttpResponse:
    require_editor(request)
    who = request.auth
    return _answered(lambda: protocol.single(request, who.user, who.workspace, pk))


def _address(upload: Upload) -> str:
    return f"/api/v1/uploads/{upload.pk}"


def _described(upload: Upload) -> dict[str, Any]:
    return {name: getattr(upload, name) for name in UploadOut.model_fields}


@router.get("", response={200: list[UploadOut], **ERRORS}, summary="List your uploads")
def list_uploads(request: HttpRequest) -> list[dict[str, Any]]:
    """Those that were not finished or that nothing was made of yet, oldest first."""
    who: Any = request
    return [_described(each) for each in receiving.uploads_of(who.auth.user, who.auth.workspace)]


@router.post("", summary="Announce an upload (tus)")
def create(request: HttpRequest) -> HttpResponse:
    """Headers: `Tus-Resumable: 1.0.0`, `Upload-Length`, and `Upload-Metadata: filename <base64>`.

    The answer's `Location` takes the bytes. The first may come along, as `application/offset+octet-stream`.
    413 where the file is larger than this server or the workspace's quota takes.
    """
    return _collection(request)


@router.api_operation(["OPTIONS"], "", summary="What the server can do (tus)")
def abilities(request: HttpRequest) -> HttpResponse:
    """Version, extensions, the largest file and the checksum algorithms, as headers."""
    return _collection(request)


@router.get("{uuid:upload_id}", response={200: UploadOut, **ERRORS}, summary="Look at an upload")
def look(request: HttpRequest, upload_id: uuid.UUID) -> dict[str, Any]:
    who: Any = request
    upload = protocol.find(who.auth.user, who.auth.workspace, upload_id)
    try:
        return _described(receiving.current(upload))
    except receiving.Gone as error:
        raise ApiError(404, "not_found", "There is no such upload, or it is not yours.") from error


@router.api_operation(["HEAD"], "{uuid:upload_id}", summary="How far an upload is (tus)")
def head(request: HttpRequest, upload_id: uuid.UUID) -> HttpResponse:
    """`Upload-Offset` is the next byte to send; `Repr-Digest` the SHA-256 of a file that is whole."""
    return _single(request, upload_id)


@router.patch("{uuid:upload_id}", summary="Send bytes (tus)")
def patch(request: HttpRequest, upload_id: uuid.UUID) -> HttpResponse:
    """Headers: `Tus-Resumable`, `Upload-Offset`, `Content-Type: application/offset+octet-stream`.

    What arrives is kept, even if the connection breaks. With `Upload-Checksum: sha256 <base64>` (or sha1) nothing is
    kept unless all of it arrived as it was sent; 460 otherwise.
    """
    return _single(request, upload_id)


@router.delete("{uuid:upload_id}", summary="Give an upload up (tus)")
def delete(request: HttpRequest, upload_id: uuid.UUID) -> HttpResponse:
    return _single(request, upload_id)


@router.post("{uuid:upload_id}", summary="PATCH or DELETE by another name (tus)")
def override(request: HttpRequest, upload_id: uuid.UUID) -> HttpResponse:
    """With `X-HTTP-Method-Override`, for networks that let neither pass."""
    return _single(request, upload_id)
