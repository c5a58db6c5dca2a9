"""Searching a log by text or regular expression: every match counted, some shown with what stands around.

Expressions are matched by Postgres, whose engine can be interrupted: one that would take for ever ends
after SECONDS and harms nobody.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from django.db import DataError, OperationalError, connection, transaction

from runs.logs import Line, LogReader, lines_of

SECONDS = 3.0  # for all of a log
MOST_SHOWN = 200
AT_ONCE = 5_000  # lines
LONGEST = 1_000  # characters of what is searched for


class SearchError(Exception):
    """What was asked for cannot be searched; the message says why and what to do."""


@dataclass(frozen=True)
class Shown:
    """A line of an answer; `hit`: it is one of the matches, else it stands around one."""

    number: int
    text: str
    hit: bool


@dataclass
class Found:
    """`groups`: lines that follow each other; `next_line`: where to go on for more, 0 if that was all."""

    count: int = 0
    groups: list[list[Shown]] = field(default_factory=list)
    next_line: int = 0

    @property
    def shown(self) -> int:
        return sum(line.hit for group in self.groups for line in group)


def search(
    reader: LogReader,
    wanted: str,
    *,
    regex: bool,
    context: int = 2,
    from_line: int = 1,
    most: int = MOST_SHOWN,
) -> Found:
    """Count all lines that match, upper and lower case alike; show at most so many from `from_line` on.

    Raises SearchError, LogGone.
    """
    wanted = wanted.replace("\0", "")[:LONGEST]
    until = time.monotonic() + SECONDS
    found = Found()
    before: list[Line] = []  # the newest lines that are not shown, in case the next one matches
    after = 0  # lines still to be shown after a match
    shown = 0
    for lines in _batches(reader):
        hits = _matching(lines, wanted, until) if regex else _containing(lines, wanted)
        found.count += len(hits)
        for place, line in enumerate(lines):
            if place in hits and line.number >= from_line:
                if shown == most:
                    found.next_line = found.next_line or line.number
                    after = 0
                    continue
                shown += 1
                for earlier in before:
                    _put(found, earlier, hit=False)
                _put(found, line, hit=True)
                before, after = [], context
            elif after > 0:
                _put(found, line, hit=False)
                after -= 1
            elif context:
                before = [*before[-context + 1 :], line] if context > 1 else [line]
    return found


def _put(found: Found, line: Line, *, hit: bool) -> None:
    """To the lines that it follows, or else to a new group."""
    if not found.groups or found.groups[-1][-1].number + 1 != line.number:
        found.groups.append([])
    found.groups[-1].append(Shown(line.number, line.text, hit))


def _batches(reader: LogReader) -> Iterator[list[Line]]:
    batch: list[Line] = []
    for block in reader.blocks():
        batch.extend(line for line in lines_of(block) if line.number)
        if len(batch) >= AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _containing(lines: list[Line], wanted: str) -> set[int]:
    folded = wanted.casefold()
    return {place for place, line in enumerate(lines) if folded in line.text.casefold()}


def _matching(lines: list[Line], wanted: str, until: float) -> set[int]:
    left = int((until - time.monotonic()) * 1000)
    too_long = "This expression takes too long on this log. Search for plain text, or for something simpler."
    if left <= 0:
        raise SearchError(too_long)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {left}")
            cursor.execute(
                "SELECT place FROM unnest(%s::text[]) WITH ORDINALITY AS given(line, place) WHERE line ~* %s",
                [[line.text for line in lines], wanted],
            )
            return {int(place) - 1 for (place,) in cursor.fetchall()}
    except DataError as error:
        said = str(error).splitlines()[0].removeprefix("invalid regular expression: ")
        raise SearchError(f"This is no regular expression: {said}. Search for it as plain text.") from error
    except OperationalError as error:
        if "statement timeout" in str(error):
            raise SearchError(too_long) from error
        raise
