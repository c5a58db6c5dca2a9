"""Arrow files and streams: the same rows as the same table in Parquet."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.webapp.datasets.conftest import refusal

FEATURES = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["bad", "good"]}}}}
TABLE = pa.table(
    {
        "text": pa.array([f"a sentence {n}" for n in range(300)], pa.large_string()),
        "label": [n % 2 for n in range(300)],
        "topic": pa.array(["sport", "news", None] * 100).dictionary_encode(),
        "score": pa.array([n / 7 for n in range(300)], pa.float32()),
        "tags": [["x", "y"]] * 300,
        "chat": [[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]] * 300,
        "at": pa.array(range(300), pa.timestamp("us")),
    }
).replace_schema_metadata({"huggingface": json.dumps(FEATURES)})


def written(table: pa.Table, how: str, rows: int | None = None) -> bytes:
    target = io.BytesIO()
    if how == "parquet":
        pq.write_table(table, target)
        return target.getvalue()
    options = pa.ipc.IpcWriteOptions(compression="zstd" if how == "compressed" else None)
    make = pa.ipc.new_stream if how == "stream" else pa.ipc.new_file
    with make(target, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return target.getvalue()


FILE, STREAM = written(TABLE, "file"), written(TABLE, "stream")


@pytest.mark.parametrize("how", ["file", "stream", "compressed"])
def test_every_way_of_writing_gives_the_rows_of_the_same_parquet(how: str, convert: Any) -> None:
    made = convert(("a.arrow", written(TABLE, how)))
    assert made.content_hash == convert(("a.parquet", written(TABLE, "parquet"))).content_hash
    assert [column["kind"] for column in made.columns] == [
        "text",
        "label",
        "label",
        "float",
        "json",
        "messages",
        "text",
    ]
    assert made.columns[1]["names"] == ["bad", "good"]


def test_a_table_in_one_batch_is_read_in_pieces(convert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("webapp.datasets.formats.common.MAX_BATCH_ROWS", 7)
    made = convert(("a.feather", FILE))
    assert made.content_hash == convert(("a.arrow", written(TABLE, "file", rows=7))).content_hash
    assert made.rows == 300


def with_offsets_outside() -> bytes:
    """A column of text whose offsets point beyond its data."""
    said, lying = (
        b"".join(n.to_bytes(4, "little") for n in (0, step, 2 * step, 3 * step)) for step in (3, 10**8)
    )
    data = written(pa.table({"text": ["abc", "def", "ghi"]}), "stream")
    assert said in data
    return data.replace(said, lying)


@pytest.mark.parametrize(
    ("what", "data", "code"),
    [
        ("a file cut off", FILE[:-100], "damaged"),
        ("a stream cut off", STREAM[: len(STREAM) // 2], "damaged"),
        ("a file of nothing but its name", FILE[:8], "damaged"),
        ("a file with a broken end", FILE[:-40] + bytes(30) + FILE[-10:], "damaged"),
        ("a stream with a broken schema", STREAM[:8] + bytes(200) + STREAM[208:], "damaged"),
        ("offsets that point outside", with_offsets_outside(), "damaged"),
        ("a stream without rows", written(TABLE.slice(0, 0), "stream"), "no_rows"),
        ("only durations", written(pa.table({"a": pa.array([1, 2, 3], pa.duration("s"))}), "file"), "no_columns"),
        ("2,000 columns", written(pa.table({f"c{n}": [1, 2, 3] for n in range(2000)}), "file"), "too_many_columns"),
        ("an old Feather file", b"FEA1" + bytes(100), "not_a_table"),
    ],
)  # fmt: skip
def test_an_arrow_file_that_cannot_be_used_gets_its_sentence(
    what: str, data: bytes, code: str, convert: Any
) -> None:
    problem = refusal(convert, ("a.arrow", data))
    assert (problem.code, problem.file, bool(problem.hint)) == (code, "a.arrow", True), problem
