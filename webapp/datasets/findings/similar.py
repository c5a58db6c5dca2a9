"""Texts that differ in a few words from another: in a split, or between held-out rows and those to train on.

Where there are more texts than MOST_ROWS, or more words than MOST_WORDS, only some are compared, and the finding says
how many: those that begin alike are taken together, since that is where most texts that are alike are found.
"""

# Splits, and the names of our tables.
# ruff: noqa: S608
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from webapp.datasets.findings import ROW, SPLIT, Rows
from webapp.datasets.findings.hashed import hash_inputs, worded, words
from webapp.datasets.findings.pairs import Pairs, ordered_splits
from webapp.datasets.findings.shingles import Shingles
from webapp.datasets.problems import Problem

MOST_ROWS = 60_000
MOST_WORDS = 3_000_000
MOST_CHARACTERS = 5_000  # of a text, from its beginning
BATCH = 2_048


def _example(_rows: Rows, one: tuple[str, int], other: tuple[str, int], share: float) -> str:
    return (
        f"row {one[1]:,} of {one[0]} and row {other[1]:,} of {other[0]} share {round(share * 100)} % of their "
        "pairs of words"
    )


PAIRS = Pairs(
    table="similar_texts",
    code="similar_texts",
    leak_code="similar_leakage",
    differ=("differs in a few words alone from", "differ in a few words alone from"),
    example=_example,
)


def find(rows: Rows, add: Callable[[Problem], None]) -> None:
    if worded(rows):
        compared = compare(rows)
        PAIRS.tell(rows, f" {compared:,} rows were compared, not all." if compared else "", add)


def compare(rows: Rows) -> int | None:
    """Make the table of pairs, where it is not there yet; how many rows were compared, if not all.

    Of what is equal but for case and punctuation, the first row stands for all.
    """
    if not rows.once(PAIRS.table):
        return None
    hash_inputs(rows)
    order = f"list_position({ordered_splits(rows)!r}, split)"
    rows.connection.execute(
        "CREATE TABLE chosen AS SELECT split, row FROM inputs"
        " WHERE (split, row) NOT IN (SELECT (split, row) FROM (SELECT split, row, row_number() OVER"
        f" (PARTITION BY near ORDER BY {order}, row) AS place FROM again) WHERE place > 1)"
        f" ORDER BY start, {order}, row LIMIT {MOST_ROWS}"
    )
    (different,) = rows.ask(
        "SELECT (SELECT count(*) FROM inputs) - (SELECT count(*) - count(DISTINCT near) FROM again)"
    )[0]
    text = " || ' ' || ".join(
        f"left(coalesce({words(column)}, ''), {MOST_CHARACTERS})" for column in worded(rows)
    )
    reader = rows.connection.sql(
        f"SELECT {order} - 1 AS part, row, {text} AS text FROM rows JOIN chosen ON {SPLIT} = split AND {ROW} = row"
    ).to_arrow_reader(BATCH)
    shingles, seen = Shingles(), 0
    parts, numbers = [np.array([], np.int64)], [np.array([], np.int64)]
    for batch in reader:
        if shingles.count >= MOST_WORDS:
            break
        long = shingles.add(batch.column("text"))
        parts.append(batch.column("part").to_numpy()[long].astype(np.int64))
        numbers.append(batch.column("row").to_numpy()[long])
        seen += batch.num_rows
    reader.close()
    place = np.concatenate(parts), np.concatenate(numbers)
    rank = np.empty(len(place[0]), np.int64)
    rank[np.lexsort((place[1], place[0]))] = np.arange(len(rank))
    PAIRS.keep(rows, place, *shingles.alike(rank, place[0]))
    return seen if seen < different else None


SELECTS = PAIRS.selects(compare)
