"""What tests about datasets share: a workspace with people in it, and files to upload."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from django.conf import settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from PIL import Image

from tests.webapp.datasets import fake_hub
from webapp import storage
from webapp.accounts.models import ApiToken, Membership, User, Workspace
from webapp.datasets import hub_fetch
from webapp.datasets.conversion import Order, convert_files
from webapp.datasets.inspection import run_inspection
from webapp.datasets.intake import create_dataset
from webapp.datasets.models import Dataset
from webapp.datasets.problems import Problem, Refused
from webapp.datasets.writing import Converted


@pytest.fixture(autouse=True)
def empty_storage() -> Iterator[None]:
    """Each test starts and ends with nothing in storage."""
    root = storage.local_path("")
    assert root is not None
    folders = (root, settings.WORK_DIR)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    yield
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def usual_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Conversions that run in the tests' own process tell Pillow their limit; the next test has the usual one."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


@pytest.fixture(autouse=True)
def no_messages(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Wake-ups are noted instead of sent: no worker runs in these tests."""
    sent: list[int] = []
    for module in ("intake", "claims"):
        monkeypatch.setattr(f"webapp.datasets.{module}.publish", lambda message, pk: sent.append(pk))
    return sent


@pytest.fixture
def workspace(db: None) -> Workspace:
    return Workspace.objects.create(name="Team", slug="team")


@pytest.fixture
def user(workspace: Workspace) -> User:
    person = User.objects.create_user("ada", password="a long pass phrase")
    Membership.objects.create(user=person, workspace=workspace, role=Membership.Role.MEMBER)
    return person


@pytest.fixture
def viewer(workspace: Workspace) -> User:
    person = User.objects.create_user("vic", password="a long pass phrase")
    Membership.objects.create(user=person, workspace=workspace, role=Membership.Role.VIEWER)
    return person


Inspected = Callable[..., Dataset]


@pytest.fixture
def inspected(workspace: Workspace, user: User) -> Inspected:
    """Upload files given as name=bytes pairs or paths, and inspect them as a worker does."""

    def upload(*files: tuple[str, bytes] | Path, **request: Any) -> Dataset:
        sent = [
            SimpleUploadedFile(each.name, each.read_bytes())
            if isinstance(each, Path)
            else SimpleUploadedFile(*each)
            for each in files
        ]
        dataset = create_dataset(workspace=workspace, user=user, files=sent, request=request)
        run_inspection(dataset.pk, "test")
        dataset.refresh_from_db()
        return dataset

    return upload


@pytest.fixture
def convert(tmp_path: Path) -> Any:
    """Files given as (name, bytes), straight through what the inspection's own process runs.

    `.output` is where the last one wrote. What is wrong with the rows themselves (they repeat, as made ones
    do) is left out: test_findings.py is about that.
    """
    count = 0

    def run(
        *files: tuple[str, bytes],
        limits: dict[str, int] | None = None,
        kinds: dict[str, str] | None = None,
        **request: Any,
    ) -> Converted:
        nonlocal count
        count += 1
        folder = tmp_path / str(count)
        for name in ("in", "output", "scratch"):
            (folder / name).mkdir(parents=True)
        given = []
        for number, (name, data) in enumerate(files):
            (folder / "in" / str(number)).write_bytes(data)
            given.append((str(folder / "in" / str(number)), name))
        order = Order(given, request, limits=limits or {}, kinds=kinds or {})
        try:
            made = convert_files(order, folder / "output", folder / "scratch", lambda *_: None)
            made.problems = [
                each for each in made.problems if not each["split"] and each["code"] != "unbalanced"
            ]
            return made
        finally:
            run.output = folder / "output"  # type: ignore[attr-defined]

    return run


def refusal(convert: Any, *files: tuple[str, bytes], **request: Any) -> Problem:
    """What is said of files that cannot be used."""
    with pytest.raises(Refused) as caught:
        convert(*files, **request)
    return caught.value.problem


def stored_files() -> list[str]:
    """Every file in storage, by key."""
    root = storage.local_path("")
    assert root is not None
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.fixture
def hub(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_hub.FakeDatasets]:
    running = fake_hub.FakeDatasets()
    settings.HF_ENDPOINT = running.url
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_fetch, "PAUSE_SECONDS", 0.01)
    yield running
    running.close()


@pytest.fixture
def script(user: User, workspace: Workspace) -> Client:
    return Client(headers={"Authorization": f"Bearer {ApiToken.issue(user, workspace, 'test')[1]}"})


@pytest.fixture
def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


Fetched = Callable[..., Dataset]


@pytest.fixture
def fetched(script: Client) -> Fetched:
    """Ask by the API and do what a worker does."""

    def run(dataset: str = "lab/reviews", **said: Any) -> Dataset:
        answer = script.post(fake_hub.URL, {"dataset": dataset, **said}, "application/json")
        assert answer.status_code == 201, answer.content
        run_inspection(answer.json()["id"], "test")
        return Dataset.objects.get(pk=answer.json()["id"])

    return run
