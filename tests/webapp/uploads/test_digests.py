"""The SHA-256 of an upload is counted beside its coming: it holds up nothing, and is right whatever happens."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.webapp.uploads.conftest import CSV, Tus
from webapp import storage
from webapp.accounts.models import User, Workspace
from webapp.uploads import digests, receiving
from webapp.uploads.digests import Following
from webapp.uploads.models import Upload

DATA = bytes(range(256)) * (3 << 12)  # three pieces


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def counting() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("digest")]


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    until(lambda: not counting())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data"
    path.touch()
    return path


def append(file: Path, following: Following, data: bytes) -> None:
    with file.open("ab") as growing:
        growing.write(data)
    following.add(data)


def test_what_grows_is_counted_while_it_grows(file: Path) -> None:
    following = Following(file)
    following.begin()
    for start in range(0, len(DATA), 100_000):
        append(file, following, DATA[start : start + 100_000])
    until(lambda: following.left == 0)  # and it still may come
    assert following.end(len(DATA))
    assert following.hexdigest() == sha256(DATA)


def test_it_goes_on_from_request_to_request(file: Path) -> None:
    following = Following(file)
    for part in (DATA[:1], DATA[1:1_000_000], b"", DATA[1_000_000:]):
        following.begin()
        append(file, following, part)
        assert following.end(file.stat().st_size)
    assert following.hexdigest() == sha256(DATA)


def test_far_behind_it_waits_until_no_more_comes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "MOST_BEHIND", 1000)
    following = Following(file)
    following.begin()
    append(file, following, DATA)
    time.sleep(5 * digests.LOOK_SECONDS)
    assert following.left == len(DATA)
    following.end(len(DATA))
    assert following.hexdigest() == sha256(DATA)


def test_it_does_not_matter_where_the_process_began_to_look(file: Path) -> None:
    file.write_bytes(DATA[:500_000])
    following = Following(file, 500_000)
    following.begin()
    append(file, following, DATA[500_000:])
    following.end(len(DATA))
    assert following.hexdigest() == sha256(DATA)


def test_a_file_that_lost_bytes_has_no_digest(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    following = Following(file)
    following.begin()
    append(file, following, DATA)
    until(lambda: following.left == 0)
    assert not following.end(len(DATA) - 1)
    assert following.hexdigest() is None
    shorter = Following(file, len(DATA) + 1)
    shorter.begin()
    shorter.end(len(DATA) + 1)
    assert shorter.hexdigest() is None
    assert "could not be read again" in caplog.text


def test_of_a_file_that_is_gone_it_ends(file: Path) -> None:
    file.unlink()
    following = Following(file, 10)
    following.begin()
    until(lambda: following.left == 0)
    assert not following.end(10)


@pytest.fixture
def behind(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Everything comes faster than it can be counted; counting goes on once this is set."""
    go_on, work = threading.Event(), Following._work

    def slowly(self: Following) -> None:
        assert go_on.wait(20)
        work(self)

    monkeypatch.setattr(Following, "_work", slowly)
    monkeypatch.setattr(digests, "SOON", 100)
    return go_on


def test_the_answer_does_not_wait_for_it(
    transactional_db: None, folder: Path, tus: Tus, behind: threading.Event
) -> None:
    address = tus.announce(len(CSV))
    answer = tus.send(address, 0, CSV)
    assert (answer.status_code, answer["Upload-Offset"]) == (204, str(len(CSV)))
    assert "Repr-Digest" not in answer
    assert "Repr-Digest" not in tus.ask("HEAD", address), "nor does the next one"
    assert tus.offset(address) == len(CSV)
    behind.set()
    until(lambda: Upload.objects.get().sha256)
    digest = base64.b64decode(tus.ask("HEAD", address)["Repr-Digest"].removeprefix("sha-256=:").rstrip(":"))
    assert digest.hex() == Upload.objects.get().sha256 == sha256(CSV)


def test_who_takes_the_file_over_waits_for_it(
    transactional_db: None, folder: Path, tus: Tus, user: User, workspace: Workspace, behind: threading.Event
) -> None:
    tus.send(tus.announce(len(CSV)), 0, CSV)
    pk = Upload.objects.get().pk
    threading.Timer(0.2, behind.set).start()
    (found,) = receiving.find_whole(user, workspace, [pk])
    assert found.sha256 == sha256(CSV)


def test_discarded_before_it_is_counted_nothing_is_left(
    transactional_db: None, folder: Path, tus: Tus, behind: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    address = tus.announce(len(CSV))
    tus.send(address, 0, CSV)
    assert tus.ask("DELETE", address).status_code == 204
    behind.set()
    until(lambda: not counting())
    assert not Upload.objects.exists() and not list(storage.listing())
    assert not [line for line in caplog.records if line.levelname in {"WARNING", "ERROR"}]


def test_a_server_that_was_ended_before_it_was_counted_counts_it_when_it_is_asked_for(
    transactional_db: None, folder: Path, tus: Tus, behind: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "_end_later", lambda upload: None)
    address = tus.announce(len(CSV))
    tus.send(address, 0, CSV)
    monkeypatch.setattr(digests, "_running", type(digests._running)())  # as another process has it
    assert tus.ask("HEAD", address)["Repr-Digest"]
    assert Upload.objects.get().sha256 == sha256(CSV)
    behind.set()
