"""What a run needs around it: a workspace, a base model, a dataset version, a worker."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import Client

from runs.models import Run, Worker
from webapp.accounts.models import ApiToken, Membership, User, Workspace
from webapp.catalog.models import BaseModel
from webapp.catalog.sync import sync_starters
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


TEXT_COLUMNS = [
    {"name": "review", "kind": "text", "nulls": 0, "distinct": 60},
    {"name": "stars", "kind": "label", "nulls": 0, "distinct": 2, "names": ["bad", "good"]},
    {"name": "number", "kind": "float", "nulls": 0, "distinct": 60},
    {"name": "same", "kind": "label", "nulls": 0, "distinct": 1, "names": ["only"]},
]


@dataclass
class Lab:
    """A workspace as its people see it: a member, a viewer, somebody else, a model, a dataset that is ready; the starters too."""

    workspace: Workspace
    member: User
    viewer: User
    stranger: User
    model: BaseModel
    dataset: Dataset
    version: DatasetVersion

    def run(self, **values: Any) -> Run:
        """A run of this workspace, saved as it is said."""
        return Run.objects.create(
            **{
                "workspace": self.workspace,
                "created_by": self.member,
                "name": "First try",
                "base_model": self.model,
                "dataset_version": self.version,
                "dataset_name": self.dataset.name,
                "dataset_hash": self.version.content_hash,
                "task": "text-classification",
                "method": "head",
                "columns": {"text": "review", "label": "stars"},
                "settings": {"seed": 42},
                **values,
            }
        )


@pytest.fixture
def lab(world: dict[str, Any]) -> Lab:
    sync_starters()
    workspace, member = world["workspace"], world["created_by"]
    viewer, stranger = User.objects.create_user("vic"), User.objects.create_user("mallory")
    elsewhere = Workspace.objects.create(name="Elsewhere", slug="elsewhere")
    for person, place, role in (
        (member, workspace, Membership.Role.MEMBER),
        (viewer, workspace, Membership.Role.VIEWER),
        (stranger, elsewhere, Membership.Role.OWNER),
    ):
        Membership.objects.create(user=person, workspace=place, role=role)
    version: DatasetVersion = world["dataset_version"]
    version.columns = TEXT_COLUMNS
    version.rows, version.splits = 60, {"train": 48, "validation": 6, "test": 6}
    version.save()
    dataset = version.dataset
    dataset.version = version
    dataset.save()
    return Lab(workspace, member, viewer, stranger, world["base_model"], dataset, version)


@pytest.fixture
def browser(lab: Lab) -> Client:
    """The member's browser, signed in."""
    client = Client()
    client.force_login(lab.member)
    return client


def text_of(html: str) -> str:
    """What a person reads of a page, without its frame."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.split("<main", 1)[-1])).strip()


def poll(browser: Client, path: str, tag: str) -> Any:
    """As a page asks whether there is anything new."""
    return browser.get(path, headers={"HX-Request": "true", "HX-PTag": tag})


class Script:
    """Somebody's script with a token; paths are those below /api/v1."""

    def __init__(self, user: User, workspace: Workspace) -> None:
        self.client = Client(
            headers={"Authorization": f"Bearer {ApiToken.issue(user, workspace, 'script')[1]}"}
        )

    def get(self, path: str, **query: Any) -> Any:
        return self.client.get(f"/api/v1/{path}", query)

    def post(self, path: str, body: Any = None) -> Any:
        return self.client.post(f"/api/v1/{path}", body, content_type="application/json")


@pytest.fixture
def script(lab: Lab) -> Script:
    return Script(lab.member, lab.workspace)
