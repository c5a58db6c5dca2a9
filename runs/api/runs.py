"""Runs over HTTP: the same domain functions as the pages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404
from ninja import Field, Query, Router, Schema
from pydantic import ConfigDict

from runs import downloads, lifecycle
from runs.launch import LaunchError, launch
from runs.models import Run
from webapp.api import ERRORS, MOST_ROWS, ApiError, require_editor
from webapp.catalog.models import BaseModel
from webapp.datasets.models import Dataset

POINTS = 5_000  # of one answer

router = Router(tags=["runs"])


class RunIn(Schema):
    """What to fine-tune on what, and how. What is left out is suggested by the dataset or the task."""

    model_config = ConfigDict(extra="forbid")  # a misspelt field would train for hours with a default

    model: str = Field(description="id of a model")
    dataset: int = Field(description="id of a dataset that is ready")
    method: str = Field(description="full, last_layers, head, lora, …: see the task")
    task: str = Field("", description="the dataset's suggestion if left out")
    columns: dict[str, str] | None = Field(None, description="{role: column}; suggested if left out")
    settings: dict[str, Any] | None = Field(None, description="defaults where left out")
    name: str = Field("", max_length=200)


class FailureOut(Schema):
    code: str
    message: str
    hint: str = ""


class ArtifactOut(Schema):
    name: str
    size: int
    sha256: str
    url: str


class RunOut(Schema):
    """A run. `metrics` are those of the test split, with `validation_` in front those of the validation split."""

    id: int
    name: str
    status: str
    phase: str
    step: int
    total_steps: int
    epoch: float
    eta_seconds: float | None
    rate: float | None
    model: str
    dataset: int | None
    dataset_name: str
    dataset_hash: str
    task: str
    method: str
    columns: dict[str, str]
    settings: dict[str, Any]
    metrics: dict[str, float | None]
    baseline: dict[str, Any]
    failure: FailureOut | None
    artifacts: list[ArtifactOut]
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class RunPageOut(Schema):
    items: list[RunOut]
    count: int


class PointOut(Schema):
    series: str
    step: int
    value: float
    at: datetime


class PointsOut(Schema):
    """Points in the order they were last written; ask again with `since=next`."""

    points: list[PointOut]
    next: str
    more: bool


def _run_out(request: HttpRequest, run: Run) -> dict[str, Any]:
    row = {name: getattr(run, name) for name in RunOut.model_fields if name in _PLAIN}
    artifacts = [
        {
            "name": item.name,
            "size": item.size,
            "sha256": item.sha256,
            "url": request.build_absolute_uri(f"/api/v1/runs/{run.pk}/artifacts/{item.name}"),
        }
        for item in run.artifacts.all()
    ]
    version = run.dataset_version
    return {
        **row,
        "id": run.pk,
        "model": run.base_model.slug,
        "dataset": version.dataset_id if version is not None else None,
        "failure": run.failure or None,
        "artifacts": artifacts,
    }


_PLAIN = {field.name for field in Run._meta.get_fields()} - {"artifacts", "failure"}


def _runs(request: Any) -> Any:
    return (
        Run.objects.filter(workspace=request.auth.workspace)
        .select_related("base_model", "dataset_version")
        .prefetch_related("artifacts")
    )


@router.post("", response={201: RunOut, **ERRORS}, summary="Launch a run")
def launch_run(request: HttpRequest, payload: RunIn) -> Any:
    """Checks everything that can be known before training, and queues the run."""
    require_editor(request)
    token: Any = request.auth  # type: ignore[attr-defined]
    model = BaseModel.objects.visible_to(token.user).filter(slug=payload.model).first()
    dataset = (
        Dataset.objects.filter(workspace=token.workspace, pk=payload.dataset)
        .select_related("version")
        .first()
    )
    wrong = {}
    if model is None:
        wrong["model"] = f"There is no model {payload.model!r}; GET models lists them."
    if dataset is None:
        wrong["dataset"] = f"There is no dataset {payload.dataset} in this workspace."
    elif dataset.version is None or dataset.status != Dataset.Status.READY:
        wrong["dataset"] = (
            f"{dataset.name} cannot be trained on: it is {dataset.get_status_display().lower()}."
        )
    if wrong or model is None or dataset is None or dataset.version is None:
        raise ApiError(422, "invalid", next(iter(wrong.values())), wrong)
    try:
        run = launch(
            workspace=token.workspace,
            user=token.user,
            base_model=model,
            version=dataset.version,
            task=payload.task,
            columns=payload.columns,
            method=payload.method,
            settings=payload.settings,
            name=payload.name,
        )
    except LaunchError as refused:
        raise ApiError(422, "invalid", str(refused), refused.fields) from refused
    return 201, _run_out(request, run)


@router.get("", response={200: RunPageOut, **ERRORS}, summary="List runs")
def list_runs(
    request: HttpRequest,
    status: str = Query("", description="queued, running, paused, succeeded, failed or cancelled"),  # type: ignore[type-arg]
    task: str = "",
    limit: int = Query(50, ge=1, le=200),  # type: ignore[type-arg]
    offset: int = Query(0, ge=0, le=MOST_ROWS),  # type: ignore[type-arg]
) -> Any:
    """Newest first."""
    runs = _runs(request)
    if status:
        if status not in Run.Status.values:
            known = ", ".join(Run.Status.values)
            raise ApiError(422, "invalid", f"status is one of: {known}", {"status": f"one of: {known}"})
        runs = runs.filter(status=status)
    if task:
        runs = runs.filter(task=task)
    page = runs.order_by("-created_at", "-pk")[offset : offset + limit]
    return {"items": [_run_out(request, run) for run in page], "count": runs.count()}


@router.get("/{int:run_id}", response={200: RunOut, **ERRORS}, summary="One run")
def one_run(request: HttpRequest, run_id: int) -> Any:
    """Status, progress, metrics beside the baseline, and files once it is done."""
    return _run_out(request, get_object_or_404(_runs(request), pk=run_id))


@router.get("/{int:run_id}/metrics", response={200: PointsOut, **ERRORS}, summary="Points of every series")
def run_metrics(request: HttpRequest, run_id: int, since: str = "") -> Any:
    """Points written since a cursor (`next` of the last answer), oldest first.

    A point that a resumed run wrote again comes again: keep the newest value by series and step.
    """
    run = get_object_or_404(_runs(request), pk=run_id)
    points = run.points.order_by("at", "pk")
    if since:
        at, _, last = since.rpartition(".")
        try:
            cursor = (datetime.fromisoformat(at).astimezone(UTC), int(last))
        except (ValueError, OverflowError):
            raise ApiError(
                422, "invalid", "since is the `next` of an earlier answer.", {"since": "unknown"}
            ) from None
        points = points.extra(where=["(at, id) > (%s, %s)"], params=list(cursor))
    found = list(points[: POINTS + 1])
    shown = found[:POINTS]
    # "Z" and not "+00:00": a plus sign that is pasted into an address is read as a blank.
    following = f"{shown[-1].at:%Y-%m-%dT%H:%M:%S.%fZ}.{shown[-1].pk}" if shown else since
    return {"points": shown, "next": following, "more": len(found) > POINTS}


@router.post("/{int:run_id}/cancel", response={200: RunOut, **ERRORS}, summary="Cancel a run")
def cancel_run(request: HttpRequest, run_id: int) -> Any:
    """A run that waits ends at once; one that trains is asked to stop. 409 if it is over."""
    require_editor(request)
    run = get_object_or_404(_runs(request), pk=run_id)
    try:
        lifecycle.request_cancel(run.pk, request.auth.user)  # type: ignore[attr-defined]
    except lifecycle.NotAllowed as refused:
        raise ApiError(409, "not_allowed", str(refused)) from refused
    return _run_out(request, get_object_or_404(_runs(request), pk=run_id))


@router.get("/{int:run_id}/artifacts/{path:name}", response={200: bytes, **ERRORS}, summary="Download a file")
def run_artifact(request: HttpRequest, run_id: int, name: str) -> HttpResponseBase:
    """Supports Range; the ETag is the SHA-256."""
    run = get_object_or_404(_runs(request), pk=run_id)
    try:
        return downloads.file_response(request, downloads.find(run.artifacts.all(), name, run.pk))
    except downloads.Gone as gone:
        raise ApiError(410, "gone", str(gone)) from gone


@router.get("/{int:run_id}/artifacts.zip", response={200: bytes, **ERRORS}, summary="Download all files")
def run_zip(request: HttpRequest, run_id: int) -> HttpResponseBase:
    """The model folder as one zip."""
    run = get_object_or_404(_runs(request), pk=run_id)
    try:
        if not run.artifacts.all():
            downloads.check_not_removed(run.pk)
            raise ApiError(404, "not_found", "This run has no files yet.")
        return downloads.zip_response(run)
    except downloads.Gone as gone:
        raise ApiError(410, "gone", str(gone)) from gone
