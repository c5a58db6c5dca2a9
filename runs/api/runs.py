"""Runs over HTTP: the same domain functions as the pages."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404
from ninja import Field, Query, Router, Schema
from pydantic import ConfigDict

from runs import downloads, next_steps
from runs.api.scheduling import SchedulingIn, WaitingOut, scheduling_of, waiting_out
from runs.launch import LaunchError, launch
from runs.models import Run, Worker
from runs.queueing.routing import online
from webapp.api import ERRORS, MOST_ROWS, ApiError, require_editor
from webapp.catalog.models import BaseModel
from webapp.datasets.models import Dataset, DatasetVersion
from webapp.datasets.versions import find_version

POINTS = 5_000  # of one answer

router = Router(tags=["runs"])


class RunIn(SchedulingIn):
    """What to fine-tune on what, how and when. What is left out is suggested by the dataset or the task."""

    model_config = ConfigDict(extra="forbid")  # a misspelt field would train for hours with a default

    model: str = Field(description="id of a model")
    dataset: int = Field(description="id of a dataset that is ready")
    version: int | None = Field(
        None, description="number of the dataset's version; the current one if left out"
    )
    method: str = Field(description="full, last_layers, head, lora, …: see the task")
    task: str = Field("", description="the dataset's suggestion if left out")
    columns: dict[str, str] | None = Field(None, description="{role: column}; suggested if left out")
    settings: dict[str, Any] | None = Field(None, description="defaults where left out")
    name: str = Field("", max_length=200)
    devices: int = Field(1, description="on each host: 1, 2, 4 or 8")
    hosts: int = Field(1, description="that train it together")
    strategy: str = Field("", description="how they share the work: ddp (if left out) or fsdp2")


class ActionOut(Schema):
    """What can be done about a failure: a page to open (GET), or what to send (POST, without a body)."""

    kind: str
    title: str
    method: str
    url: str


class FailureOut(Schema):
    """Why a run failed. `details`: of `bad_data`, the split, row (from 1) and column where that is known."""

    code: str
    message: str
    hint: str = ""
    details: dict[str, Any] = {}
    actions: list[ActionOut] = []


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
    dataset_version: int | None
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
    queue: str
    devices: int
    hosts: int
    strategy: str
    priority: str
    not_before: datetime | None
    after: int | None
    time_limit_seconds: int | None
    memory_bytes: int | None
    made_from: int | None
    waiting: WaitingOut | None
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


def run_out(request: HttpRequest, run: Run, workers: list[Worker] | None = None) -> dict[str, Any]:
    """A run as answers show it; `workers`: those online, for one run of a list."""
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
        "devices": run.processes,
        "hosts": run.nodes,
        "model": run.base_model.slug,
        "dataset": version.dataset_id if version is not None else None,
        "dataset_version": version.number if version is not None else None,
        "failure": _failure_out(request, run) if run.failure else None,
        "artifacts": artifacts,
        "priority": Run.Priority(run.priority).name.lower(),
        "after": run.after_id,
        "made_from": run.made_from_id,
        "waiting": waiting_out(run, workers),
    }


def _failure_out(request: HttpRequest, run: Run) -> dict[str, Any]:
    actions = []
    for step in next_steps.after_failure(run):
        path = f"/api/v1/runs/{run.pk}/{step.kind}" if step.method == "POST" else step.url
        url = request.build_absolute_uri(path)
        actions.append({"kind": step.kind, "title": step.title, "method": step.method, "url": url})
    return {**run.failure, "actions": actions}


_PLAIN = {field.name for field in Run._meta.get_fields()} - {
    "artifacts",
    "failure",
    "priority",
    "after",
    "made_from",
}


def runs_of(request: Any) -> Any:
    """The runs of the token's workspace."""
    return (
        Run.objects.filter(workspace=request.auth.workspace)
        .select_related("base_model", "dataset_version", "workspace", "after")
        .prefetch_related("artifacts")
    )


def chosen_model(token: Any, slug: str) -> BaseModel | str:
    """The model of this id, or what is wrong with it."""
    found = BaseModel.objects.visible_to(token.user).filter(slug=slug).first()
    return found or f"There is no model {slug!r}; GET models lists them."


