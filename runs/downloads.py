"""What people take away: each file of a run by itself, or the model folder as one zip.

Used by the pages and by the API. Nothing is in memory or on disk whole; files can be had in parts
(Range) and carry their SHA-256 as ETag and as Repr-Digest (RFC 9530).
"""

from __future__ import annotations

from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.text import slugify
from django.views.decorators.http import require_safe
from zipstream import ZIP_STORED, ZipStream

from runs import predictions
from runs.models import Artifact, Removal, Run
from webapp import serving, storage
from webapp.requests import Request


class Gone(Exception):
    """The file was there and has been removed; the message says by what."""


def find(artifacts: QuerySet[Artifact], name: str, run_id: int) -> Artifact:
    """The one that is called so; raises Gone if house-keeping removed it, Http404 if there never was one."""
    if "\0" in name:  # Postgres cannot even be asked
        raise Http404("No file has such a name.")
    found: Artifact | None = artifacts.filter(name=name).first()
    if found is None:
        check_not_removed(run_id, name)
        raise Http404("No file has such a name.")
    return found


def check_not_removed(run_id: int, name: str | None = None) -> None:
    """Raises Gone if the model files of this run, or the one of this name, were removed by a rule."""
    gone = Removal.objects.filter(run=run_id, kind=Removal.Kind.FILES)
    if name is not None:
        gone = gone.filter(details__names__contains=[name])
    if removal := gone.first():
        raise Gone(f"The model files of this run were removed on {removal.at:%d %B %Y}. {removal.reason}")


def gone_page(request: HttpRequest, gone: Gone) -> HttpResponse:
    return render(request, "housekeeping/gone.html", {"reason": str(gone)}, status=410)


def file_response(request: HttpRequest, artifact: Artifact) -> HttpResponseBase:
    """The file, or the one part of it that was asked for."""
    name = artifact.name.rsplit("/", 1)[-1]
    file = serving.StoredFile(artifact.storage_key, name, artifact.size, artifact.sha256)
    return serving.file_response(request, file)


def zip_response(run: Run) -> StreamingHttpResponse:
    """Every file of the model under one folder named after it, as it is read: stored, not compressed again."""
    folder = f"{slugify(run.name)[:60] or 'run'}-{run.pk}"
    stream = ZipStream(compress_type=ZIP_STORED, sized=True)
    for artifact in predictions.without(run.artifacts.all()):
        # Opened now: a file that is removed while others are sent is sent all the same (on a disk).
        try:
            source = storage.open_file(artifact.storage_key)
        except FileNotFoundError:
            raise Gone(f"{artifact.name} is no longer in storage.") from None
        stream.add(serving.read_whole(source), f"{folder}/{artifact.name}", size=artifact.size)
    response = StreamingHttpResponse(iter(stream), content_type="application/zip")
    response["Content-Length"] = str(len(stream))
    serving.attached(response, f"{folder}.zip")
    response["Cache-Control"] = "private, no-store"
    return response


@require_safe
def artifact(request: Request, pk: int, name: str) -> HttpResponseBase:
    run = get_object_or_404(Run.objects.visible_to(request.user), pk=pk)
    try:
        return file_response(request, find(run.artifacts.all(), name, run.pk))
    except Gone as gone:
        return gone_page(request, gone)


@require_safe
def artifacts_zip(request: Request, pk: int) -> HttpResponseBase:
    run = get_object_or_404(Run.objects.visible_to(request.user), pk=pk)
    try:
        if not run.artifacts.exists():
            check_not_removed(run.pk)
            raise Http404("This run has no files.")
        return zip_response(run)
    except Gone as gone:
        return gone_page(request, gone)
