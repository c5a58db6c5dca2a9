"""Pages about datasets: the list, the upload, a page a dataset."""

from __future__ import annotations

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import F
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from webapp import storage
from webapp.accounts.access import editor_required
from webapp.datasets import deleting, intake, samples, sources, suggestion
from webapp.datasets.exporting import offered
from webapp.datasets.forms import HubForm, RenameForm, UploadForm, add_errors
from webapp.datasets.listing import DatasetFilter
from webapp.datasets.models import Change, Dataset, DatasetVersion
from webapp.datasets.presentation import found_problems, shown_columns, shown_rows, split_story
from webapp.datasets.preview import content_type
from webapp.datasets.rows import asked_row
from webapp.datasets.token_views import shown_lengths
from webapp.datasets.versions import find_version, large, query_of
from webapp.polling import not_modified, polls, tag_of, tag_of_many, tagged
from webapp.requests import Request
from webapp.uploads import quota, receiving

PAGE = 30


def _dataset(request: Request, pk: int) -> Dataset:
    mine = Dataset.objects.filter(workspace=request.workspace).select_related("version", "created_by")
    dataset: Dataset = get_object_or_404(mine, pk=pk)
    return dataset


@require_GET
def dataset_list(request: Request) -> HttpResponse:
    mine = Dataset.objects.filter(workspace=request.workspace)
    chosen = DatasetFilter(request.GET)
    found = chosen.apply(mine).select_related("version").prefetch_related("files")
    page = Paginator(found, PAGE).get_page(request.GET.get("page"))
    rows = list(page.object_list)
    tag = tag_of_many([(row.pk, row.row_version) for row in rows], request.get_full_path())
    if request.htmx and (unchanged := not_modified(request, tag)):
        return unchanged
    used = set(
        mine.exclude(sample="").exclude(status=Dataset.Status.INVALID).values_list("sample", flat=True)
    )
    context = {
        "filter": chosen,
        "page": page,
        "total": mine.count(),
        "working": any(row.status == Dataset.Status.INSPECTING for row in rows),
        "samples": [(sample, sample.slug in used) for sample in samples.all_samples()],
        "tasks": suggestion.registered(),
        "tag": tag,
    }
    template = "datasets/list.html#rows" if request.htmx else "datasets/list.html"
    return tagged(render(request, template, context), tag)


@require_http_methods(["GET", "POST"])
@editor_required
def upload(request: Request) -> HttpResponse:
    form = UploadForm()
    if request.method == "POST":
        form = UploadForm(request.POST, request.FILES)
        if getattr(request, "upload_too_large", False):
            form.add_error("file", "Together the files are over the limit of this server. Upload fewer rows.")
        elif form.is_valid():
            try:
                dataset = _made(request, form)
            except intake.IntakeError as error:
                add_errors(form, error.fields)
            else:
                return redirect("datasets:detail", dataset.pk)
    return upload_page(request, form, HubForm())


def upload_page(request: Request, form: UploadForm, hub_form: HubForm) -> HttpResponse:
    """Both ways to a new dataset, with what was wrong with one of them."""
    chosen = set(request.POST.getlist("upload"))
    mine = list(receiving.uploads_of(request.user, request.workspace))
    context = {
        "form": form,
        "hub_form": hub_form,
        "arrived": [each for each in mine if each.is_whole and str(each.pk) in chosen],
        "unfinished": [each for each in mine if str(each.pk) not in chosen],
        "quota": quota.quota_of(request.workspace),
    }
    return render(
        request, "datasets/upload.html", context, status=422 if form.errors or hub_form.errors else 200
    )


def _made(request: Request, form: UploadForm) -> Dataset:
    """Of files that came piece by piece before the form, or of those that came with it."""
    said = form.cleaned_data
    if said["upload"]:
        return intake.create_of_uploads(
            workspace=request.workspace,
            user=request.user,
            uploads=said["upload"],
            name=said["name"],
            request=form.request(),
        )
    return intake.create_dataset(
        workspace=request.workspace,
        user=request.user,
        files=said["file"],
        name=said["name"],
        request=form.request(),
    )


@require_POST
@editor_required
def use_sample(request: Request, slug: str) -> HttpResponse:
    try:
        dataset = samples.use_sample(slug, request.workspace, request.user)
    except KeyError as error:
        raise Http404(str(error)) from error
    return redirect("datasets:detail", dataset.pk)