def chosen_version(token: Any, pk: int, number: int | None = None) -> DatasetVersion | str:
    """The version of a dataset that new runs get, or that of this number; or what is wrong."""
    datasets = Dataset.objects.filter(workspace=token.workspace).select_related("version")
    found: Dataset | None = datasets.filter(pk=pk).first()
    if found is None:
        return f"There is no dataset {pk} in this workspace."
    if found.version is None or found.status != Dataset.Status.READY:
        return f"{found.name} cannot be trained on: it is {found.get_status_display().lower()}."
    if number is None:
        return found.version
    return find_version(found, str(number)) or f"{found.name} has no version {number}."


@router.post("", response={201: RunOut, **ERRORS}, summary="Launch a run")
def launch_run(request: HttpRequest, payload: RunIn) -> Any:
    """Checks everything that can be known before training, and queues the run."""
    require_editor(request)
    token: Any = request.auth  # type: ignore[attr-defined]
    model = chosen_model(token, payload.model)
    version = chosen_version(token, payload.dataset, payload.version)
    wrong = {
        name: found for name, found in (("model", model), ("dataset", version)) if isinstance(found, str)
    }
    if isinstance(model, str) or isinstance(version, str):
        raise ApiError(422, "invalid", next(iter(wrong.values())), wrong)
    try:
        run = launch(
            workspace=token.workspace,
            user=token.user,
            base_model=model,
            version=version,
            task=payload.task,
            columns=payload.columns,
            method=payload.method,
            settings=payload.settings,
            name=payload.name,
            scheduling=scheduling_of(payload, runs_of(request)),
            devices=payload.devices,
            hosts=payload.hosts,
            strategy=payload.strategy,
        )
    except LaunchError as refused:
        raise ApiError(422, "invalid", str(refused), refused.fields) from refused
    return 201, run_out(request, run)


@router.get("", response={200: RunPageOut, **ERRORS}, summary="List runs")
def list_runs(
    request: HttpRequest,
    status: str = Query("", description="queued, running, paused, succeeded, failed or cancelled"),  # type: ignore[type-arg]
    task: str = "",
    limit: int = Query(50, ge=1, le=200),  # type: ignore[type-arg]
    offset: int = Query(0, ge=0, le=MOST_ROWS),  # type: ignore[type-arg]
) -> Any:
    """Newest first."""
    runs = runs_of(request)
    if status:
        if status not in Run.Status.values:
            known = ", ".join(Run.Status.values)
            raise ApiError(422, "invalid", f"status is one of: {known}", {"status": f"one of: {known}"})
        runs = runs.filter(status=status)
    if task:
        runs = runs.filter(task=task)
    page = runs.order_by("-created_at", "-pk")[offset : offset + limit]
    workers = online()
    return {"items": [run_out(request, run, workers) for run in page], "count": runs.count()}


@router.get("/{int:run_id}", response={200: RunOut, **ERRORS}, summary="One run")
def one_run(request: HttpRequest, run_id: int) -> Any:
    """Status, progress, metrics beside the baseline, and files once it is done."""
    return run_out(request, get_object_or_404(runs_of(request), pk=run_id))


@router.get("/{int:run_id}/metrics", response={200: PointsOut, **ERRORS}, summary="Points of every series")
def run_metrics(request: HttpRequest, run_id: int, since: str = "") -> Any:
    """Points written since a cursor (`next` of the last answer), oldest first.

    A point that a resumed run wrote again comes again: keep the newest value by series and step.
    """
    run = get_object_or_404(runs_of(request), pk=run_id)
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


@router.get("/{int:run_id}/artifacts/{path:name}", response={200: bytes, **ERRORS}, summary="Download a file")
def run_artifact(request: HttpRequest, run_id: int, name: str) -> HttpResponseBase:
    """Supports Range; the ETag is the SHA-256."""
    run = get_object_or_404(runs_of(request), pk=run_id)
    try:
        return downloads.file_response(request, downloads.find(run.artifacts.all(), name, run.pk))
    except downloads.Gone as gone:
        raise ApiError(410, "gone", str(gone)) from gone


@router.get("/{int:run_id}/artifacts.zip", response={200: bytes, **ERRORS}, summary="Download all files")
def run_zip(request: HttpRequest, run_id: int) -> HttpResponseBase:
    """The model folder as one zip."""
    run = get_object_or_404(runs_of(request), pk=run_id)
    try:
        if not run.artifacts.all():
            downloads.check_not_removed(run.pk)
            raise ApiError(404, "not_found", "This run has no files yet.")
        return downloads.zip_response(run)
    except downloads.Gone as gone:
        raise ApiError(410, "gone", str(gone)) from gone
