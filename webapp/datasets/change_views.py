"""What people do to make versions: the buttons beside findings, the list of versions, files that are added."""

from __future__ import annotations

import json

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from webapp.accounts.access import editor_required
from webapp.datasets import changing, intake
from webapp.datasets.browse_views import version_or_404
from webapp.datasets.edits import Wrong
from webapp.datasets.edits.classes import CLASSED
from webapp.datasets.forms import AddFilesForm, ClassesForm, add_errors
from webapp.datasets.models import Dataset, DatasetVersion
from webapp.datasets.versions import make_current, query_of
from webapp.requests import Request
from webapp.uploads import quota, receiving


@require_POST
@editor_required
def change(request: Request, pk: int) -> HttpResponse:
    """`change`: JSON, as a button has it; of the version that `version` in the address names."""
    dataset, version = version_or_404(request, pk)
    try:
        asked = json.loads(request.POST.get("change", ""))
    except (ValueError, RecursionError):
        asked = None
    try:
        changing.request_change(version, asked, request.user)
    except (Wrong, changing.Busy) as error:
        messages.error(request, str(error))
    return redirect("datasets:detail", dataset.pk)


@require_POST
@editor_required
def use_version(request: Request, pk: int, number: int) -> HttpResponse:
    dataset: Dataset = get_object_or_404(Dataset, workspace=request.workspace, pk=pk)
    version: DatasetVersion = get_object_or_404(dataset.versions, number=number)
    if make_current(dataset, version):
        messages.success(request, f"New runs get version {version.number} from now on.")
    else:
        messages.error(request, "A new version is being made; wait until it is there.")
    return redirect("datasets:detail", pk)


@require_http_methods(["GET", "POST"])
@editor_required
def classes(request: Request, pk: int, column: int) -> HttpResponse:
    """Classes of a column, counted from 0, to be joined, dropped or capped; a box each."""
    dataset, version = version_or_404(request, pk)
    found = version.columns[column] if column < len(version.columns) else {}
    if not found.get("names") or found["kind"] not in CLASSED:
        raise Http404("There is no such column of classes.")
    form = ClassesForm(found, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            changing.request_change(version, form.asked(), request.user)
        except Wrong as error:
            add_errors(form, error.fields)
        except changing.Busy as error:
            form.add_error(None, str(error))
        else:
            return redirect("datasets:detail", pk)
    context = {
        "dataset": dataset,
        "version": version,
        "column": found | {"number": column},
        "form": form,
        "version_query": query_of(dataset, version),
    }
    return render(request, "datasets/classes.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@editor_required
def add_files(request: Request, pk: int) -> HttpResponse:
    """More rows of the same columns."""
    dataset, version = version_or_404(request, pk)
    form = AddFilesForm()
    if request.method == "POST":
        form = AddFilesForm(request.POST, request.FILES)
        if getattr(request, "upload_too_large", False):
            form.add_error("file", "Together the files are over the limit of this server. Add fewer rows.")
        elif form.is_valid():
            said = form.cleaned_data
            try:
                if said["upload"]:
                    changing.add_uploads(version, said["upload"], said["split"], request.user)
                else:
                    asked = {"op": "add_files", "split": said["split"]}
                    changing.request_change(version, asked, request.user, said["file"])
            except changing.Busy as error:
                form.add_error(None, str(error))
            except (Wrong, intake.IntakeError) as error:
                add_errors(form, error.fields)
            else:
                return redirect("datasets:detail", pk)
    chosen = set(request.POST.getlist("upload"))
    context = {
        "form": form,
        "dataset": dataset,
        "version": version,
        "arrived": [
            each
            for each in receiving.uploads_of(request.user, request.workspace)
            if each.is_whole and str(each.pk) in chosen
        ],
        "quota": quota.quota_of(request.workspace),
    }
    return render(request, "datasets/add_files.html", context, status=422 if form.errors else 200)
