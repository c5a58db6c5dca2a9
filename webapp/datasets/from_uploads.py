"""A dataset of files that a script uploaded piece by piece (webapp/uploads)."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema

from webapp.api import ERRORS, require_editor
from webapp.datasets import intake
from webapp.datasets.api import DatasetOut, described
from webapp.datasets.api_common import refused

router = Router(tags=["datasets"])


class FromUploads(Schema):
    """Uploads that are whole, and what else can be said, as in `POST datasets`."""

    uploads: list[uuid.UUID]
    name: str = ""
    task: str = ""
    columns: dict[str, str] = {}
    has_header: bool | None = None
    split_column: str = ""
    seed: int | None = None


@router.post(
    "from-uploads", response={201: DatasetOut, **ERRORS}, summary="Make a dataset of resumable uploads"
)
def from_uploads(request: HttpRequest, payload: FromUploads) -> tuple[int, dict[str, Any]]:
    """`uploads`: their ids, in the order of the files. Afterwards they are gone, and the dataset has the files."""
    require_editor(request)
    owner: Any = request
    said = payload.dict(exclude={"uploads", "name"})
    try:
        dataset = intake.create_of_uploads(
            workspace=owner.auth.workspace,
            user=owner.auth.user,
            uploads=payload.uploads,
            name=payload.name,
            request=said,
        )
    except intake.IntakeError as error:
        raise refused(error) from error
    return 201, described(dataset)
