"""A hub on loopback that has datasets."""

from __future__ import annotations

import hashlib
import re
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

from tests.webapp.catalog.conftest import FakeHub, Repository, _json

URL = "/api/v1/datasets/from-hub"
CONVERTED = "refs/convert/parquet"


class FakeDatasets(FakeHub):
    """The addresses by which a dataset is looked up and its files are fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.breaks_after: int | None = None  # bytes of a file's answer, then the connection is cut
        self.told: dict[str, Any] = {}  # what the hub says of files in place of the truth
        self.headers: list[dict[str, str]] = []  # of requests for files
        self.moved_to = ""  # another host that keeps the files

    def offer_at(self, name: str, revision: str, files: dict[str, bytes], **about: Any) -> Repository:
        """A dataset at a branch, beside what `offer` put on main."""
        return self.offer(f"{name}@{revision}", files, **about)

    def _answer(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        path = unquote(request.path.split("?")[0])
        if "/resolve/" in path and not self.failing and self.instead is None:
            self._send_file(request, path, body)
        else:
            super()._answer(request, body=body)

    def _repository(self, name: str, revision: str) -> Repository | None:
        main = self.repositories.get(name)
        if main is not None and revision in ("", "main", main.commit):
            return main
        beside = {key: each for key, each in self.repositories.items() if key.startswith(f"{name}@")}
        return next(
            (each for key, each in beside.items() if revision in (key.split("@")[1], each.commit)), None
        )

    def _find(self, path: str, query: str) -> tuple[int, dict[str, str], bytes]:
        found = re.fullmatch(r"api/datasets/([^/]+/[^/]+)(?:/revision/(.+))?", unquote(path).strip("/"))
        if found is None or not any(key.split("@")[0] == found[1] for key in self.repositories):
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        repository = self._repository(found[1], found[2] or "")
        if repository is None:
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        siblings = []
        for name, data in repository.files.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(data)}
            if name.endswith(".parquet"):
                digest = hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"size": len(data), "sha256": digest, "pointerSize": 1}
            siblings.append(entry | self.told)
        gated = "auto" if repository.gated else False
        about = {
            "id": found[1],
            "sha": repository.commit,
            "siblings": siblings,
            "gated": gated,
            **repository.about,
        }
        return _json(about)

    def _send_file(self, request: BaseHTTPRequestHandler, path: str, body: bool) -> None:
        self.asked.append(f"{request.command} {path}")
        self.headers.append(dict(request.headers))
        found = re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([0-9a-f]{40})/(.+)", path)
        repository = self._repository(found[1], found[2]) if found else None
        data = repository.files.get(found[3]) if repository and found else None
        if repository is not None and repository.gated:
            self._short(request, 403, {"X-Error-Code": "GatedRepo"})
        elif data is None:
            self._short(request, 404, {"X-Error-Code": "EntryNotFound"})
        elif self.moved_to:
            self._short(request, 302, {"Location": f"{self.moved_to}{path}"})
        else:
            start = int((request.headers.get("Range") or "bytes=0-")[6:-1])
            request.send_response(206 if start else 200)
            request.send_header("Content-Length", str(len(data) - start))
            request.end_headers()
            if body:
                end = len(data) if self.breaks_after is None else start + self.breaks_after
                request.wfile.write(data[start:end])

    @staticmethod
    def _short(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str]) -> None:
        request.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            request.send_header(name, value)
        request.end_headers()