@require_GET
def detail(request: Request, pk: int) -> HttpResponse:
    """Of the version that new runs get, or of the one that `version` names."""
    dataset = _dataset(request, pk)
    version = find_version(dataset, request.GET.get("version", ""))
    if version is None and request.GET.get("version"):
        raise Http404("There is no such version.")
    context = {
        **_shown(dataset, version),
        **shown_lengths(version, request.user),
        "asked_row": asked_row(version, request.GET),
    }
    return tagged(render(request, "datasets/detail.html", context), tag_of(dataset))


@polls(Dataset)
@require_GET
def progress(request: Request, pk: int) -> HttpResponse:
    """The part of the page that changes while files are inspected."""
    dataset = _dataset(request, pk)
    tag = tag_of(dataset)
    if unchanged := not_modified(request, tag):
        return unchanged
    context = {**_shown(dataset, dataset.version), **shown_lengths(dataset.version, request.user)}
    response = tagged(render(request, "datasets/detail.html#progress", context), tag)
    if not context["is_under_way"]:  # there is more on the page now: what can be done with a version
        response["HX-Refresh"] = "true"
    return response


def _shown(dataset: Dataset, version: DatasetVersion | None) -> dict[str, object]:
    suggested = version.suggested if version else {}
    needs = suggestion.registered().get(suggested.get("task", ""))
    is_current = version is None or version.pk == dataset.version_id
    known = dataset.versions.select_related("parent", "created_by").order_by("-number")
    versions = list(known.defer(*large(""), *large("parent__")))
    change = dataset.changes.select_related("parent").defer(*large("parent__")).first()
    return {
        "dataset": dataset,
        "version": version,
        "is_current": is_current,
        "version_query": query_of(dataset, version) if version else "",
        "versions": versions if len(versions) > 1 else [],
        "is_under_way": dataset.status == Dataset.Status.INSPECTING
        or (change is not None and change.status == Change.Status.WAITING),
        "change": change if change and change.status != Change.Status.DONE else None,
        "problems": found_problems(dataset, version),
        "files": dataset.files.order_by("pk"),
        "source": sources.shown(dataset),
        "tag": tag_of(dataset),
        "columns": shown_columns(version) if version else [],
        "rows": shown_rows(version) if version else [],
        "exports": offered(version) if version else [],
        "split_story": split_story(version) if version else "",
        "task_title": needs.title if needs else "",
    }


@require_GET
def picture(request: Request, pk: int, name: str) -> HttpResponse:
    """A picture of the first rows, as nothing but a picture."""
    version = find_version(_dataset(request, pk), request.GET.get("version", ""))
    known = {
        value.get("picture")
        for row in (version.preview if version else [])
        for value in row.values()
        if isinstance(value, dict)
    }
    if version is None or not name or name not in known:
        raise Http404("There is no such picture.")
    try:
        with storage.open_file(f"datasets/{pk}/previews/{version.content_hash}/{name}") as opened:
            data = opened.read()
    except FileNotFoundError as error:
        raise Http404("There is no such picture.") from error
    response = HttpResponse(data, content_type=content_type(data) or "application/octet-stream")
    response["Content-Disposition"] = f'inline; filename="{name}"'
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["Cache-Control"] = "private, max-age=3600"
    return response


@require_http_methods(["GET", "POST"])
@editor_required
def rename(request: Request, pk: int) -> HttpResponse:
    dataset = _dataset(request, pk)
    form = RenameForm(request.POST if request.method == "POST" else None, instance=dataset)
    if request.method == "POST" and form.is_valid():
        Dataset.objects.filter(pk=pk, workspace=request.workspace).update(
            name=form.cleaned_data["name"],
            description=form.cleaned_data["description"],
            row_version=F("row_version") + 1,
        )
        return redirect("datasets:detail", pk)
    status = 422 if form.errors else 200
    return render(request, "datasets/rename.html", {"form": form, "dataset": dataset}, status=status)


@require_POST
@editor_required
def delete(request: Request, pk: int) -> HttpResponse:
    dataset = _dataset(request, pk)
    try:
        deleting.delete_dataset(dataset, request.user)
    except deleting.InUse as refused:
        messages.error(request, str(refused))
        return redirect("datasets:detail", pk)
    told = f"“{dataset.name}” is deleted. Its files leave storage within seconds, or as soon as storage lets them."
    messages.success(request, told)
    return redirect("datasets:list")
