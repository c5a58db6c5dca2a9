"""What each row gives a model to read, as 64-bit hashes: the tables that `repeats` and `similar` look into.

`inputs`: split, row, exact (of the values as they are), near (without case, punctuation and blanks), start (of how the
text begins), label. `again`: those of them whose `near` another row has, too; all that are equal are among them.
Among a million rows two different ones are taken for the same with a probability of about 3 in 10⁸.
"""

# ruff: noqa: S608
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import pyarrow as pa

from webapp.datasets.columns import Column, quoted
from webapp.datasets.findings import MEDIA, ROW, SPLIT, Rows
from webapp.datasets.findings.plain import plain
from webapp.datasets.sandbox import THREADS

BATCH = 10_240  # rows
LONG = (
    100_000  # bytes; longer texts are told apart as they are alone, so that a batch of them fits into memory
)
BEGINNING = 20  # characters


def words(column: Column) -> str:
    """SQL for the words of a column as one text; empty for a kind without any."""
    name = quoted(column.name)
    return {
        "text": name,
        "messages": f"array_to_string(list_transform({name}, lambda turn: turn.content), ' ')",
        "tokens": f"array_to_string({name}, ' ')",
    }.get(column.kind, "")


def worded(rows: Rows) -> list[Column]:
    """The inputs that are of words."""
    return [column for column in rows.inputs if words(column)]


def hash_inputs(rows: Rows) -> None:
    """Make the tables, where they are not there yet."""
    if not rows.once("inputs"):
        return
    label = quoted(rows.label.name) if rows.label else "NULL"
    exact = ", ".join(_exact(column) for column in rows.inputs)
    there = " AND ".join(f"{quoted(column.name)} IS NOT NULL" for column in rows.inputs)
    source = (
        f"SELECT {SPLIT} AS split, {ROW} AS row, hash({exact}) AS exact, {label}::BIGINT AS label {{}}"
        f" FROM rows WHERE {there}"
    )
    if worded(rows):
        rows.connection.execute(
            "CREATE TABLE inputs"
            " (split VARCHAR, row BIGINT, exact UBIGINT, label BIGINT, near UBIGINT, start UBIGINT)"
        )
        _hash_words(rows, source)
    else:
        rows.connection.execute(f"CREATE TABLE inputs AS {source.format(', exact AS near, 0 AS start')}")
    rows.connection.execute(
        "CREATE TABLE again AS SELECT * FROM inputs"
        " WHERE near IN (SELECT near FROM inputs GROUP BY near HAVING count(*) > 1)"
    )


def _exact(column: Column) -> str:
    name = quoted(column.name)
    return name if column.kind in ("text", *MEDIA) else f"{name}::VARCHAR"


def _hash_words(rows: Rows, source: str) -> None:
    texts = [words(column) for column in worded(rows)]
    others = [_exact(column) for column in rows.inputs if not words(column)]
    others += [f"CASE WHEN strlen({text}) > {LONG} THEN {text} END" for text in texts]
    wanted = [f"hash({', '.join(others)}) AS others"]
    wanted += [
        f"CASE WHEN strlen({text}) <= {LONG} THEN {text} END AS word{n}" for n, text in enumerate(texts)
    ]
    names = [f"word{n}" for n in range(len(texts))]
    insert = (
        f"INSERT INTO inputs SELECT split, row, exact, label, hash(others, {', '.join(names)}),"
        f" hash(left(word0, {BEGINNING})) FROM batch"
    )
    reader = rows.connection.sql(source.format(f", {', '.join(wanted)}")).to_arrow_reader(BATCH)
    turn = Lock()

    def work() -> None:
        writer = rows.connection.cursor()
        try:
            while True:
                with turn:
                    batch = next(reader, None)
                if batch is None:
                    return
                made = [
                    plain(batch.column(name)) if name in names else batch.column(name)
                    for name in batch.schema.names
                ]
                writer.register("batch", pa.Table.from_arrays(made, batch.schema.names))
                writer.execute(insert)
                writer.unregister("batch")
        finally:
            writer.close()

    with ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(work) for _ in range(THREADS)]:
            done.result()
