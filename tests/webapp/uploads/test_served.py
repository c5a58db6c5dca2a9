"""Through real connections to a real server: what cuts, kills and size do to an upload.

TUNEBOARD_UPLOAD_TEST_MB makes the file larger, as for a release: 5000.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psutil
import pytest

from tests.faults.link import Link
from tests.webapp.uploads.served import Served
from webapp.uploads.models import Upload

pytestmark = pytest.mark.django_db(transaction=True)
SIZE = int(os.environ.get("TUNEBOARD_UPLOAD_TEST_MB") or 64) << 20
PIECE = 1 << 20


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Path]:
    path, draw = tmp_path / "large", random.Random(0)
    with path.open("wb") as file:
        for _ in range(SIZE // PIECE):
            file.write(draw.randbytes(PIECE))
    yield path
    path.unlink()  # pytest would keep it


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def rest_of(file: IO[bytes], start: int, pace: float) -> Iterator[bytes]:
    file.seek(start)
    while piece := file.read(PIECE):
        yield piece
        time.sleep(pace)


def memory(served: Served) -> int:
    return sum(psutil.Process(pid).memory_info().rss for pid in served.pids())


def go_on(served: Served, address: str, path: Path, port: int, pace: float = 0.0) -> int:
    """Ask how far it is and send the rest, as any client does; returns where it went on from."""
    offset = served.offset(address, port)
    with path.open("rb") as file:
        served.send(address, offset, rest_of(file, offset, pace), SIZE - offset, port)
    return offset


def counted() -> Upload:
    """The upload of the large file, once its digest is known: with the answer, or soon after."""
    end = time.monotonic() + 20
    while not (row := Upload.objects.get(length=SIZE)).sha256:
        assert time.monotonic() < end
        time.sleep(0.02)
    return row


def test_a_connection_that_is_cut_ten_times_brings_the_file_whole_in_flat_memory(
    served: Served, large: Path
) -> None:
    link = Link(lambda: socket.create_connection(("127.0.0.1", served.port)))
    address = served.announce(SIZE)
    served.send(served.announce(PIECE), 0, bytes(PIECE), PIECE)  # what a first upload loads is not growth
    before, highest = memory(served), 0
    chance, cuts, offsets = random.Random(1), 0, []

    def cut() -> None:
        """Once some of it has passed; the ten cuts are spread over the file."""
        wanted = SIZE * (cuts + chance.uniform(0.2, 0.9)) / 11
        row = Path(served.home / "storage" / "uploads" / address.rsplit("/", 1)[1] / "data")
        while row.stat().st_size < wanted:
            time.sleep(0.002)
        link.become("cut")

    while True:
        knife = threading.Thread(target=cut) if cuts < 10 else None
        if knife:
            knife.start()
        with contextlib.suppress(OSError, http.client.HTTPException):
            offsets.append(go_on(served, address, large, link.port, pace=0.001))
        highest = max(highest, memory(served))
        if knife is None:
            break
        knife.join(60)
        cuts += 1
        link.become("open")
    link.close()
    assert cuts == 10
    row = counted()
    assert (row.offset, row.sha256) == (SIZE, digest(large))
    assert digest(served.home / "storage" / row.key) == digest(large)
    assert highest - before < 64e6


def test_a_server_that_is_killed_in_the_middle_goes_on_where_it_was(served: Served, large: Path) -> None:
    address = served.announce(SIZE)
    kept = served.home / "storage" / "uploads" / address.rsplit("/", 1)[1] / "data"

    def kill() -> None:
        while kept.stat().st_size < SIZE // 3:
            time.sleep(0.002)
        served.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with contextlib.suppress(OSError, http.client.HTTPException):
        go_on(served, address, large, served.port, pace=0.005)
    killer.join(60)
    served.start()
    assert go_on(served, address, large, served.port) >= SIZE // 3
    row = counted()
    assert (row.offset, row.sha256) == (SIZE, digest(large))
    assert digest(kept) == digest(large)


def test_an_upload_that_comes_slowly_holds_up_nobody_and_is_noted_while_it_comes(
    served: Served, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = served.announce(SIZE)
    with large.open("rb") as file:
        sender = threading.Thread(
            target=served.send, args=(address, 0, rest_of(file, 0, 8 / (SIZE / PIECE)), SIZE)
        )
        sender.start()
        noted = set()
        while sender.is_alive():
            asked = time.monotonic()
            assert served.ask("GET", "/api/v1/uploads").status == 200
            assert time.monotonic() - asked < 5
            noted.add(Upload.objects.get().offset)
            time.sleep(0.2)
        sender.join()
        noted.add(Upload.objects.get().offset)
    assert len(noted) >= 3 and 0 in noted and SIZE in noted
    assert counted().sha256 == digest(large)
