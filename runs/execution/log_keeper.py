"""Keeping what a trainer prints: line by line in the database while it runs, whole in storage afterwards.

Each piece is written in one transaction that locks the attempt first, or the node of one more host, like all
that a worker writes. Of a log longer than LOG_MAX_BYTES the first half and the newest lines are kept: what lies between is left out.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

from django.conf import settings
from django.db import connection, transaction

from runs import lifecycle
from runs.execution import gang
from runs.execution.log_file import LogFile, Piece
from runs.logs import LogReader, file_name
from runs.models import Attempt, Log, LogChunk, Node

FILL = 4096  # a chunk is added to until it has so many bytes: few rows, and little that is written again
CHUNK = 65_536  # most bytes of one
NEWEST = 262_144  # bytes that one piece of a log over its limit brings at most

# False where this piece was stored before and only the answer was lost.
MOVE = """
    UPDATE runs_log SET read = %(read)s, size = %(size)s, lines = %(lines)s, unfinished = %(unfinished)s,
           left_out = %(left_out)s, left_out_after = %(left_out_after)s, left_out_at = %(left_out_at)s
    WHERE attempt_id = %(attempt)s AND rank = %(rank)s AND read < %(read)s
"""
ADD = """
    INSERT INTO runs_logchunk (attempt_id, rank, start, first_line, data) VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (attempt_id, rank, start) DO UPDATE SET data = runs_logchunk.data || excluded.data
"""


class LogKeeper:
    """Takes in the log of one host of an attempt, whose only supervisor is in this process."""

    def __init__(self, attempt: Attempt, path: Path, node: Node | None = None) -> None:
        """`node`: that of this host, unless it leads."""
        self._attempt, self._node = attempt, node
        self._rank = node.rank if node is not None else 0
        self._path = path
        self._file = LogFile(path)
        self._state = Log(attempt_id=attempt.pk)
        self._begun = False
        self._chunks: deque[tuple[int, int, int]] = deque()  # start, first line, bytes: of the newest half
        self._open: tuple[int, int] | None = None  # start and bytes of a chunk that takes more
        self._pending: Piece | None = None

    @property
    def key(self) -> str:
        """With the attempt in it: who has lost the lease cannot write over the successor's."""
        return f"runs/{self._attempt.run_id}/logs/{file_name(self._attempt.number, self._rank)}"

    def next(self) -> Piece | None:
        """What was printed since, to be given to `keep`; None if nothing was."""
        if not self._file.has_more:
            return None
        full = self._state.size >= settings.LOG_MAX_BYTES // 2
        return self._file.next(most=min(NEWEST, settings.LOG_MAX_BYTES // 2) if full else None)

    def keep(self, piece: Piece) -> None:
        """Store a piece; bears being done twice. Raises LeaseLost, and then nothing is written."""
        before, half = self._state, settings.LOG_MAX_BYTES // 2
        state = Log(
            attempt_id=self._attempt.pk,
            read=piece.read,
            size=before.size + len(piece.data),
            lines=before.lines + piece.skipped + piece.lines,
            unfinished=piece.unfinished,
            left_out=before.left_out,
            left_out_after=before.left_out_after,
            left_out_at=before.left_out_at,
        )
        parts = _parts(piece.data, before.size, before.lines + piece.skipped + 1)
        grows = self._open is not None and not piece.skipped and self._open[1] + len(piece.data) <= FILL
        if before.size >= half:  # from here on the newest push out those before them
            tail = deque(self._chunks)
            if not state.left_out_at:
                state.left_out_at, state.left_out_after = before.size, before.lines
            if piece.skipped:
                tail.clear()
            if not grows:
                tail.extend((start, first, len(data)) for start, first, data in parts)
            elif tail:
                start, first, length = tail.pop()
                tail.append((start, first, length + len(piece.data)))
            while len(tail) > 1 and sum(length for *_, length in tail) > half:
                tail.popleft()
            first = tail[0][1] if tail else state.lines + 1
            state.left_out = first - 1 - state.left_out_after
        else:
            tail = deque()
        self._write(piece, state, parts, grows, tail)
        self._state, self._chunks = state, tail
        if grows and self._open:
            self._open = (self._open[0], self._open[1] + len(piece.data))
        elif parts:
            self._open = (parts[-1][0], len(parts[-1][2]))

    def _write(
        self,
        piece: Piece,
        state: Log,
        parts: list[tuple[int, int, bytes]],
        grows: bool,
        tail: deque[tuple[int, int, int]],
    ) -> None:
        with transaction.atomic():
            self._hold()
            if not self._begun:
                Log.objects.get_or_create(attempt=self._attempt, rank=self._rank)
            mine = [self._attempt.pk, self._rank]
            with connection.cursor() as cursor:
                names = ("read", "size", "lines", "unfinished", "left_out", "left_out_after", "left_out_at")
                values = {name: getattr(state, name) for name in names}
                cursor.execute(MOVE, {**values, "attempt": self._attempt.pk, "rank": self._rank})
                if not cursor.rowcount:
                    return
                if grows and self._open:
                    if piece.data:
                        cursor.execute(ADD, [*mine, self._open[0], 0, piece.data])
                else:
                    cursor.executemany(ADD, [[*mine, *part] for part in parts])
                if state.left_out:
                    oldest = tail[0][0] if tail else state.size
                    cursor.execute(
                        "DELETE FROM runs_logchunk WHERE attempt_id = %s AND rank = %s AND start >= %s AND start < %s",
                        [*mine, state.left_out_at, oldest],
                    )
        self._begun = True

    def finish(self) -> Piece | None:
        """The last line, if it never got its end, as a piece; None if all lines have one."""
        if not self._state.unfinished:
            return None
        line = f"{self._state.unfinished}\n".encode()
        return Piece(self._state.read + 1, 0, 1, line, "")

    def collect(self, target: Path) -> Path | None:
        """The whole log as one file for storage; None if nothing was printed."""
        reader = LogReader(self._attempt, self._rank)
        if reader.log is None or not reader.log.size:
            return None
        with target.open("wb") as file:
            for block in reader.blocks():
                file.write(block.data)
        return target

    def stored(self, size: int) -> None:
        """The file is in storage under `key`: the database need not keep the lines."""
        with transaction.atomic():
            self._hold()
            mine = {"attempt": self._attempt, "rank": self._rank}
            Log.objects.filter(**mine).update(storage_key=self.key, stored_size=size)
            LogChunk.objects.filter(**mine).delete()

    def _hold(self) -> None:
        """In a transaction: this worker still holds what it writes about. Raises LeaseLost."""
        if self._node is not None:
            gang.hold(self._node)
        else:
            lifecycle.hold(self._attempt)


def _parts(data: bytes, start: int, first_line: int) -> list[tuple[int, int, bytes]]:
    """(offset, number of the first line, lines) of chunks of at most CHUNK bytes, cut between lines."""
    parts: list[tuple[int, int, bytes]] = []
    at = 0
    while at < len(data):
        end = min(len(data), at + CHUNK)
        if end < len(data):
            end = (data.rfind(b"\n", at, end) + 1) or (data.find(b"\n", end) + 1) or len(data)
        parts.append((start + at, first_line, data[at:end]))
        first_line += data.count(b"\n", at, end)
        at = end
    return parts
