"""Texts that say nothing: blank, or a single character; and values that are missing."""

# ruff: noqa: S608
from __future__ import annotations

from collections.abc import Callable

from webapp.datasets.columns import quoted
from webapp.datasets.findings import ROW, SPLIT, Rows, plural
from webapp.datasets.problems import Problem

# A look at the length, or at the first character, spares most texts the rest.
SHORT = "(strlen({0}) < 64 OR ascii({0}) <= 32) AND length(trim({0}, ' \t\r\n')) <= 1"


def select_short(column: str) -> str:
    """(split, row) of the texts of a column that are blank or a single character."""
    return f"SELECT {SPLIT} AS split, {ROW} AS row FROM rows WHERE {SHORT.format(quoted(column))}"


def select_empty(column: str) -> str:
    """(split, row) of the rows without a value in a column."""
    return f"SELECT {SPLIT} AS split, {ROW} AS row FROM rows WHERE {quoted(column)} IS NULL"


SELECTS = {
    "short_texts": lambda _rows, _code, column, _split: select_short(column),
    "missing_values": lambda _rows, _code, column, _split: select_empty(column),
}


def find(rows: Rows, add: Callable[[Problem], None]) -> None:
    for column in rows.texts:
        name = quoted(column.name)
        found = f"FROM rows WHERE {SHORT.format(name)}"
        count, blank, least = rows.ask(
            f"SELECT count(*), count(*) FILTER (length(trim({name}, ' \t\r\n')) = 0), min(({SPLIT}, {ROW})) {found}"
        )[0]
        if count:
            split, row = least
            add(
                Problem(
                    "short_texts",
                    f"{plural(count, 'text')} in “{column.name}” {'is' if count == 1 else 'are'} blank or a single "
                    f"character{f' ({blank:,} blank)' if blank and blank != count else ''}.",
                    "There is nothing to learn from them; leave those rows out.",
                    severity="warning",
                    split=split,
                    row=int(row),
                    column=column.name,
                    count=count,
                )
            )
