"""Uploads from the browser: the tus client of the page, with the session and its CSRF token."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from webapp.accounts.access import editor_required
from webapp.api import ApiError, error_answer
from webapp.requests import Request
from webapp.uploads import protocol, receiving
from webapp.uploads.models import Upload


def _answered(work: Callable[[], HttpResponse]) -> HttpResponse:
    try:
        return work()
    except ApiError as error:
        return protocol.marked(error_answer(error.status, error.code, error.message, error.fields))


@require_http_methods(["OPTIONS", "POST"])
@editor_required
def collection(request: Request) -> HttpResponse:
    return _answered(lambda: protocol.collection(request, request.user, request.workspace, _address))


@require_http_methods(["OPTIONS", "HEAD", "PATCH", "DELETE", "POST"])
@editor_required
def single(request: Request, pk: uuid.UUID) -> HttpResponse:
    return _answered(lambda: protocol.single(request, request.user, request.workspace, pk))


@require_POST
@editor_required
def discard(request: Request, pk: uuid.UUID) -> HttpResponse:
    """The button beside an upload that was not finished; works without scripts."""
    try:
        upload = protocol.find(request.user, request.workspace, pk)
    except ApiError as error:
        return HttpResponse(error.message, status=error.status, content_type="text/plain")
    receiving.discard(upload)
    messages.success(request, f"What had arrived of “{upload.name}” is gone.")
    return redirect("datasets:upload")


def _address(upload: Upload) -> str:
    return reverse("uploads:single", args=[upload.pk])
