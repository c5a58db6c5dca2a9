"""Reading the log of an attempt's host, wherever it lies: by line, from its end, from an offset, by what it says."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cached_property

from django.db.models import QuerySet, Sum

from runs.models import Attempt, Log, LogChunk, Node, Run
from webapp import storage

BLOCK = 262_144
TAIL_LINES, TAIL_BYTES = 200, 64_000
LEFT_OUT = "[… {count:,} lines are left out here: the log is longer than this server keeps …]"


class LogGone(Exception):
    """There was a log, and its file is no longer in storage."""


@dataclass(frozen=True)
class Block:
    """Some whole lines: UTF-8, each with its end."""

    first_line: int  # 0: a note of ours about lines that are left out
    data: bytes


@dataclass(frozen=True)
class Line:
    """A line with its number; 0 for a note of ours."""

    number: int
    text: str


class LogReader:
    """What one host of an attempt printed. What is read is as it was when it is read: it may grow meanwhile."""

    def __init__(self, attempt: Attempt, rank: int = 0) -> None:
        self.attempt, self.rank = attempt, rank
        self.log = Log.objects.filter(attempt=attempt, rank=rank).first()

    @property
    def is_over(self) -> bool:
        return self.attempt.finished_at is not None

    @property
    def last_line(self) -> int:
        """The number of the last line; 0 without any."""
        return self.log.lines if self.log else len(self._old)

    @property
    def unfinished(self) -> str:
        return self.log.unfinished if self.log and not self.is_over else ""

    @cached_property
    def _old(self) -> list[str]:
        """Of an attempt from before whole logs were kept: its last lines."""
        return self.kept_tail.splitlines()

    @property
    def kept_tail(self) -> str:
        """The last lines, which stay when the log goes to storage; empty until then."""
        if not self.rank:
            return self.attempt.log_tail
        nodes = Node.objects.filter(attempt=self.attempt, rank=self.rank)
        return str(nodes.values_list("log_tail", flat=True).first() or "")

    def _kept(self) -> QuerySet[LogChunk]:
        return LogChunk.objects.filter(attempt=self.attempt, rank=self.rank)

    # -- in order ----------------------------------------------------------------------------------
    def blocks(self, from_line: int = 1) -> Iterator[Block]:
        """From the block in which a line stands, to the end. Raises LogGone."""
        if self.log is None:
            if self._old:
                yield Block(1, "".join(f"{line}\n" for line in self._old).encode())
        elif self.log.storage_key:
            yield from self._stored()
        else:
            yield from self._chunks(from_line)

    def _chunks(self, from_line: int) -> Iterator[Block]:
        assert self.log is not None
        mine = self._kept()
        begin = (
            mine.filter(first_line__lte=from_line).order_by("-start").values_list("start", flat=True).first()
        )
        told = False
        for chunk in mine.filter(start__gte=begin or 0).order_by("start").iterator(32):
            if self.log.left_out and not told and chunk.start >= self.log.left_out_at:
                told = True
                yield self._note()
            # Not what was added since the log's own row was read: numbers and sizes would not fit.
            if data := bytes(chunk.data)[: max(0, self.log.size - chunk.start)]:
                yield Block(chunk.first_line, data)

    def _note(self) -> Block:
        assert self.log is not None
        return Block(0, f"{LEFT_OUT.format(count=self.log.left_out)}\n".encode())

    def _stored(self) -> Iterator[Block]:
        assert self.log is not None
        line, rest = 1, b""
        try:
            with storage.open_file(self.log.storage_key) as source:
                while data := source.read(BLOCK):
                    whole, ended, rest = (rest + data).rpartition(b"\n")
                    if not ended:
                        continue
                    for block in self._numbered(line, whole + ended):
                        yield block
                        if block.first_line:
                            line = block.first_line + block.data.count(b"\n")
        except FileNotFoundError as error:
            raise LogGone("This log is no longer kept.") from error

    def _numbered(self, line: int, data: bytes) -> Iterator[Block]:
        """A block of the stored file, which has the note between the lines before and after it."""
        assert self.log is not None
        count, after = data.count(b"\n"), self.log.left_out_after
        if not self.log.left_out or not line <= after + 1 <= line + count - 1:
            yield Block(line, data)
            return
        at = 0
        for _ in range(after + 1 - line):
            at = data.index(b"\n", at) + 1
        end = data.index(b"\n", at) + 1
        if at:
            yield Block(line, data[:at])
        yield Block(0, data[at:end])
        yield Block(after + self.log.left_out + 1, data[end:])

    def lines(self, first: int, count: int) -> list[Line]:
        """At most so many lines from this number on. Raises LogGone."""
        found: list[Line] = []
        for block in self.blocks(first):
            for line in lines_of(block):
                if line.number >= first or (line.number == 0 and found):
                    found.append(line)
                    if len(found) == count:
                        return found
        return found

    # -- from the end ------------------------------------------------------------------------------
    def tail(self, count: int) -> list[Line]:
        """The last lines. Raises LogGone."""
        return self.lines(max(1, self.last_line - count + 1), count + 1)[-count:]

    # -- as one text -------------------------------------------------------------------------------
    @property
    def size(self) -> int:
        """Bytes of the text that `read` gives: all lines that are kept, and the note."""
        if self.log is None:
            return sum(len(block.data) for block in self.blocks())
        if self.log.storage_key:
            return self.log.stored_size
        return self.log.size - self._given_up

    @cached_property
    def _given_up(self) -> int:
        """Bytes that are left out, less those of the note in their place."""
        assert self.log is not None
        if not self.log.left_out:
            return 0
        if self.log.storage_key:
            return self.log.size - self.log.stored_size
        newest = self._kept().filter(start__gte=self.log.left_out_at)
        first = newest.order_by("start").values_list("start", flat=True).first()
        gone = (self.log.size if first is None else first) - self.log.left_out_at
        return gone - len(self._note().data)

    def since(self, offset: int, most: int) -> tuple[list[Line], int]:
        """(lines after an offset, the offset after them): about so many bytes at most.

        0 begins at the start; the offset of one answer brings what came after it. Raises LogGone.
        """
        if self.log is None or offset >= self.log.size:
            return [], self.log.size if self.log else 0
        return self._stored_since(offset, most) if self.log.storage_key else self._kept_since(offset, most)

    def _kept_since(self, offset: int, most: int) -> tuple[list[Line], int]:
        assert self.log is not None
        found: list[Line] = []
        taken = 0
        mine = self._kept().order_by("start")
        begin = mine.filter(start__lte=offset).values_list("start", flat=True).last()
        for chunk in mine.filter(start__gte=begin or 0).iterator(8):
            data = bytes(chunk.data)[: max(0, self.log.size - chunk.start)]
            if chunk.start + len(data) <= offset:
                continue
            if self.log.left_out and offset < chunk.start and chunk.start >= self.log.left_out_at:
                found.extend(lines_of(self._note()))
            found.extend(lines_of(_after(Block(chunk.first_line, data), offset - chunk.start)))
            taken += chunk.start + len(data) - offset
            offset = chunk.start + len(data)
            if taken >= most:
                break
        return found, offset

    def _stored_since(self, offset: int, most: int) -> tuple[list[Line], int]:
        assert self.log is not None
        cut, shift = self.log.left_out_at if self.log.left_out else self.log.size, self._given_up
        place = offset if offset <= cut else max(cut, offset - shift)  # in the file
        found: list[Line] = []
        at = 0
        for block in self.blocks():
            if at + len(block.data) > place:
                found.extend(lines_of(_after(block, place - at)))
                most -= at + len(block.data) - place
                place = at + len(block.data)
            at += len(block.data)
            if most <= 0:
                break
        return found, place if place <= cut else place + shift

    def read(self, start: int, length: int) -> Generator[bytes, None, None]:
        """A part of the text, in blocks. Raises LogGone."""
        for block in self.blocks():
            if length <= 0:
                return
            part = block.data[start : start + length] if start < len(block.data) else b""
            start = max(0, start - len(block.data))
            length -= len(part)
            if part:
                yield part


def lines_of(block: Block) -> Iterator[Line]:
    """The lines of a block with their numbers."""
    texts = block.data.decode(errors="replace").split("\n")[:-1]
    for place, text in enumerate(texts):
        yield Line(block.first_line + place if block.first_line else 0, text)


def _after(block: Block, length: int) -> Block:
    """A block without its first bytes."""
    if length <= 0:
        return block
    return Block(
        block.first_line and block.first_line + block.data.count(b"\n", 0, length), block.data[length:]
    )


def last_lines(attempt: Attempt, count: int = TAIL_LINES, rank: int = 0) -> list[str]:
    """For a page or a failure: the last lines, as far as they are at hand without asking the storage."""
    shown = live_log(attempt.run, attempt, rank)
    return ([*shown.lines, shown.unfinished] if shown.unfinished else shown.lines)[-count:]


def forget_logs(run_id: int) -> None:
    """What is in the database of a run's logs goes, so that its pages say that they are no longer kept.

    For house-keeping; the files below `runs/<id>/logs` are its to remove.
    """
    attempts = Attempt.objects.filter(run=run_id)
    LogChunk.objects.filter(attempt__in=attempts).delete()
    Log.objects.filter(attempt__in=attempts, storage_key="").update(storage_key=f"runs/{run_id}/logs/gone")
    Node.objects.filter(attempt__in=attempts).update(log_tail="")
    attempts.update(log_tail="")


def attempts_with_hosts(run: Run) -> list[Attempt]:
    """Newest first, each with its worker and those of its other hosts."""
    return list(run.attempts.select_related("worker").prefetch_related("nodes__worker").order_by("-number"))


def hosts_of(attempt: Attempt) -> list[str]:
    """The names of the hosts that print, by rank: host 1 leads. Empty where a worker was taken off the list."""
    workers = [attempt.worker, *(node.worker for node in attempt.nodes.all())]
    return [worker.host if worker is not None else "" for worker in workers]


def file_name(attempt: int, rank: int = 0) -> str:
    """Of a whole log in storage."""
    return f"attempt-{attempt}-host-{rank + 1}.log" if rank else f"attempt-{attempt}.log"


def rank_of(run: Run, host: str | int | None) -> int | None:
    """The rank of a host by its number, from 1, as people count them; None if the run has no such host."""
    text = str(host or 1)
    number = int(text) if text.isdecimal() and len(text) < 10 else 0
    return number - 1 if 1 <= number <= run.nodes else None


@dataclass(frozen=True)
class LiveLog:
    """What a page shows of a log at first, and what it needs to ask for what comes after."""

    attempt: int
    lines: list[str]
    unfinished: str
    since: int
    tag: str


def live_log(run: Run, attempt: Attempt | None, rank: int = 0) -> LiveLog:
    """The end of a log, as far as it is at hand without asking the storage."""
    if attempt is None:
        return LiveLog(0, [], "", 0, tag_of(run, None))
    reader = LogReader(attempt, rank)
    if reader.log is None or reader.log.storage_key:
        lines, size = reader.kept_tail.splitlines()[-TAIL_LINES:], reader.log.size if reader.log else 0
    else:
        lines, size = [line.text for line in reader.tail(TAIL_LINES)], reader.log.size
    return LiveLog(attempt.number, lines, reader.unfinished, size, tag_of(run, reader))


def tag_of(run: Run, reader: LogReader | None) -> str:
    """What `LOG_VERSION` of runs/views/logs.py makes of the newest attempt's logs; changes as they do."""
    if reader is None:
        return f"{run.pk}-0"
    # Of this host as it was read; of the others by now: nothing of theirs is shown with this tag.
    read = reader.log.read if reader.log else 0
    if run.nodes > 1:
        others = Log.objects.filter(attempt=reader.attempt).exclude(rank=reader.rank)
        read += others.aggregate(all=Sum("read"))["all"] or 0
    return f"{run.pk}-{reader.attempt.number * 10**13 + read * 2 + int(reader.is_over)}"
