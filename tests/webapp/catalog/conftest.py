"""People who look at the catalogue, and a hub on loopback that answers what huggingface_hub asks."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub.constants
import pytest
from django.core.cache import cache
from django.test import Client

from webapp.accounts.models import Membership, User
from webapp.accounts.people import create_user
from webapp.catalog.sync import sync_starters

BERT = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "max_position_embeddings": 512,
}


@dataclass
class Repository:
    """What a hub has under one name, at one commit."""

    files: dict[str, bytes]
    commit: str
    about: dict[str, Any] = field(default_factory=dict)
    gated: bool = False


def safe(config: dict[str, Any] | None = None, **files: bytes) -> dict[str, bytes]:
    """The files of a model that may be used; the weights are never read here."""
    return {"config.json": json.dumps(config or BERT).encode(), "model.safetensors": b"\0" * 1000, **files}


class FakeHub:
    """The few addresses of a Hugging Face hub that listing, adding and fetching a model ask for."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.asked: list[str] = []  # "METHOD path?query"
        self.failing = False
        self.instead: bytes | None = None  # what a page that is no hub says to everything
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub._answer(self, body=True)

            def do_HEAD(self) -> None:
                hub._answer(self, body=False)

            def log_message(self, *_: object) -> None:
                """Silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def offer(self, name: str, files: dict[str, bytes], **about: Any) -> Repository:
        """Put a repository there, or a newer commit of it."""
        commit = hashlib.sha1(repr((name, sorted(files.items()))).encode()).hexdigest()
        self.repositories[name] = Repository(files, commit, about, about.pop("gated", False))
        return self.repositories[name]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _answer(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        self.asked.append(f"{request.command} {request.path}")
        address = urlsplit(request.path)
        status, headers, content = (500, {}, b"") if self.failing else self._find(address.path, address.query)
        if self.instead is not None:
            status, headers, content = 200, {}, self.instead
        request.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        if body:
            request.wfile.write(content)

    def _find(self, path: str, query: str) -> tuple[int, dict[str, str], bytes]:
        path = unquote(path).strip("/")
        if path == "api/models":
            words = parse_qs(query).get("search", [""])[0].lower()
            found = [
                {"id": name, "_id": name, **repository.about}
                for name, repository in self.repositories.items()
                if words in name.lower() and any(file.endswith(".safetensors") for file in repository.files)
            ]
            return _json(found)
        is_api = path.startswith("api/models/")
        owner, _, rest = path.removeprefix("api/models/").partition("/")
        name, *rest = rest.split("/")
        repository = self.repositories.get(f"{owner}/{name}")
        if repository is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        known_commit = len(rest) < 2 or rest[1] in {"main", repository.commit}
        if not known_commit:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if is_api and rest[:1] == ["tree"]:
            return _json(
                [
                    {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for file, data in repository.files.items()
                ]
            )
        if is_api:
            siblings = [{"rfilename": name, "size": len(data)} for name, data in repository.files.items()]
            return _json(
                {
                    "id": f"{owner}/{name}",
                    "_id": "1",
                    "sha": repository.commit,
                    "siblings": siblings,
                    **repository.about,
                }
            )
        if repository.gated:
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        data = repository.files.get("/".join(rest[2:]))
        if data is None:
            return 404, {"X-Error-Code": "EntryNotFound"}, b""
        headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": repository.commit}
        return 200, headers, data


def _json(value: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    """What a hub said is kept for a minute."""
    cache.clear()


@pytest.fixture
def hub(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    running = FakeHub()
    settings.HF_ENDPOINT = running.url
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    yield running
    running.close()


@pytest.fixture
def starters(db: None) -> None:
    sync_starters()


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def user(db: None) -> User:
    return create_user("ada")


@pytest.fixture
def member(user: User) -> Client:
    """A browser of somebody who may edit their workspace."""
    return client_of(user)


@pytest.fixture
def viewer(user: User) -> Client:
    """A browser of somebody who may only look at ada's workspace."""
    watching = create_user("vic")
    watching.last_workspace = user.last_workspace
    watching.save()
    Membership.objects.filter(user=watching).delete()
    Membership.objects.create(user=watching, workspace=user.last_workspace, role=Membership.Role.VIEWER)
    return client_of(watching)


@pytest.fixture
def admin(db: None) -> Client:
    return client_of(create_user("admin", superuser=True))
