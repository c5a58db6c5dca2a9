"""Pictures that show the same in another size, compression or brightness: in a split, or across splits (leakage).

Those that were decoded when the files were read are compared by the small copies that were kept then (likeness.py); of
others at most MOST_DECODED are decoded here. What is equal byte for byte is told by `repeats`.
"""

# Column names are quoted by `quoted`.
# ruff: noqa: S608
from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from webapp.datasets import likeness, parquet_files, pictures
from webapp.datasets.columns import Column, quoted
from webapp.datasets.findings import Rows
from webapp.datasets.findings.pairs import Pairs, ordered_splits
from webapp.datasets.problems import Problem, shown
from webapp.datasets.sandbox import THREADS

MOST_DECODED = 20_000
BATCH = 64


def _example(rows: Rows, one: tuple[str, int], other: tuple[str, int], _share: float) -> str:
    return " and ".join(f"row {row:,} of {split}{_name(rows, split, row)}" for split, row in (one, other))


PAIRS = Pairs(
    table="similar_pictures",
    code="similar_pictures",
    leak_code="picture_leakage",
    differ=("shows nearly the same picture as", "show nearly the same picture as"),
    example=_example,
)


def find(rows: Rows, add: Callable[[Problem], None]) -> None:
    if _column(rows) is not None:
        compared = compare(rows)
        PAIRS.tell(rows, f" {compared:,} pictures were compared, not all." if compared else "", add)


def _column(rows: Rows) -> Column | None:
    return next((column for column in rows.inputs if column.kind == "image"), None)


def compare(rows: Rows) -> int | None:
    """Make the table of pairs, where it is not there yet; how many pictures were compared, if not all."""
    column = _column(rows)
    assert column is not None
    if not rows.once(PAIRS.table):
        return None
    copies: list[bytes] = []
    places: list[tuple[int, int]] = []
    seen: set[int] = set()
    decoded = there = 0
    with ThreadPoolExecutor(THREADS) as pool:
        for held in _batches(rows, column):
            new = [each for each in held if hash(each[2]) not in seen]
            seen |= {hash(data) for *_, data in new}
            there += len(new)
            known = [likeness.recalled(data) for *_, data in new]
            lacking = [n for n, copy in enumerate(known) if copy is None][: MOST_DECODED - decoded]
            decoded += len(lacking)
            for n, copy in zip(lacking, pool.map(_copy, [new[n][2] for n in lacking]), strict=True):
                known[n] = copy
            for (part, row, _), copy in zip(new, known, strict=True):
                if copy is not None and len(copies) < likeness.MOST_KEPT:
                    copies.append(copy)
                    places.append((part, row))
    place = np.array(places, np.int64).reshape(-1, 2)
    PAIRS.keep(rows, (place[:, 0], place[:, 1]), *likeness.alike(copies))
    return len(copies) if decoded >= MOST_DECODED and len(copies) < there else None


def _batches(rows: Rows, column: Column) -> Iterator[list[tuple[int, int, bytes]]]:
    """(number of the split, row, bytes) of the pictures, the rows to train on first."""
    for part, split in enumerate(ordered_splits(rows)):
        row = 0
        with pq.ParquetFile(rows.files[split]) as file:
            for batch in parquet_files.batches(file, BATCH, [column.name]):
                values = batch.column(batch.schema.names.index(column.name)).to_pylist()
                held = [(part, row + n, value["bytes"]) for n, value in enumerate(values, start=1) if value]
                yield [each for each in held if each[2]]
                row += batch.num_rows


def _copy(data: bytes) -> bytes | None:
    """None for what cannot be read, which is told elsewhere."""
    try:
        with Image.open(io.BytesIO(data), formats=pictures.FORMATS) as picture:
            likeness.draft(picture)
            picture.load()
            kept = picture if picture.mode in pictures.KEPT_MODES else pictures.eight_bits(picture)
            return likeness.copy_of(kept)
    except pictures.ERRORS:
        return None


def _name(rows: Rows, split: str, row: int) -> str:
    column = _column(rows)
    assert column is not None
    path = "'" + str(rows.files[split]).replace("'", "''") + "'"
    name = rows.ask(f"SELECT {quoted(column.name)}.path FROM read_parquet({path}) LIMIT 1 OFFSET {row - 1}")[
        0
    ][0]
    return f" ({shown(name)})" if name else ""


SELECTS = PAIRS.selects(compare)
