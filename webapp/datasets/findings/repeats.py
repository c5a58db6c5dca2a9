"""The same input more than once: in a split, in two of them (leakage), or with two labels.

Two texts are nearly the same where nothing but case, punctuation and blanks differ; `similar` finds those that
differ in words.
"""

# Splits and kinds are ours.
# ruff: noqa: S608
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from webapp.datasets.findings import Rows, percent, plural
from webapp.datasets.findings.hashed import hash_inputs, worded
from webapp.datasets.problems import Problem

Add = Callable[[Problem], None]
HELD_OUT = ("validation", "test")
CODES = {"exact": ("leakage", "duplicates"), "near": ("near_leakage", "near_duplicates")}


def find(rows: Rows, add: Add) -> None:
    if not rows.inputs:
        return
    hash_inputs(rows)
    if not rows.ask("SELECT 1 FROM again LIMIT 1"):
        return
    for kind in ("exact", "near"):
        if kind == "exact" or worded(rows):
            _leaks(rows, kind, add)
            _repeats(rows, kind, add)
    if rows.label is not None:
        _conflicts(rows, add)


def select_repeats(rows: Rows, kind: str) -> str:
    """(split, row, of) of the rows that repeat row `of` of their split, the first like them.

    Nearly (kind "near") are those that are not word for word that first row.
    """
    hash_inputs(rows)
    differs = " AND exact <> first_exact" if kind == "near" else ""
    return (
        f"SELECT split, row, of FROM (SELECT split, row, exact, min(row) OVER same AS of,"
        f" min_by(exact, row) OVER same AS first_exact FROM again WINDOW same AS (PARTITION BY split, {kind}))"
        f" WHERE row <> of{differs}"
    )


def _held(kind: str, split: str) -> str:
    """Rows of a held-out split that are in the rows to train on, too."""
    train = "FROM again WHERE split = 'train'"
    told = f" AND exact NOT IN (SELECT exact {train})" if kind == "near" else ""
    return f"FROM again WHERE split = '{split}' AND {kind} IN (SELECT {kind} {train}){told}"


def select_leaks(rows: Rows, kind: str, split: str) -> str:
    """(split, row) of the rows to train on that a held-out split has, too."""
    assert split in HELD_OUT
    hash_inputs(rows)
    return f"SELECT split, row FROM again WHERE split = 'train' AND {kind} IN (SELECT {kind} {_held(kind, split)})"


def select_conflicts(rows: Rows) -> str:
    """(split, row) of all rows of inputs that have several labels."""
    hash_inputs(rows)
    return f"SELECT split, row FROM again WHERE label IS NOT NULL AND exact IN (SELECT exact FROM ({_CONFLICTS}))"


_CONFLICTS = (
    "SELECT exact, count(*) AS n, list(DISTINCT label ORDER BY label) AS labels FROM again"
    " WHERE label IS NOT NULL GROUP BY exact HAVING count(DISTINCT label) > 1"
)
SELECTS = {
    "leakage": lambda rows, _code, _column, split: select_leaks(rows, "exact", split),
    "near_leakage": lambda rows, _code, _column, split: select_leaks(rows, "near", split),
    "duplicates": lambda rows, *_: select_repeats(rows, "exact"),
    "near_duplicates": lambda rows, *_: select_repeats(rows, "near"),
    "conflicting_labels": lambda rows, *_: select_conflicts(rows),
}


def _leaks(rows: Rows, kind: str, add: Add) -> None:
    """Rows of validation and test that are in the rows to train on, too: what is measured there means little."""
    for split in HELD_OUT:
        count, row, key = rows.ask(f"SELECT count(*), min(row), min_by({kind}, row) {_held(kind, split)}")[0]
        if not count:
            continue
        (other,) = rows.ask(f"SELECT min(row) FROM again WHERE split = 'train' AND {kind} = {key}")[0]
        add(
            Problem(
                CODES[kind][0],
                f"{plural(count, 'row')} of {split} ({percent(count, rows.splits[split])}) "
                f"{'is' if count == 1 else 'are'} {_alike(kind)} also in the rows to train on.",
                f"A model that has seen the answers scores too well: what {split} measures means less.",
                severity="serious",
                split=split,
                row=int(row),
                column=split,
                count=count,
                other_split="train",
                other_row=int(other),
            )
        )


def _repeats(rows: Rows, kind: str, add: Add) -> None:
    found = f"FROM ({select_repeats(rows, kind)})"
    (count,) = rows.ask(f"SELECT count(*) {found}")[0]
    if not count:
        return
    split, row, of = rows.ask(f"SELECT split, row, of {found} ORDER BY split, row LIMIT 1")[0]
    add(
        Problem(
            CODES[kind][1],
            f"{plural(count, 'row')} {'repeats' if count == 1 else 'repeat'} {_alike(kind)} "
            "another row of the same split.",
            "Repeated rows count more in training than you may mean them to.",
            severity="warning",
            split=split,
            row=int(row),
            count=count,
            other_split=split,
            other_row=int(of),
        )
    )


def _alike(kind: str) -> str:
    return "but for case, punctuation or blanks" if kind == "near" else "word for word"


def _conflicts(rows: Rows, add: Add) -> None:
    assert rows.label is not None
    found: list[tuple[Any, ...]] = rows.ask(
        f"SELECT exact, labels, (SELECT sum(n) FROM ({_CONFLICTS})), count(*) OVER () FROM ({_CONFLICTS})"
        " ORDER BY (SELECT min((split, row)) FROM again WHERE again.exact = exact) LIMIT 1"
    )
    if not found:
        return
    exact, labels, count, groups = found[0]
    names = [rows.label.names[int(number)] for number in labels[:2]]
    examples = [
        rows.ask(
            f"SELECT split, row FROM again WHERE exact = {exact} AND label = {label} ORDER BY ALL LIMIT 1"
        )[0]
        for label in labels[:2]
    ]
    (split, row), (other_split, other_row) = sorted(examples)
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
            other_split=other_split,
            other_row=int(other_row),
        )
    )
