"""How long a dataset's texts are in tokens of a model, by HTTP."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Query, Router, Schema

from webapp.api import ERRORS, ApiError, require_editor
from webapp.catalog.models import BaseModel
from webapp.catalog.tokenizers import models_with_tokenizer
from webapp.datasets.api_common import dataset_of, version_of
from webapp.datasets.models import DatasetVersion, TokenLengths
from webapp.datasets.token_lengths import has_texts, request_count

router = Router(tags=["datasets"])


class LengthsOut(Schema):
    """`result` while `status` is done: {rows, counted, limit, columns: [{name, rows, p50, p95, max, split, row, total, cut,
    unknown}], together}. `split` and `row` are of the longest text, `cut` says how many are over the limit, `unknown` what
    the tokenizer does not know: {rows, pieces: [[text, how often]], split, row}. `together`: all texts of a row in one."""

    model: str
    version: int
    status: str
    result: dict[str, Any]
    problems: list[dict[str, Any]]
    stage: str
    done: int
    total: int


class CountIn(Schema):
    """`model`: its slug; `version`: a number, left out for the one that new runs get."""

    model: str
    version: int | None = None


def _asked(request: Any, dataset_id: int, slug: str, number: int | None) -> tuple[DatasetVersion, BaseModel]:
    version = version_of(dataset_of(request, dataset_id), number)
    model = models_with_tokenizer(request.auth.user).filter(slug=slug).first()
    if model is None:
        raise ApiError(404, "not_found", "There is no such model that reads texts.")
    return version, model


def _out(lengths: TokenLengths) -> dict[str, Any]:
    return {
        "model": lengths.model.slug,
        "version": lengths.version.number,
        "status": lengths.status,
        "result": lengths.result,
        "problems": lengths.problems,
        "stage": lengths.stage,
        "done": lengths.progress_done,
        "total": lengths.progress_total,
    }


@router.get(
    "{int:dataset_id}/token-lengths",
    response={200: LengthsOut, **ERRORS},
    summary="Look at lengths in tokens",
)
def get_lengths(
    request: HttpRequest,
    dataset_id: int,
    model: str = Query("", description="its slug"),  # type: ignore[type-arg]
    version: int | None = None,
) -> dict[str, Any]:
    """404 until somebody has asked for them to be counted."""
    found_version, found_model = _asked(request, dataset_id, model, version)
    lengths = found_version.token_lengths.filter(model=found_model).select_related("model", "version").first()
    if lengths is None:
        raise ApiError(404, "not_found", "Nobody has had these tokens counted: POST to this address first.")
    return _out(lengths)


@router.post(
    "{int:dataset_id}/token-lengths",
    response={202: LengthsOut, **ERRORS},
    summary="Have tokens counted",
)
def count(request: HttpRequest, dataset_id: int, payload: CountIn) -> tuple[int, dict[str, Any]]:
    """Counted once for a version and a model. Look again while `status` is waiting."""
    require_editor(request)
    version, model = _asked(request, dataset_id, payload.model, payload.version)
    if not has_texts(version):
        raise ApiError(422, "invalid", "There are no texts in this dataset to count tokens of.")
    return 202, _out(request_count(version, model))
