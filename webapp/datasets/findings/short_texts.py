"""Texts that say nothing: blank, or a single character."""

# ruff: noqa: S608
from __future__ import annotations

from collections.abc import Callable

from webapp.datasets.columns import quoted
from webapp.datasets.findings import Rows, plural
from webapp.datasets.problems import Problem


def find(rows: Rows, add: Callable[[Problem], None]) -> None:
    for column in rows.texts:
        name = quoted(column.name)
        count, blank, split, row = rows.ask(
            f"SELECT count(*), count(*) FILTER (length(trim({name})) = 0),"
            f' min_by("*split", ("*split", "*row")), min_by("*row", ("*split", "*row"))'
            f" FROM rows WHERE length({name}) < 20 AND length(trim({name}, ' \t\r\n')) <= 1"
        )[0]
        if count:
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
