"""The page where a person says what a dataset is for, and sees three rows as the model will see them."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from webapp.accounts.access import check_may_edit
from webapp.datasets import changing
from webapp.datasets.browse_views import version_or_404
from webapp.datasets.edits import Wrong
from webapp.datasets.forms import add_errors
from webapp.datasets.mapping import MappingForm, field_name
from webapp.datasets.mapping_examples import examples_of, given_columns
from webapp.datasets.models import DatasetVersion
from webapp.polling import told_apart
from webapp.requests import Request

MOST_DIGITS = 15


@require_http_methods(["GET", "POST"])
def mapping(request: Request, pk: int) -> HttpResponse:
    """The form with its examples; asked for by htmx, what changes with a choice. Sent by POST, it makes a version."""
    dataset, version = version_or_404(request, pk)
    if request.method == "POST":
        check_may_edit(request)
        form = MappingForm(version, request.POST, saving=True)
        if form.is_valid() and _saved(request, version, form):
            return redirect("datasets:detail", pk)
    else:
        form = MappingForm(version, request.GET)
    chosen = form.chosen()
    split = _split(version, request.GET.get("split", ""))
    start = request.GET.get("start", "")
    number = int(start) if start.isdecimal() and len(start) <= MOST_DIGITS else 1
    given = given_columns(version, form.needs, chosen)
    context: dict[str, Any] = {
        "dataset": dataset,
        "version": version,
        "form": form,
        "is_current": version.pk == dataset.version_id,
        "version_query": f"?version={version.number}",
        "splits": [(name, rows) for name, rows in version.splits.items() if rows],
        "asked": {"split": split},
        "given": given,
        "examples": examples_of(version, split, number, given, checked=form.needs is not None),
    }
    template = "datasets/mapping.html#work" if request.htmx else "datasets/mapping.html"
    response = render(request, template, context, status=422 if request.method == "POST" else 200)
    return told_apart(response)


def _saved(request: Request, version: DatasetVersion, form: MappingForm) -> bool:
    """Whether a version with these choices is being made; if not, the form says why."""
    assert form.needs is not None
    asked = {"op": "map", "task": form.needs.slug, "columns": form.chosen()}
    try:
        changing.request_change(version, asked, request.user)
    except Wrong as error:
        controls = {name: name if name in form.fields else field_name(name) for name in error.fields}
        add_errors(form, {controls[name]: message for name, message in error.fields.items()})
    except changing.Busy as error:
        form.add_error(None, str(error))
    return form.is_valid()


def _split(version: DatasetVersion, asked: str) -> str:
    """The one to train on, unless another that has rows was asked for."""
    known = [name for name, rows in version.splits.items() if rows]
    if asked in known:
        return asked
    return "train" if "train" in known else next(iter(known), "")
