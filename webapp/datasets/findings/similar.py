"""Texts that differ in a few words from another: in a split, or between held-out rows and those to train on.

Where there are more texts than MOST_ROWS, or more words than MOST_WORDS, only some are compared, and the finding says
how many: those that begin alike are taken together, since that is where most texts that are alike are found.
"""

# Splits, and the names of our tables.
# ruff: noqa: S608
from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from webapp.datasets.findings import ROW, SPLIT, Rows, percent, plural
from webapp.datasets.findings.hashed import hash_inputs, worded, words
from webapp.datasets.findings.repeats import HELD_OUT
from webapp.datasets.findings.shingles import Shingles
from webapp.datasets.problems import Problem

MOST_ROWS = 60_000
MOST_WORDS = 3_000_000
MOST_CHARACTERS = 5_000  # of a text, from its beginning
BATCH = 2_048
COMPARED = "compared"


def find(rows: Rows, add: Callable[[Problem], None]) -> None:
    if not worded(rows):
        return
    compare(rows)
    for split in HELD_OUT:
        _leaks(rows, split, add)
    _repeats(rows, add)


def compare(rows: Rows) -> None:
    """Make the table `alike` (split, row, other_split, other_row, share), where it is not there yet.

    Of what is equal but for case and punctuation, the first row stands for all.
    """
    if not rows.once("alike"):
        return
    hash_inputs(rows)
    names = sorted(
        rows.splits, key=lambda split: split in HELD_OUT
    )  # the rows to train on are the earlier ones
    order = f"list_position({names!r}, split)"
    rows.connection.execute(
        "CREATE TABLE chosen AS SELECT split, row FROM inputs"
        " WHERE (split, row) NOT IN (SELECT (split, row) FROM (SELECT split, row, row_number() OVER"
        f" (PARTITION BY near ORDER BY {order}, row) AS place FROM again) WHERE place > 1)"
        f" ORDER BY start, {order}, row LIMIT {MOST_ROWS}"
    )
    shingles = Shingles()
    splits, numbers = [np.array([], np.int64)], [np.array([], np.int64)]
    text = " || ' ' || ".join(
        f"left(coalesce({words(column)}, ''), {MOST_CHARACTERS})" for column in worded(rows)
    )
    reader = rows.connection.sql(
        f"SELECT list_position({names!r}, split) AS part, row, {text} AS text"
        f" FROM rows JOIN chosen ON {SPLIT} = split AND {ROW} = row"
    ).to_arrow_reader(BATCH)
    seen = 0
    for batch in reader:
        if shingles.count >= MOST_WORDS:
            break
        long = shingles.add(batch.column("text"))
        splits.append(batch.column("part").to_numpy()[long].astype(np.int64))
        numbers.append(batch.column("row").to_numpy()[long])
        seen += batch.num_rows
    reader.close()
    (total,) = rows.ask("SELECT count(*) FROM inputs")[0]
    equal = rows.ask("SELECT count(*) - count(DISTINCT near) FROM again")[0][0]
    rows.facts[COMPARED] = seen if seen < total - equal else None
    part, row = np.concatenate(splits), np.concatenate(numbers)
    rank = np.empty(len(part), np.int64)
    rank[np.lexsort((row, part))] = np.arange(len(part))
    later, earlier, share = shingles.alike(rank, part)
    named = np.array(names, dtype=object)
    found = pa.table(
        {
            "split": pa.array(named[part[later] - 1], pa.string()),
            "row": row[later],
            "other_split": pa.array(named[part[earlier] - 1], pa.string()),
            "other_row": row[earlier],
            "share": share,
        }
    )
    rows.connection.register("found", found)
    rows.connection.execute("CREATE TABLE alike AS SELECT * FROM found")
    rows.connection.unregister("found")


def select_alike(rows: Rows) -> str:
    """(split, row) of the rows that are like an earlier one of their split."""
    compare(rows)
    return "SELECT DISTINCT split, row FROM alike WHERE split = other_split"


def select_leaks(rows: Rows, split: str) -> str:
    """(split, row) of the rows to train on that rows of a held-out split are like."""
    assert split in HELD_OUT
    compare(rows)
    return (
        f"SELECT DISTINCT other_split AS split, other_row AS row FROM alike WHERE split = '{split}'"
        " AND other_split = 'train'"
    )


SELECTS = {
    "similar_texts": lambda rows, *_: select_alike(rows),
    "similar_leakage": lambda rows, _code, _column, split: select_leaks(rows, split),
}


def _leaks(rows: Rows, split: str, add: Callable[[Problem], None]) -> None:
    found = f"FROM alike WHERE split = '{split}' AND other_split = 'train'"
    (count,) = rows.ask(f"SELECT count(DISTINCT row) {found}")[0]
    if not count:
        return
    row, other, share = rows.ask(f"SELECT row, other_row, share {found} ORDER BY row, share DESC LIMIT 1")[0]
    add(
        Problem(
            "similar_leakage",
            f"{plural(count, 'row')} of {split} ({percent(count, rows.splits[split])}) {'differs' if count == 1 else 'differ'}"
            f" in a few words alone from rows to train on: {_example(split, row, 'train', other, share)}.{_some(rows)}",
            f"A model that has nearly seen the answers scores too well: what {split} measures means less.",
            severity="serious",
            split=split,
            row=int(row),
            column=split,
            count=count,
            other_split="train",
            other_row=int(other),
        )
    )


def _repeats(rows: Rows, add: Callable[[Problem], None]) -> None:
    found = "FROM alike WHERE split = other_split"
    (count,) = rows.ask(f"SELECT count(DISTINCT (split, row)) {found}")[0]
    if not count:
        return
    split, row, other, share = rows.ask(
        f"SELECT split, row, other_row, share {found} ORDER BY split, row, share DESC LIMIT 1"
    )[0]
    add(
        Problem(
            "similar_texts",
            f"{plural(count, 'row')} {'differs' if count == 1 else 'differ'} in a few words alone from another row of"
            f" the same split: {_example(split, row, split, other, share)}.{_some(rows)}",
            "Rows that say nearly the same count more in training than you may mean them to.",
            severity="warning",
            split=split,
            row=int(row),
            count=count,
            other_split=split,
            other_row=int(other),
        )
    )


def _example(split: str, row: int, other_split: str, other: int, share: float) -> str:
    return f"row {row:,} of {split} and row {other:,} of {other_split} share {share:.0%} of their pairs of words".replace(
        "%", " %"
    )


def _some(rows: Rows) -> str:
    compared = rows.facts[COMPARED]
    return "" if compared is None else f" {compared:,} rows were compared, not all."
