"""Fetches the files of a hub's dataset to a worker's disk: piece by piece, taken up again where a connection breaks."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import get_session
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from webapp.datasets.hub import address
from webapp.datasets.hub_files import name_here
from webapp.datasets.problems import Problem, Refused, shown
from webapp.hub import short

TRIES = 5  # in a row without a byte
TIMEOUT = httpx2.Timeout(20.0, connect=10.0)  # for each step; less than a lease lasts
PAUSE_SECONDS = 1.0  # before the second try; twice as long before each after it
TELL_SECONDS = 0.5
Report = Callable[[str, int, int], None]


def fetch(source: dict[str, Any], folder: Path, report: Report) -> list[tuple[str, str]]:
    """[(path, name that tells the split)] of the files of `source` (hub.Found.as_json), below `folder`.

    Raises Refused. `report` is called about twice a second, and may raise to stop.
    """
    folder.mkdir()
    files = source["files"]
    total = sum(size for _, size, _, _ in files)
    if shutil.disk_usage(folder).free < total:
        raise Refused(
            "disk_full",
            "The server has not enough free disk space to fetch this dataset.",
            "Ask its operator.",
        )
    tell = _Teller(report, total)
    fetched = []
    for number, (path, size, split, sha256) in enumerate(files):
        target = folder / str(number)
        where = address(source["dataset"], source["files_commit"], path)
        _Download(where, path, size, sha256, target, tell).run()
        fetched.append((str(target), name_here(path, split, number)))
    return fetched


def left_out(source: dict[str, Any]) -> list[Problem]:
    """What of the hub's dataset is not in this one, as findings."""
    names = source["left_out"]
    if not names:
        return []
    told = ", ".join(shown(name).strip("“”") for name in names)
    return [
        Problem(
            "split_left_out",
            f"A dataset here has the splits train, validation and test. Of the hub's, {told} "
            f"{'is' if len(names) == 1 else 'are'} left out.",
            "To use another one, fetch the dataset once more and name that split.",
            severity="warning",
            count=len(names),
        )
    ]


class _Teller:
    """Adds up what arrives."""

    def __init__(self, report: Report, total: int) -> None:
        self._report, self._total, self._done, self._said = report, total, 0, 0.0

    def __call__(self, arrived: int = 0) -> None:
        self._done += arrived
        if time.monotonic() - self._said >= TELL_SECONDS or self._done == self._total:
            self._said = time.monotonic()
            self._report("downloading", min(self._done, self._total), self._total)


class _Download:
    """One file."""

    def __init__(self, where: str, path: str, size: int, sha256: str, target: Path, tell: _Teller) -> None:
        self._where, self._path, self._size, self._sha256 = where, path, size, sha256
        self._target, self._tell = target, tell
        self._hashed, self._have = hashlib.sha256(), 0

    def run(self) -> None:
        """Raises Refused."""
        self._target.touch()
        failures = 0
        while self._have < self._size:
            before = self._have
            try:
                self._receive()
                failure: Exception | None = None
            except OfflineModeIsEnabled as error:
                raise self._away(error) from error
            except (httpx2.HTTPError, ConnectionError) as error:
                failure = error
            failures = 0 if self._have > before else failures + 1
            if failures >= TRIES:
                raise self._away(failure or EOFError("it sends nothing")) from failure
            if self._have < self._size:
                self._pause(PAUSE_SECONDS * 2**failures)
        if self._sha256 and self._hashed.hexdigest() != self._sha256:
            raise self._changed("other bytes than the hub announced")

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._tell()
            time.sleep(min(seconds, TELL_SECONDS))

    def _receive(self) -> None:
        headers = {**build_hf_headers(library_name="tuneboard"), "Accept-Encoding": "identity"}
        if self._have:
            headers["Range"] = f"bytes={self._have}-"
        # The token stays with the hub: the client takes it off where a file is kept by another host.
        with get_session().stream("GET", self._where, headers=headers, timeout=TIMEOUT) as answer:
            self._check(answer.status_code, answer.headers.get("X-Error-Code", ""))
            if self._have and answer.status_code != httpx2.codes.PARTIAL_CONTENT:
                self._again()
            with self._target.open("ab") as file:
                for piece in answer.iter_bytes():  # as they come: what was held back would be lost
                    if self._have + len(piece) > self._size:
                        raise self._changed(f"more than the {self._size:,} bytes that the hub announced")
                    file.write(piece)
                    self._hashed.update(piece)
                    self._have += len(piece)
                    self._tell(len(piece))

    def _again(self) -> None:
        """The hub sends the file from its beginning, whatever it was asked."""
        self._tell(-self._have)
        self._hashed, self._have = hashlib.sha256(), 0
        self._target.write_bytes(b"")

    def _check(self, status: int, code: str) -> None:
        if status < 400:
            return
        if status == httpx2.codes.TOO_MANY_REQUESTS or status >= 500:
            raise httpx2.NetworkError(f"it answers {status}")
        if code == "GatedRepo" or status in (401, 403):
            raise Refused(
                "hub_refused",
                f"The hub does not give {shown(self._path)} to this server.",
                "Accept the dataset's terms with the account whose HF_TOKEN this server has.",
                file=self._path,
            )
        raise self._changed(f"nothing any more (it answers {status})")

    def _away(self, error: Exception) -> Refused:
        return Refused(
            "hub_unreachable",
            f"The hub did not give {shown(self._path)}: {short(error)}.",
            "Try again later, or upload the files of the dataset.",
            file=self._path,
        )

    def _changed(self, what: str) -> Refused:
        return Refused(
            "hub_changed",
            f"For {shown(self._path)} the hub has {what}.",
            "Fetch the dataset again; somebody may have changed it.",
            file=self._path,
        )
