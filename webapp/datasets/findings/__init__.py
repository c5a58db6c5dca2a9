"""Looks at the rows of a new version for what spoils training: every module here that has a `find` is one look.

They see the canonical form, through DuckDB, so that memory does not depend on the rows. A finding refuses
nothing: it says what was found, how often, and which row to open. `rows_of` gives all rows of a finding, for whoever
wants to leave them out. No Django in here.
"""

# Column names are quoted by `quoted`; DuckDB itself may read nothing but the version's files.
# ruff: noqa: S608
from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb

from webapp.datasets.columns import Column, quoted
from webapp.datasets.problems import Problem, Problems
from webapp.datasets.sandbox import connect

READ = (
    "text",
    "messages",
    "image",
    "audio",
    "tokens",
    "json",
)  # kinds that a model reads, where no task says which columns
MEDIA = ("image", "audio")  # structs of bytes and a path
LABEL = "label"
# Beside the columns of the dataset: names have no control characters, so none can be one of these.
SPLIT, ROW = '"\x01split"', '"\x01row"'


@dataclass
class Rows:
    """The rows of a version: a view `rows` with SPLIT, ROW (from 1) and the columns; pictures as their bytes."""

    connection: duckdb.DuckDBPyConnection
    columns: list[Column]
    roles: dict[str, str]  # {role: column} of the suggested task
    files: dict[str, Path]  # {split: Parquet}
    splits: dict[str, int]  # {split: rows}
    label_counts: dict[str, dict[str, int]] = field(
        default_factory=dict
    )  # {split: {class: rows}} of the label
    made: set[str] = field(default_factory=set)  # tables that looks have in common (`once`)
    facts: dict[str, Any] = field(default_factory=dict)  # what a look keeps for itself

    @cached_property
    def inputs(self) -> list[Column]:
        """What a model is to read."""
        named = set(self.roles.values()) - {self.roles.get(LABEL)}
        return [column for column in self.columns if column.name in named] or [
            column for column in self.columns if column.kind in READ and column != self.label
        ]

    @cached_property
    def label(self) -> Column | None:
        """What it is to answer, where that is one of several classes."""
        labels = [column for column in self.columns if column.kind == LABEL]
        named = [column for column in labels if column.name == self.roles.get(LABEL)]
        return named[0] if named else labels[0] if len(labels) == 1 else None

    @property
    def texts(self) -> list[Column]:
        return [column for column in self.inputs if column.kind == "text"]

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        return self.connection.execute(query).fetchall()

    def once(self, table: str) -> bool:
        """Whether the caller is the first who needs a table, and so has to make it."""
        first = table not in self.made
        self.made.add(table)
        return first


Find = Callable[[Rows, Callable[[Problem], None]], None]
Select = Callable[[Rows, str, str, str], str]


@cache
def _modules() -> tuple[ModuleType, ...]:
    return tuple(
        importlib.import_module(f"{__name__}.{each.name}") for each in pkgutil.iter_modules(__path__)
    )


@cache
def all_looks() -> tuple[Find, ...]:
    """Each module's `find`, by the module's name."""
    return tuple(module.find for module in _modules() if hasattr(module, "find"))


@cache
def selects() -> dict[str, Select]:
    """{code of a finding: what selects its rows}: each module's SELECTS together."""
    return {code: select for module in _modules() for code, select in getattr(module, "SELECTS", {}).items()}


def rows_of(rows: Rows, code: str, column: str = "", split: str = "") -> str:
    """SQL that selects (split, row) of the rows that whoever acts on a finding leaves out or changes.

    `code`, `column` and `split` are those of its Problem. Of rows that repeat, the first is not selected; of
    leakage it is the rows to train on. Raises KeyError for findings that are not about single rows.
    """
    return selects()[code](rows, code, column, split)


def look(
    files: dict[str, Path],
    columns: list[Column],
    roles: dict[str, str],
    label_counts: dict[str, dict[str, dict[str, int]]],
    scratch: Path,
    problems: Problems,
) -> None:
    """Add what is found in the Parquet `files` ({split: path}) to `problems`.

    `label_counts`: {column: {split: {class: rows}}}.
    """
    with opened(files, columns, roles, scratch) as rows:
        rows.label_counts = label_counts.get(rows.label.name, {}) if rows.label else {}
        for find in all_looks():
            find(rows, problems.add)


@contextmanager
def opened(
    files: dict[str, Path], columns: list[Column], roles: dict[str, str], scratch: Path
) -> Iterator[Rows]:
    """The rows of Parquet `files` ({split: path}) for looks and for `rows_of`; tables made of them end with it."""
    connection = connect(scratch, *files.values())
    try:
        yield Rows(connection, columns, roles, files, _view(connection, files, columns))
    finally:
        connection.close()


def _view(
    connection: duckdb.DuckDBPyConnection, files: dict[str, Path], columns: list[Column]
) -> dict[str, int]:
    names = ", ".join(
        f"{quoted(column.name)}.bytes AS {quoted(column.name)}"
        if column.kind == "image"
        else quoted(column.name)
        for column in columns
    )
    selects, splits = [], {}
    for split, path in files.items():
        source = "read_parquet('" + str(path).replace("'", "''") + "', file_row_number = true)"
        selects.append(f"SELECT '{split}' AS {SPLIT}, file_row_number + 1 AS {ROW}, {names} FROM {source}")
        counted = connection.execute(f"SELECT count(*) FROM {source}").fetchone()
        splits[split] = int(counted[0]) if counted else 0
    connection.execute(f"CREATE VIEW rows AS {' UNION ALL '.join(selects)}")
    return splits


def percent(part: int, whole: int) -> str:
    """A share in words that do not say 0 % of something that is there."""
    share = part / max(1, whole)
    return "under 0.1 %" if share < 0.001 else f"{share:.1%}".replace("%", " %")


def plural(count: int, one: str, several: str = "") -> str:
    """ "1 row", "2,000 rows"."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"
