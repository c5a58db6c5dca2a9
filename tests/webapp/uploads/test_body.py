"""Reading ahead changes nothing of what comes, and ends with who asked for it."""

from __future__ import annotations

import io
import threading
import time

import pytest

from webapp.uploads.body import AHEAD, PIECE, pieces

WHOLE = bytes(range(256)) * (20 * PIECE // 256) + b"end"


class Slow(io.BytesIO):
    """Counts what is read of it, and may break."""

    def __init__(self, data: bytes, breaks_at: int = 0) -> None:
        super().__init__(data)
        self.given, self.breaks_at = 0, breaks_at

    def read(self, size: int | None = -1, /) -> bytes:
        if self.breaks_at and self.given >= self.breaks_at:
            raise ConnectionError("cut")
        found = super().read(size)
        self.given += len(found)
        return found


@pytest.mark.parametrize("size", [0, 1, PIECE, AHEAD * PIECE, AHEAD * PIECE + 1, len(WHOLE)])
def test_a_body_comes_whole_and_in_order(size: int) -> None:
    assert b"".join(pieces(io.BytesIO(WHOLE[:size]), size)) == WHOLE[:size]


def test_what_came_before_the_connection_broke_comes_before_the_error() -> None:
    got = []
    with pytest.raises(ConnectionError, match="cut"):
        for piece in pieces(Slow(WHOLE, breaks_at=3 * PIECE), len(WHOLE)):
            got.append(piece)
    assert b"".join(got) == WHOLE[: 3 * PIECE]


def test_a_body_that_ends_early_ends() -> None:
    assert b"".join(pieces(io.BytesIO(WHOLE[:PIECE]), len(WHOLE))) == WHOLE[:PIECE]


def test_no_more_is_read_than_a_few_pieces_ahead_and_nothing_once_nobody_wants_it() -> None:
    source = Slow(WHOLE)
    body = pieces(source, len(WHOLE))
    assert next(body) == WHOLE[:PIECE]
    time.sleep(0.5)
    assert source.given <= (AHEAD + 2) * PIECE
    body.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 10
    while any(thread.name == "upload" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert source.given < len(WHOLE)
