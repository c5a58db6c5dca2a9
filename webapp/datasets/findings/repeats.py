"""The same input more than once: in a split, in two of them (leakage), or with two labels.

Inputs are told apart by a 64-bit hash: among a million rows two different ones are taken for the same with a
probability of about 3 in 10⁸. Two texts are nearly the same where nothing but case, punctuation and blanks differ.
"""

# ruff: noqa: S608
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from webapp.datasets.columns import Column, quoted
from webapp.datasets.findings import MEDIA, Rows, percent, plural
from webapp.datasets.problems import Problem

Add = Callable[[Problem], None]
HELD_OUT = ("validation", "test")
CODES = {"exact": ("leakage", "duplicates"), "near": ("near_leakage", "near_duplicates")}


def find(rows: Rows, add: Add) -> None:
    if not rows.inputs:
        return
    exact = ", ".join(_exact(column) for column in rows.inputs)
    there = " AND ".join(f"{quoted(column.name)} IS NOT NULL" for column in rows.inputs)
    near = ", ".join(_near(column) for column in rows.inputs) if rows.texts else exact
    label = quoted(rows.label.name) if rows.label else "NULL"
    rows.connection.execute(
        f'CREATE TEMP TABLE inputs AS SELECT "*split" AS split, "*row" AS row, hash({exact}) AS exact,'
        f" hash({near}) AS near, {label} AS label FROM rows WHERE {there}"
    )
    for kind in ("exact", "near"):
        if kind == "exact" or rows.texts:
            _leaks(rows, kind, add)
            _repeats(rows, kind, add)
    if rows.label is not None:
        _conflicts(rows, add)
    rows.connection.execute("DROP TABLE inputs")


def _exact(column: Column) -> str:
    name = quoted(column.name)
    return name if column.kind in ("text", *MEDIA) else f"{name}::VARCHAR"


def _near(column: Column) -> str:
    if column.kind != "text":
        return _exact(column)
    return f"regexp_replace(lower({quoted(column.name)}), '[^\\p{{L}}\\p{{N}}]+', '', 'g')"


def _leaks(rows: Rows, kind: str, add: Add) -> None:
    """Rows of validation and test that are in the rows to train on, too: what is measured there means little."""
    other = "AND exact NOT IN (SELECT exact FROM inputs WHERE split = 'train')" if kind == "near" else ""
    for split in HELD_OUT:
        found = rows.ask(
            f"SELECT count(*), min(row) FROM inputs WHERE split = '{split}' {other}"
            f" AND {kind} IN (SELECT {kind} FROM inputs WHERE split = 'train')"
        )
        count, row = found[0]
        if count:
            total = rows.splits[split]
            add(
                Problem(
                    CODES[kind][0],
                    f"{plural(count, 'row')} of {split} ({percent(count, total)}) "
                    f"{'is' if count == 1 else 'are'} {_alike(kind)} also in the rows to train on.",
                    f"A model that has seen the answers scores too well: what {split} measures means less.",
                    severity="serious",
                    split=split,
                    row=int(row),
                    column=split,
                    count=count,
                )
            )


def _repeats(rows: Rows, kind: str, add: Add) -> None:
    # Of nearly equal rows, those that differ: equal ones are told of already.
    distinct = "count(DISTINCT exact)" if kind == "near" else "count(*)"
    count, split, row = rows.ask(
        f"SELECT coalesce(sum(again), 0), min_by(split, (split, row)), min_by(row, (split, row)) FROM ("
        f" SELECT split, min(row) AS row, {distinct} - 1 AS again FROM inputs GROUP BY split, {kind}"
        f" HAVING {distinct} > 1)"
    )[0]
    if count:
        add(
            Problem(
                CODES[kind][1],
                f"{plural(int(count), 'row')} {'repeats' if count == 1 else 'repeat'} {_alike(kind)} "
                "another row of the same split.",
                "Repeated rows count more in training than you may mean them to.",
                severity="warning",
                split=split,
                row=int(row),
                count=int(count),
            )
        )


def _alike(kind: str) -> str:
    return "but for case, punctuation or blanks" if kind == "near" else "word for word"


def _conflicts(rows: Rows, add: Add) -> None:
    assert rows.label is not None
    found: list[tuple[Any, ...]] = rows.ask(
        "SELECT sum(n), count(*), min_by(split, (split, row)), min_by(row, (split, row)), min_by(labels, (split, row))"
        " FROM (SELECT count(*) AS n, min_by(split, (split, row)) AS split, min_by(row, (split, row)) AS row,"
        " list(DISTINCT label ORDER BY label) AS labels FROM inputs WHERE label IS NOT NULL"
        " GROUP BY exact HAVING count(DISTINCT label) > 1)"
    )
    count, groups, split, row, labels = found[0]
    if not groups:
        return
    names = [rows.label.names[int(number)] for number in labels[:2]]
    add(
        Problem(
            "conflicting_labels",
            f"{plural(int(groups), 'input')} {'has' if groups == 1 else 'have'} more than one label in "
            f"“{rows.label.name}”, such as “{names[0]}” and “{names[1]}”: {plural(int(count), 'row')} in all.",
            "Decide which is right: a model cannot learn both.",
            severity="serious",
            split=split,
            row=int(row),
            column=rows.label.name,
            count=int(count),
        )
    )
