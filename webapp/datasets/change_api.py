"""Versions of a dataset by HTTP: what there is, and how to make another."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import File, Router, Schema
from ninja.files import UploadedFile

from webapp.api import ERRORS, ApiError, require_editor
from webapp.datasets import changing, intake
from webapp.datasets.api_common import dataset_of, refused, version_of
from webapp.datasets.edits import Wrong
from webapp.datasets.models import Change, Dataset, DatasetVersion
from webapp.datasets.versions import large, make_current

router = Router(tags=["datasets"])


class VersionOut(Schema):
    """`change`: what made it out of `parent`, with `says`, a sentence; empty of what was uploaded."""

    number: int
    content_hash: str
    is_current: bool
    parent: int | None
    change: dict[str, Any]
    created_at: datetime
    created_by: str | None
    rows: int
    splits: dict[str, int]
    columns: list[dict[str, Any]]
    suggested: dict[str, Any]
    problems: list[dict[str, Any]]


class VersionsOut(Schema):
    items: list[VersionOut]


class ChangeIn(Schema):
    """`change`: {"op": …} as docs/datasets.md lists them; `version`: the number of the one to change."""

    change: dict[str, Any]
    version: int | None = None


class ChangeOut(Schema):
    """Ask again while `status` is waiting; `version` is the number of the one it made."""

    id: int
    status: str
    title: str
    change: dict[str, Any]
    parent: int
    version: int | None
    problems: list[dict[str, Any]]
    stage: str
    done: int
    total: int
    created_at: datetime


def _version_out(dataset: Dataset, version: DatasetVersion) -> dict[str, Any]:
    return {
        "number": version.number,
        "content_hash": version.content_hash,
        "is_current": version.pk == dataset.version_id,
        "parent": version.parent.number if version.parent else None,
        "change": version.change,
        "created_at": version.created_at,
        "created_by": str(version.created_by) if version.created_by else None,
        "rows": version.rows,
        "splits": version.splits,
        "columns": version.columns,
        "suggested": version.suggested,
        "problems": version.problems,
    }


def _change_out(change: Change) -> dict[str, Any]:
    return {
        "id": change.pk,
        "status": change.status,
        "title": change.title,
        "change": {key: value for key, value in change.asked.items() if key != "files"},
        "parent": change.parent.number,
        "version": change.result.number if change.result else None,
        "problems": change.problems,
        "stage": change.stage,
        "done": change.progress_done,
        "total": change.progress_total,
        "created_at": change.created_at,
    }


@router.get(
    "{int:dataset_id}/versions", response={200: VersionsOut, **ERRORS}, summary="List versions of a dataset"
)
def list_versions(request: HttpRequest, dataset_id: int) -> dict[str, Any]:
    """The newest first."""
    dataset = dataset_of(request, dataset_id)
    found = dataset.versions.select_related("parent", "created_by").order_by("-number")
    found = found.defer("preview", "details", *large("parent__"))
    return {"items": [_version_out(dataset, version) for version in found]}


@router.get(
    "{int:dataset_id}/versions/{int:number}",
    response={200: VersionOut, **ERRORS},
    summary="Look at a version of a dataset",
)
def get_version(request: HttpRequest, dataset_id: int, number: int) -> dict[str, Any]:
    dataset = dataset_of(request, dataset_id)
    return _version_out(dataset, version_of(dataset, number))


@router.post(
    "{int:dataset_id}/versions/{int:number}/current",
    response={200: VersionOut, **ERRORS},
    summary="Give new runs this version",
)
def choose_version(request: HttpRequest, dataset_id: int, number: int) -> dict[str, Any]:
    """409 while a version is being made."""
    require_editor(request)
    dataset = dataset_of(request, dataset_id)
    version = version_of(dataset, number)
    if not make_current(dataset, version):
        raise ApiError(409, "busy", "A new version is being made; wait until it is there.")
    dataset.refresh_from_db()
    return _version_out(dataset, version)


@router.post(
    "{int:dataset_id}/changes",
    response={202: ChangeOut, **ERRORS},
    summary="Make a new version of a dataset",
)
def make_change(request: HttpRequest, dataset_id: int, payload: ChangeIn) -> tuple[int, dict[str, Any]]:
    """Out of the current version, or the one that is named. Ask for it by id until it is done. One at a time: else 409."""
    require_editor(request)
    return 202, _asked(
        request, version_of(dataset_of(request, dataset_id), payload.version), payload.change, []
    )


@router.post(
    "{int:dataset_id}/files",
    response={202: ChangeOut, **ERRORS},
    summary="Add files to a dataset",
)
def add_files(
    request: HttpRequest, dataset_id: int, file: File[list[UploadedFile]], split: str = ""
) -> tuple[int, dict[str, Any]]:
    """Their rows make a new version. `split`: train, validation or test; left out, their names say it, or they train."""
    require_editor(request)
    version = version_of(dataset_of(request, dataset_id), None)
    return 202, _asked(request, version, {"op": "add_files", "split": split}, file)


@router.get(
    "{int:dataset_id}/changes/{int:change_id}",
    response={200: ChangeOut, **ERRORS},
    summary="Look at a change",
)
def get_change(request: HttpRequest, dataset_id: int, change_id: int) -> dict[str, Any]:
    change = dataset_of(request, dataset_id).changes.filter(pk=change_id).first()
    if change is None:
        raise ApiError(404, "not_found", "There is no such change of this dataset.")
    return _change_out(change)


def _asked(
    request: Any, version: DatasetVersion, change: dict[str, Any], files: list[UploadedFile]
) -> dict[str, Any]:
    try:
        made = changing.request_change(version, change, request.auth.user, files)
    except Wrong as error:
        raise ApiError(422, "invalid", str(error), error.fields) from error
    except changing.Busy as error:
        raise ApiError(409, "busy", str(error)) from error
    except intake.IntakeError as error:
        raise refused(error) from error
    return _change_out(made)
