"""A person with a token, storage of both kinds, and a client that speaks tus as little as it can."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tests.webapp.test_storage import BUCKET
from tests.webapp.uploads.multipart_s3 import MultipartS3
from tests.webapp.uploads.served import Served
from webapp import storage
from webapp.accounts.models import ApiToken, Membership, User, Workspace
from webapp.settings import storage_backend
from webapp.uploads.models import Upload

BYTES = "application/offset+octet-stream"
CSV = b"text,label\n" + b"".join(f"sentence number {n},{'ab'[n % 2]}\n".encode() for n in range(30))


@pytest.fixture
def folder(settings: Any, tmp_path: Path) -> Path:
    kept = tmp_path / "storage"
    settings.STORAGES = {**settings.STORAGES, "default": storage_backend(str(kept))}
    return kept


@pytest.fixture
def bucket(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[MultipartS3]:
    running = MultipartS3()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{running.server.server_address[1]}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    settings.STORAGES = {**settings.STORAGES, "default": storage_backend(f"s3://{BUCKET}/prefix")}
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture(params=["folder", "bucket"])
def anywhere(request: pytest.FixtureRequest) -> str:
    """Both kinds of storage, one after the other."""
    request.getfixturevalue(request.param)
    return str(request.param)


@pytest.fixture
def workspace(db: None) -> Workspace:
    return Workspace.objects.create(name="Team", slug="team")


@pytest.fixture
def user(workspace: Workspace) -> User:
    person = User.objects.create_user("ada")
    Membership.objects.create(user=person, workspace=workspace, role=Membership.Role.MEMBER)
    return person


@pytest.fixture(autouse=True)
def no_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker runs in these tests."""
    for module in ("intake", "claims"):
        monkeypatch.setattr(f"webapp.datasets.{module}.publish", lambda *_: True)


@pytest.fixture
def served(transactional_db: None, tmp_path: Path) -> Iterator[Served]:
    person = User.objects.create_user("ada")
    place = Workspace.objects.create(name="Team", slug="team")
    Membership.objects.create(user=person, workspace=place, role=Membership.Role.MEMBER)
    running = Served(tmp_path, ApiToken.issue(person, place, "test")[1])
    try:
        running.start()
        yield running
    finally:
        running.kill()
        shutil.rmtree(tmp_path / "storage", ignore_errors=True)  # pytest would keep it


class Tus:
    """Requests of the protocol, by the API."""

    def __init__(self, secret: str) -> None:
        self._client = Client(headers={"Authorization": f"Bearer {secret}"})

    def ask(self, method: str, address: str, data: bytes = b"", **headers: str) -> Any:
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        said.setdefault("Tus-Resumable", "1.0.0")
        kind = said.pop("Content-Type", BYTES if method == "PATCH" else "")
        sent = {name: value for name, value in said.items() if value}
        return self._client.generic(method, address, data, kind, headers=sent, CONTENT_TYPE=kind)

    def announce(self, length: int, name: str = "rows.csv", **headers: str) -> str:
        """The address of a new upload."""
        told = f"filename {base64.b64encode(name.encode()).decode()}"
        answer = self.ask(
            "POST", "/api/v1/uploads", Upload_Length=str(length), Upload_Metadata=told, **headers
        )
        assert answer.status_code == 201, answer.content
        return str(answer["Location"])

    def send(self, address: str, offset: int, data: bytes, **headers: str) -> Any:
        return self.ask("PATCH", address, data, Upload_Offset=str(offset), **headers)

    def offset(self, address: str) -> int:
        return int(self.ask("HEAD", address)["Upload-Offset"])

    def whole(self, data: bytes, name: str = "rows.csv") -> str:
        """Id of an upload that has arrived."""
        address = self.announce(len(data), name)
        assert self.send(address, 0, data).status_code == 204
        return address.rsplit("/", 1)[1]

    def json(self, method: str, address: str, data: Any) -> Any:
        return self._client.generic(method, address, json.dumps(data), "application/json")


@pytest.fixture
def tus(user: User, workspace: Workspace) -> Tus:
    return Tus(ApiToken.issue(user, workspace, "test")[1])


def stored(address: str) -> bytes:
    """The bytes of an upload as storage has them."""
    upload = Upload.objects.get(pk=address.rsplit("/", 1)[-1])
    with storage.open_file(upload.key) as opened:
        return opened.read()
