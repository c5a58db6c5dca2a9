"""The page on which the split of a version is said anew: what comes of each choice is shown before it is made."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from webapp.accounts.access import editor_required
from webapp.datasets import changing
from webapp.datasets.browse_views import version_or_404
from webapp.datasets.edits import Wrong, checked
from webapp.datasets.edits.plan import Parent
from webapp.datasets.edits.split import WAYS, assign, sizes_of, values_of
from webapp.datasets.forms import SplitForm, add_errors
from webapp.datasets.models import DatasetVersion
from webapp.datasets.problems import Refused
from webapp.datasets.searching import SECONDS, Busy, turn
from webapp.datasets.shards import NotHere, on_disk, shards_of
from webapp.datasets.versions import query_of
from webapp.polling import told_apart
from webapp.requests import Request


@dataclass(frozen=True)
class Outcome:
    """What would come of a choice: rows a split, or why none."""

    sizes: dict[str, int]
    trouble: str = ""


@require_http_methods(["GET", "POST"])
@editor_required
def split(request: Request, pk: int) -> HttpResponse:
    """Choices stand in the address; sent by POST, a version is made."""
    dataset, version = version_or_404(request, pk)
    said = request.POST if request.method == "POST" else request.GET
    form = SplitForm(version, said)
    form.values_found, trouble = _values(version, form.by) if form.way == "column" else ([], "")
    asked = form.asked()
    trouble = trouble or form.trouble
    if request.method == "POST" and not form.trouble:
        try:
            changing.request_change(version, asked, request.user)
        except Wrong as error:
            add_errors(form, error.fields)
        except changing.Busy as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, "A new version is being made with this split.")
            return redirect("datasets:detail", pk)
    context = {
        "dataset": dataset,
        "version": version,
        "form": form,
        "ways": WAYS,
        "splits": [("train", "Train"), ("validation", "Validate"), ("test", "Test")],
        "outcome": Outcome({}, trouble) if trouble else _outcome(version, asked),
        "version_query": query_of(dataset, version),
    }
    template = "datasets/split.html#choices" if request.htmx else "datasets/split.html"
    response = render(request, template, context, status=422 if request.method == "POST" else 200)
    return told_apart(response)


def _outcome(version: DatasetVersion, asked: dict[str, Any]) -> Outcome:
    try:
        whole = checked(asked, changing.facts_of(version))
        with _opened(version) as parent:
            return Outcome(sizes_of(assign(parent, whole)))
    except Wrong as error:
        return Outcome({}, str(error))
    except Refused as error:
        return Outcome({}, f"{error.problem.message} {error.problem.hint}")
    except (NotHere, Busy) as error:
        return Outcome({}, str(error))
    except duckdb.Error:
        return Outcome({}, "How many rows there would be cannot be found here; the version can be made.")


def _values(version: DatasetVersion, column: str) -> tuple[list[Any], str]:
    """(the values of a column, why they cannot be had)"""
    if column not in {each["name"] for each in version.columns}:
        return [], "Choose a column."
    try:
        with _opened(version) as parent:
            return values_of(parent, column), ""
    except Refused as error:
        return [], f"{error.problem.message} {error.problem.hint}"
    except (NotHere, Busy) as error:
        return [], str(error)


@contextmanager
def _opened(version: DatasetVersion) -> Iterator[Parent]:
    """The rows of the version on this host. Raises NotHere, or Busy where others are asked about already."""
    shards = shards_of(version)
    if {shard.split for shard in shards} != set(version.splits):
        raise NotHere("The files of this version are missing from storage. Upload the dataset again.")
    with turn(), on_disk(shards) as paths, tempfile.TemporaryDirectory(prefix="split-") as scratch:
        files = {shard.split: str(path) for shard, path in zip(shards, paths, strict=True)}
        parent = Parent(files, changing.facts_of(version), Path(scratch))
        over = threading.Timer(SECONDS, parent.rows.connection.interrupt)
        over.start()
        try:
            yield parent
        finally:
            over.cancel()
            parent.close()
