"""Which rows hold a text or have a value: DuckDB over the shards, from a row on and within a time limit.

Nothing is skipped by counting: a page begins at a row's number, and row groups before it are not read. What was
looked through when the time was over is said, so that a search can go on from there.
"""

# Column names are quoted by `quoted`, values are parameters; DuckDB may read nothing but the shards.
# ruff: noqa: S608
from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from webapp.datasets.columns import quoted
from webapp.datasets.sandbox import connect
from webapp.datasets.shards import NotHere

SECONDS = 5.0
MEMORY = "256MB"
WINDOW = 500_000  # rows a query: between two of them the clock is looked at
AT_ONCE = threading.BoundedSemaphore(2)  # searches in this process; each may use two cores

# How the words of a column are found, by kind; a kind that is not here holds none.
WORDS = {
    "text": "{column}",
    "json": "{column}",
    "tokens": "array_to_string({column}, ' ')",
    "answers": "array_to_string({column}.text, chr(10))",
    "messages": "array_to_string(list_transform({column}, lambda said: said.content), chr(10))",
}


class Busy(Exception):
    """It cannot be searched now; the message says why."""


@dataclass(frozen=True)
class Condition:
    """What a row must be like, as SQL with parameters; empty: any row will do."""

    sql: str = ""
    parameters: tuple[Any, ...] = ()


@dataclass
class Found:
    """Numbers of rows in rising order. `over`: all rows were looked at; else those up to `looked_to`."""

    numbers: list[int] = field(default_factory=list)
    looked_to: int = 0
    over: bool = True


@dataclass
class Counted:
    """How many rows there are of `looked` that were looked at; `over`: those were all."""

    matches: int = 0
    looked: int = 0
    over: bool = True


def searched(columns: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the columns that a search looks through."""
    return [column["name"] for column in columns if column["kind"] in WORDS]


def condition(columns: Sequence[dict[str, Any]], text: str, value: tuple[str, Any] | None) -> Condition:
    """Rows that hold `text` in any column of words, in capitals or not, and whose column has the value."""
    parts, parameters = [], []
    if text:
        parts.append(
            " OR ".join(
                f"contains(lower({WORDS[column['kind']].format(column=quoted(column['name']))}), lower(?))"
                for column in columns
                if column["kind"] in WORDS
            )
            or "false"
        )
        parameters += [text] * len(searched(columns))
    if value is not None:
        name, wanted = value
        parts.append(f"{quoted(name)} IS NULL" if wanted is None else f"{quoted(name)} = ?")
        parameters += [] if wanted is None else [wanted]
    return Condition(" AND ".join(f"({part})" for part in parts), tuple(parameters))


@contextmanager
def turn(seconds: float = SECONDS) -> Iterator[None]:
    """Waits until this process may look through rows; raises Busy if that takes longer than `seconds`."""
    if not AT_ONCE.acquire(timeout=max(0.0, seconds)):
        raise Busy("Others are searching just now. Try again in a few seconds.")
    try:
        yield
    finally:
        AT_ONCE.release()


class Search:
    """A search over the files of a split, whose rows are counted from 0."""

    def __init__(self, paths: Sequence[Path], starts: Sequence[int], wanted: Condition) -> None:
        self.paths, self.starts, self.wanted = paths, starts, wanted
        self.until = time.monotonic() + SECONDS

    def forward(self, start: int, limit: int) -> Found:
        """The first rows at and after `start`; raises Busy, NotHere."""
        found = Found()
        with self._database() as database:
            for shard, first, last in self._windows(start, self.starts[-1]):
                numbers = self._numbers(database, shard, first, last, f"LIMIT {limit - len(found.numbers)}")
                if numbers is None:
                    return Found(found.numbers, first, over=False)
                found.numbers += numbers
                if len(found.numbers) >= limit:
                    break
        return found

    def backward(self, end: int, limit: int) -> Found:
        """The last rows before `end`; raises Busy, NotHere."""
        found = Found()
        with self._database() as database:
            for shard, first, last in reversed(list(self._windows(0, end))):
                rest = f"ORDER BY 1 DESC LIMIT {limit - len(found.numbers)}"
                numbers = self._numbers(database, shard, first, last, rest)
                if numbers is None:
                    return Found(found.numbers, last, over=False)
                found.numbers = numbers[::-1] + found.numbers
                if len(found.numbers) >= limit:
                    break
        return found

    def count(self) -> Counted:
        """All of them, as far as the time goes; raises Busy, NotHere."""
        counted = Counted()
        with self._database() as database:
            for shard, first, last in self._windows(0, self.starts[-1]):
                rows = self._ask(database, shard, first, last, "count(*)", "")
                if rows is None:
                    return Counted(counted.matches, first, over=False)
                counted.matches += int(rows[0][0])
                counted.looked = last
        return counted

    def _windows(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """(shard, first row, row after the last) of pieces of a shard between two rows."""
        for shard, (begins, ends) in enumerate(zip(self.starts, self.starts[1:], strict=False)):
            first = max(start, begins)
            while first < min(end, ends):
                last = min(first + WINDOW, end, ends)
                yield shard, first, last
                first = last

    @contextmanager
    def _database(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with (
            turn(self.until - time.monotonic()),
            tempfile.TemporaryDirectory(prefix="search-") as scratch,
        ):
            database = connect(Path(scratch), *self.paths, memory=MEMORY)
            try:
                yield database
            finally:
                database.close()

    def _numbers(
        self, database: duckdb.DuckDBPyConnection, shard: int, first: int, last: int, rest: str
    ) -> list[int] | None:
        """Without an order they come in that of the file, and the rest of it is not read."""
        rows = self._ask(database, shard, first, last, "file_row_number", rest)
        return None if rows is None else [self.starts[shard] + int(row[0]) for row in rows]

    def _ask(
        self, database: duckdb.DuckDBPyConnection, shard: int, first: int, last: int, what: str, rest: str
    ) -> list[Any] | None:
        """Answer of one query; None if the time was over first."""
        begins = self.starts[shard]
        query = (
            f"SELECT {what} FROM read_parquet(?, file_row_number=true)"
            f" WHERE file_row_number >= ? AND file_row_number < ? AND {self.wanted.sql or 'true'} {rest}"
        )
        parameters = [str(self.paths[shard]), first - begins, last - begins, *self.wanted.parameters]
        left = self.until - time.monotonic()
        if left <= 0:
            return None
        timer = threading.Timer(left, database.interrupt)
        timer.start()
        try:
            return database.execute(query, parameters).fetchall()
        except duckdb.InterruptException:
            return None
        except duckdb.OutOfMemoryException as error:
            raise Busy("The values of these rows are too long to search.") from error
        except (duckdb.IOException, duckdb.InvalidInputException) as error:
            raise NotHere("The files of these rows are damaged. Upload the dataset again.") from error
        finally:
            timer.cancel()
