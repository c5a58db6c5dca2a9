"""A dataset of a run's predictions, by HTTP."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router

from runs import predictions
from runs.api.runs import runs_of
from webapp.api import ERRORS, ApiError, require_editor
from webapp.datasets.api import DatasetOut, described
from webapp.datasets.api_common import refused
from webapp.datasets.intake import IntakeError

router = Router(tags=["runs"])


@router.post(
    "/{int:run_id}/predictions/dataset",
    response={201: DatasetOut, **ERRORS},
    summary="Make a dataset of a run's predictions",
)
def predictions_dataset(request: HttpRequest, run_id: int) -> tuple[int, dict[str, Any]]:
    """The rows that it was tested on, each with `prediction`, `score` and `right`; of language models with `loss`.

    409 where the run keeps none; 413 over the workspace's quota.
    """
    require_editor(request)
    token: Any = request.auth  # type: ignore[attr-defined]
    run = get_object_or_404(runs_of(request), pk=run_id)
    try:
        return 201, described(predictions.make_dataset(run, token.user))
    except predictions.NoPredictions as error:
        raise ApiError(409, "not_allowed", str(error)) from error
    except IntakeError as error:
        raise refused(error) from error
