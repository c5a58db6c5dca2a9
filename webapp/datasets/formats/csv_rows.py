"""That no row of a CSV is longer than any example needs, before DuckDB reads it.

A value in quotes may go on over lines. DuckDB refuses rows that are too long, but where one does not fit into its buffer it
takes gigabytes first. One pass that counts quotes finds such rows; lines are bounded already (text.py).
"""

from __future__ import annotations

from pathlib import Path

from webapp.datasets.formats.common import MAX_ROW_BYTES

CHUNK = 1 << 20
MOST_TRIED = 64  # line ends that are tried from the end of a chunk before its rows are looked at one by one


def too_long_row(path: Path, quote: str, delimiter: str) -> int | None:
    """The line, from 1, in which a row of more than MAX_ROW_BYTES begins; None if there is none.

    `quote` and `delimiter`: one ASCII character each, no quote if they mean nothing.
    """
    if not quote:
        return None
    mark, between = quote.encode(), delimiter.encode()
    row, place, inside = 0, 0, False  # where the row began, where the chunk does, whether in quotes there
    with path.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            end = _last_row_end(chunk, mark, inside)
            if end >= 0:
                row = place + end + 1
            inside ^= chunk.count(mark) % 2 == 1
            place += len(chunk)
            if place - row > MAX_ROW_BYTES:
                if _opens_with_quote(path, row, mark, between):
                    return _line_at(path, row)
                row, inside = (
                    place,
                    False,
                )  # a mark such as of inches, in a value without quotes, means nothing
    return None


def _last_row_end(chunk: bytes, mark: bytes, inside: bool) -> int:
    """Where the last line end of a chunk is that is not in quotes; -1 if there is none."""
    end = chunk.rfind(b"\n")
    quoted = inside ^ (chunk.count(mark, 0, max(0, end)) % 2 == 1)
    tried = 0
    while end >= 0 and quoted:
        before = chunk.rfind(b"\n", 0, end)
        quoted ^= chunk.count(mark, max(0, before), end) % 2 == 1
        end, tried = before, tried + 1
        if tried == MOST_TRIED:
            return _row_end_by_quotes(chunk[: end + 1], mark, inside)
    return end


def _row_end_by_quotes(chunk: bytes, mark: bytes, inside: bool) -> int:
    """The same, from quote to quote: for long stretches in quotes that have many lines."""
    found, place, quoted = -1, 0, inside
    for part in chunk.split(mark):
        if not quoted and (end := part.rfind(b"\n")) >= 0:
            found = place + end
        place, quoted = place + len(part) + len(mark), not quoted
    return found


def _opens_with_quote(path: Path, row: int, mark: bytes, between: bytes) -> bool:
    """Whether the first quote of a row stands where a value begins."""
    with path.open("rb") as opened:
        opened.seek(row)
        before, read = b"\n", 0
        while read <= MAX_ROW_BYTES and (chunk := opened.read(CHUNK)):
            place = chunk.find(mark)
            if place >= 0:
                return (before + chunk[:place])[-1:] in (b"\n", between)
            before, read = chunk[-1:], read + len(chunk)
    return False


def _line_at(path: Path, place: int) -> int:
    line, left = 1, place
    with path.open("rb") as opened:
        while left and (chunk := opened.read(min(CHUNK, left))):
            line, left = line + chunk.count(b"\n"), left - len(chunk)
    return line
