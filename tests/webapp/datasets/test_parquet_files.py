"""Media bytes are written as they are; every other column is compressed, whatever it is called or holds."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from webapp.datasets import parquet_files

MEDIA = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SCHEMA = pa.schema(
    [
        ("image", MEDIA),
        ("a.b", pa.string()),
        ("objects", pa.struct([("bbox", pa.list_(pa.list_(pa.float32()))), ("category", pa.list_(pa.int64()))])),
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("label", pa.int64()),
    ]
)  # fmt: skip


def codecs(path: Path) -> dict[str, tuple[str, bool, bool]]:
    """{column: (compression, in a dictionary, with statistics)}."""
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    return {
        each.path_in_schema: (each.compression, each.has_dictionary_page, each.statistics is not None)
        for each in columns
    }


def test_bytes_of_media_are_neither_compressed_nor_looked_through(tmp_path: Path) -> None:
    row = {
        "image": {"bytes": b"\0" * 1000, "path": "1.png"},
        "a.b": "text",
        "objects": {"bbox": [[1.0, 2.0, 3.0, 4.0]], "category": [0]},
        "messages": [{"role": "user", "content": "Hi"}],
        "label": 1,
    }
    table = pa.Table.from_pylist([row] * 10, schema=SCHEMA)
    with pq.ParquetWriter(tmp_path / "rows", SCHEMA, **parquet_files.options(SCHEMA, "snappy")) as writer:
        writer.write_table(table)
    found = codecs(tmp_path / "rows")
    assert found.pop("image.bytes") == ("UNCOMPRESSED", False, False)
    assert len(found) == 7 and all(each == ("SNAPPY", True, True) for each in found.values()), found
    assert pq.read_table(tmp_path / "rows").equals(table)


def test_without_media_everything_is_compressed(tmp_path: Path) -> None:
    schema = pa.schema([("text", pa.string()), ("bytes", pa.binary())])
    with pq.ParquetWriter(tmp_path / "rows", schema, **parquet_files.options(schema, "snappy")) as writer:
        writer.write_table(pa.Table.from_pylist([{"text": "a", "bytes": b"b"}] * 3, schema=schema))
    assert {each[:2] for each in codecs(tmp_path / "rows").values()} == {("SNAPPY", True)}


def written(path: Path, groups: list[int], weight: int = 100) -> pa.Table:
    """A file of row groups with so many rows of `weight` bytes."""
    chance = random.Random(0)
    tables = [
        pa.table({"number": range(rows), "data": [chance.randbytes(weight) for _ in range(rows)]})
        for rows in groups
    ]
    with pq.ParquetWriter(path, tables[0].schema, compression="none", use_dictionary=False) as writer:
        for table in tables:
            writer.write_table(table)
    return pa.concat_tables(tables)


@pytest.mark.parametrize("groups", [[5], [1] * 23, [30, 1, 1, 7, 40, 3], [10, 10, 10]])
def test_batches_are_the_rows_in_their_order(groups: list[int], tmp_path: Path) -> None:
    table = written(tmp_path / "rows", groups)
    with pq.ParquetFile(tmp_path / "rows") as file:
        found = list(parquet_files.batches(file, 10))
        numbers = list(parquet_files.batches(file, 10, ["number"]))
    assert pa.Table.from_batches(found).equals(table)
    assert all(0 < batch.num_rows <= 10 for batch in found)
    assert pa.Table.from_batches(numbers).equals(table.select(["number"]))


def test_memory_holds_about_one_row_group(tmp_path: Path) -> None:
    written(tmp_path / "rows", [20] * 30, weight=50_000)  # a megabyte each
    before = most = pa.total_allocated_bytes()
    with pq.ParquetFile(tmp_path / "rows") as file:
        for _ in parquet_files.batches(file, 5):
            most = max(most, pa.total_allocated_bytes())
    assert most - before < 4_000_000
