"""What a run needs around it: a workspace, a base model, a dataset version, a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from runs.models import Run, Worker
from webapp.accounts.models import User, Workspace
from webapp.catalog.models import BaseModel
from webapp.datasets.models import Dataset, DatasetVersion


def _make_world() -> dict[str, Any]:
    """The values of a run that never change, from rows that are made now."""
    user = User.objects.create_user("anna")
    workspace = Workspace.objects.create(name="Lab", slug="lab")
    model = BaseModel.objects.create(
        slug="tiny", name="Tiny", kind="text-encoder", source="folder", reference="/nowhere"
    )
    dataset = Dataset.objects.create(workspace=workspace, name="Reviews", status="ready")
    version = DatasetVersion.objects.create(
        dataset=dataset,
        content_hash="a" * 64,
        storage_prefix=f"datasets/{dataset.pk}/versions/aaaa",
        size_bytes=1,
        rows=3,
        splits={"train": 3},
        columns=[],
    )
    return {
        "workspace": workspace,
        "created_by": user,
        "base_model": model,
        "dataset_version": version,
        "dataset_name": "Reviews",
        "dataset_hash": "a" * 64,
        "task": "text-classification",
        "method": "full",
        "columns": {"text": "text", "label": "label"},
        "settings": {"seed": 7},
    }


@pytest.fixture
def make_world() -> Callable[[], dict[str, Any]]:
    return _make_world


@pytest.fixture
def world(db: None) -> dict[str, Any]:
    """The values that the runs of a test share."""
    return _make_world()


@pytest.fixture
def new_run(world: dict[str, Any]) -> Callable[..., Run]:
    """Makes a run that is not saved yet."""
    return lambda **values: Run(**{"name": "first", **world, **values})


@pytest.fixture
def worker(db: None) -> Worker:
    return Worker.objects.create(name="host:/home", host="host", pid=1, queues=["cpu"], slots=1)
