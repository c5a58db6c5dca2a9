"""Following a trainer's `log.txt` while it is written: whole lines as a terminal would show them.

A progress bar draws its line over and over (carriage return): what counts is its last state. Colours and
other orders to a terminal are dropped, and a line of megabytes is cut.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

BLOCK = 1 << 20  # bytes read at once
LONGEST_LINE = 8_000  # characters
TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True)
class Piece:
    """What was printed since the piece before."""

    read: int  # the file was read up to here, in bytes
    skipped: int  # lines before those of `data` that are left out
    lines: int  # in `data`
    data: bytes  # UTF-8, each line with its end
    unfinished: str  # the last line, while it has no end


class LogFile:
    """Reads on from where it was; each line is handed out once by one object."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0  # up to the start of the unfinished line
        self._seen = 0  # up to its end

    @property
    def has_more(self) -> bool:
        """Whether anything was printed since the last piece; costs no reading."""
        try:
            return self._path.stat().st_size > self._seen
        except FileNotFoundError:
            return False

    def next(self, most: int | None = None) -> Piece | None:
        """What is new; None if nothing is. Of more than `most` bytes only the last are handed out."""
        try:
            with self._path.open("rb") as source:
                size = source.seek(0, 2)
                if size <= self._seen:
                    return None
                source.seek(self._read)
                skipped = 0
                if most is not None:
                    while size - self._read > most + BLOCK:
                        skipped += self._skip(source.read(BLOCK))
                        source.seek(self._read)
                data = source.read(BLOCK)
        except FileNotFoundError:
            return None
        whole, ended, rest = data.rpartition(b"\n")
        if not ended and len(data) == BLOCK:  # a line of a megabyte: end it here
            whole, ended, rest = data, b"\n", b""
            self._read += len(data)
        else:
            self._read += len(whole) + len(ended)
        self._seen = self._read + len(rest)
        lines = whole.split(b"\n") if ended else []
        if most is not None and len(whole) > most:
            kept, length = 0, 0
            while kept < len(lines) and length <= most:
                kept += 1
                length += len(lines[-kept]) + 1
            skipped += len(lines) - kept
            lines = lines[-kept:]
        shown = [printed(line) for line in lines]
        text = "".join(f"{line}\n" for line in shown).encode()
        return Piece(self._seen, skipped, len(shown), text, printed(rest))

    def _skip(self, block: bytes) -> int:
        """Go past the whole lines of a block; how many they are."""
        end = block.rfind(b"\n") + 1
        self._read += end or len(block)
        return block.count(b"\n")


def printed(raw: bytes) -> str:
    """What a terminal would still show of a line, as text that Postgres takes."""
    line = raw.rstrip(b"\r").rsplit(b"\r", 1)[-1].decode(errors="replace")
    line = UNPRINTABLE.sub("", TERMINAL.sub("", line))
    if len(line) > LONGEST_LINE:
        return f"{line[:LONGEST_LINE]} … ({len(line) - LONGEST_LINE:,} more characters)"
    return line
