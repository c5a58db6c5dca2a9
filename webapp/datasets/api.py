"""Datasets by HTTP: upload, look, delete."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from ninja import Field, File, Form, Query, Router, Schema
from ninja.files import UploadedFile

from webapp.api import ERRORS, MOST_ROWS, ApiError, require_editor
from webapp.datasets import deleting, intake, samples, sources
from webapp.datasets.api_common import dataset_of, refused
from webapp.datasets.models import Dataset

router = Router(tags=["datasets"])


class ProgressOut(Schema):
    stage: str
    done: int
    total: int


class DatasetOut(Schema):
    """A dataset as it is now; ask again while `status` is inspecting."""

    id: int
    name: str
    status: str
    created_at: datetime
    rows: int | None
    splits: dict[str, int]
    columns: list[dict[str, Any]]
    suggested: dict[str, Any]
    problems: list[dict[str, Any]]
    progress: ProgressOut | None
    version: int | None
    content_hash: str | None
    files: list[dict[str, Any]]
    source: dict[str, Any] | None = Field(None, description="where it comes from, if not from uploaded files")


class DatasetsOut(Schema):
    items: list[DatasetOut]
    count: int


def described(dataset: Dataset) -> dict[str, Any]:
    """What a script learns of a dataset."""
    version = dataset.version
    inspecting = dataset.status == Dataset.Status.INSPECTING
    return {
        "id": dataset.pk,
        "name": dataset.name,
        "status": dataset.status,
        "created_at": dataset.created_at,
        "rows": version.rows if version else None,
        "splits": version.splits if version else {},
        "columns": version.columns if version else [],
        "suggested": version.suggested if version else {},
        "problems": dataset.findings,
        "progress": {
            "stage": dataset.stage,
            "done": dataset.progress_done,
            "total": dataset.progress_total,
        }
        if inspecting
        else None,
        "version": version.number if version else None,
        "content_hash": version.content_hash if version else None,
        "files": [{"name": f.name, "size": f.size, "sha256": f.sha256} for f in dataset.files.all()],
        "source": sources.as_json(dataset),
    }


def _datasets(request: Any) -> QuerySet[Dataset]:
    found: QuerySet[Dataset] = Dataset.objects.filter(workspace=request.auth.workspace)
    return found.select_related("version").prefetch_related("files")


@router.get("", response={200: DatasetsOut, **ERRORS}, summary="List datasets")
def list_datasets(
    request: HttpRequest,
    q: str = "",
    status: str = Query("", description="inspecting, ready or invalid"),  # type: ignore[type-arg]
    limit: int = Query(100, ge=1, le=500),  # type: ignore[type-arg]
    offset: int = Query(0, ge=0, le=MOST_ROWS),  # type: ignore[type-arg]
) -> dict[str, Any]:
    """The newest first. `q` searches names."""
    found = _datasets(request)
    if q:
        found = found.filter(name__icontains=q)
    if status:
        if status not in Dataset.Status.values:
            known = ", ".join(Dataset.Status.values)
            raise ApiError(422, "invalid", f"status is one of: {known}", {"status": f"one of: {known}"})
        found = found.filter(status=status)
    page = found.order_by("-created_at", "-pk")[offset : offset + limit]
    return {"items": [described(dataset) for dataset in page], "count": found.count()}


@router.post("", response={201: DatasetOut, **ERRORS}, summary="Upload a dataset")
def upload(
    request: HttpRequest,
    file: File[list[UploadedFile]],
    name: Form[str] = "",
    task: Form[str] = "",
    columns: Form[str] = "",
    has_header: Form[bool | None] = None,
    split_column: Form[str] = "",
    seed: Form[int | None] = None,
) -> tuple[int, dict[str, Any]]:
    """Takes tables and archives as docs/datasets.md lists them; `file` may be repeated. Inspection goes on afterwards: ask by id.

    All else is optional: `task` and `columns` (JSON, role to column) instead of the suggestion, `has_header` for
    CSV, Excel and text, `split_column` for a column that says train, validation or test, `seed` for the split that is made.
    """
    require_editor(request)
    try:
        mapping = json.loads(columns) if columns else {}
    except (ValueError, RecursionError) as error:
        raise ApiError(422, "invalid", f"columns is not JSON: {error}", {"columns": str(error)}) from error
    said = {
        "task": task,
        "columns": mapping,
        "has_header": has_header,
        "split_column": split_column,
        "seed": seed,
    }
    owner: Any = request
    try:
        dataset = intake.create_dataset(
            workspace=owner.auth.workspace, user=owner.auth.user, files=file, name=name, request=said
        )
    except intake.IntakeError as error:
        raise refused(error) from error
    return 201, described(dataset)


@router.post("samples/{slug}", response={201: DatasetOut, **ERRORS}, summary="Use a sample dataset")
def use_sample(request: HttpRequest, slug: str) -> tuple[int, dict[str, Any]]:
    """Made at first use; asked again, the same dataset is answered."""
    require_editor(request)
    owner: Any = request
    try:
        dataset = samples.use_sample(slug, owner.auth.workspace, owner.auth.user)
    except KeyError as error:
        raise ApiError(404, "not_found", str(error.args[0])) from error
    return 201, described(dataset)


@router.get("{int:dataset_id}", response={200: DatasetOut, **ERRORS}, summary="Look at a dataset")
def get_dataset(request: HttpRequest, dataset_id: int) -> dict[str, Any]:
    return described(dataset_of(request, dataset_id))


@router.delete("{int:dataset_id}", response={204: None, **ERRORS}, summary="Delete a dataset")
def delete_dataset(request: HttpRequest, dataset_id: int) -> tuple[int, None]:
    """With all its files. Runs that used it stay. 409 while one that is queued, running or paused needs it."""
    require_editor(request)
    owner: Any = request
    try:
        deleting.delete_dataset(dataset_of(request, dataset_id), owner.auth.user)
    except deleting.InUse as error:
        raise ApiError(409, "in_use", str(error)) from error
    return 204, None
