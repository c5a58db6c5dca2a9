"""What the API's routes about datasets share: finding what a token may see, and telling why files were not taken."""

from __future__ import annotations

from typing import Any

from webapp.api import ApiError
from webapp.datasets.intake import IntakeError
from webapp.datasets.models import Dataset, DatasetVersion
from webapp.datasets.versions import find_version


def dataset_of(request: Any, dataset_id: int) -> Dataset:
    """A dataset of the token's workspace; raises ApiError 404."""
    mine = Dataset.objects.filter(workspace=request.auth.workspace).select_related("version")
    dataset: Dataset | None = mine.filter(pk=dataset_id).first()
    if dataset is None:
        raise ApiError(404, "not_found", "There is no such dataset in this workspace.")
    return dataset


def version_of(dataset: Dataset, named: str | int | None) -> DatasetVersion:
    """By number or hash, the one that new runs get where none is named; raises ApiError 404."""
    version = find_version(dataset, "" if named is None else str(named))
    if version is None:
        raise ApiError(404, "not_found", "There is no such version of this dataset.")
    return version


def refused(error: IntakeError) -> ApiError:
    """The answer to files, or what was said of them, that cannot be taken."""
    code = "too_large" if error.status == 413 else "invalid"
    return ApiError(error.status, code, str(error), error.fields)
