"""The part of a dataset's page that says how long its texts are in tokens of a model."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from webapp.accounts.access import editor_required
from webapp.accounts.models import User
from webapp.catalog.tokenizers import models_with_tokenizer
from webapp.datasets.browse_views import version_or_404
from webapp.datasets.models import Dataset, DatasetVersion, TokenLengths
from webapp.datasets.token_lengths import has_texts, request_count
from webapp.polling import not_modified, polls_by, tag_of, tagged
from webapp.requests import Request
from webapp.storable import findable

TEMPLATE = "datasets/token_lengths.html"


# Nothing new in a count that is being made: one query, as webapp/polling.py asks it.
UNCHANGED = """
SELECT 1
FROM accounts_session session
JOIN accounts_user person ON person.id = session.user_id AND person.is_active
JOIN accounts_membership membership ON membership.user_id = person.id
JOIN datasets_dataset dataset ON dataset.workspace_id = membership.workspace_id
JOIN datasets_datasetversion version ON version.dataset_id = dataset.id
JOIN datasets_tokenlengths lengths ON lengths.version_id = version.id
WHERE session.session_key = %s AND session.expire_date > now() AND lengths.id = %s AND lengths.row_version = %s
"""


@polls_by(UNCHANGED)
@require_GET
def token_lengths(request: Request, pk: int) -> HttpResponse:
    """The count in tokens of `model`, a slug: the fragment for htmx, else the page that it is on."""
    dataset, version = version_or_404(request, pk)
    found = get_object_or_404(
        _counts(version, request.user), model__slug=findable(request.GET.get("model", ""))
    )
    return _answer(request, dataset, version, found)


@require_POST
@editor_required
def count_tokens(request: Request, pk: int) -> HttpResponse:
    """Have tokens of `model`, a slug, counted."""
    dataset, version = version_or_404(request, pk)
    model = get_object_or_404(
        models_with_tokenizer(request.user), slug=findable(request.POST.get("model", ""))
    )
    if not has_texts(version):
        raise Http404("There are no texts to count tokens of.")
    return _answer(request, dataset, version, request_count(version, model))


def _answer(request: Request, dataset: Dataset, version: DatasetVersion, found: TokenLengths) -> HttpResponse:
    query = f"?version={version.number}" if request.GET.get("version") else ""
    if not request.htmx:
        return redirect(f"{reverse('datasets:detail', args=[dataset.pk])}{query}#tokens")
    tag = tag_of(found)
    if request.method == "GET" and (unchanged := not_modified(request, tag)):
        return unchanged
    context = {
        "dataset": dataset,
        "version": version,
        "version_query": query,
        **shown_lengths(version, request.user, found),
    }
    return tagged(render(request, TEMPLATE, context), tag)


def _counts(version: DatasetVersion, user: User) -> Any:
    """Those of models that the person may see."""
    return version.token_lengths.filter(model__in=models_with_tokenizer(user)).select_related("model")


def shown_lengths(
    version: DatasetVersion | None, user: User, found: TokenLengths | None = None
) -> dict[str, Any]:
    """What the template needs: the models to choose from, and `found` or the count that was asked for last."""
    if version is None or not has_texts(version):
        return {"token_models": []}
    models = list(models_with_tokenizer(user))
    lengths = found or _counts(version, user).first()
    result = lengths.result if lengths else {}
    lines = [*result.get("columns", []), *([result["together"]] if result.get("together") else [])]
    return {
        "token_models": models,
        "lengths": lengths,
        "lengths_tag": tag_of(lengths) if lengths else "",
        "length_lines": [
            line
            | {
                "share": 100 * line["cut"] / line["rows"]
                if line["rows"] and line["cut"] is not None
                else None
            }
            for line in lines
        ],
        "unknown_lines": [line for line in lines if line["unknown"]],
    }
