"""Compressed files: read as what is inside, within limits."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.webapp.datasets.conftest import Inspected, refusal, stored_files
from webapp.datasets.limits import Limits

CSV = b"text,label\n" + b"".join(b"a sentence %d,%s\n" % (n, (b"yes", b"no")[n % 2]) for n in range(3000))
JSONL = b"".join(
    json.dumps({"text": f"a sentence {n}", "label": ("yes", "no")[n % 2]}).encode() + b"\n"
    for n in range(3000)
)


def zstd(data: bytes) -> bytes:
    packed: bytes = pa.compress(data, "zstd", asbytes=True)
    return packed


def parquet() -> bytes:
    target = io.BytesIO()
    rows = [json.loads(line) for line in JSONL.splitlines()]
    pq.write_table(pa.Table.from_pylist(rows), target)
    return target.getvalue()


@pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gz", "zst"])
@pytest.mark.parametrize(
    ("name", "data"),
    [("a.csv", CSV), ("a.tsv", CSV.replace(b",", b"\t")), ("a.jsonl", JSONL), ("a.parquet", parquet())],
)
def test_a_compressed_file_gives_the_rows_of_what_is_inside(
    pack: Any, name: str, data: bytes, convert: Any
) -> None:
    made = convert((f"{name}.{'gz' if pack is gzip.compress else 'zst'}", pack(data)))
    assert made.content_hash == convert((name, data)).content_hash
    assert made.problems == []


def test_the_name_inside_decides_where_the_bytes_do_not(convert: Any) -> None:
    words = b"".join(b"one\ttwo, %d\n" % n for n in range(30))
    assert convert(("a.tsv.gz", gzip.compress(words))).details["files"][0]["delimiter"] == "tab"


def test_compressed_files_in_several_parts_are_read_to_their_end(convert: Any) -> None:
    made = convert(("a.csv.gz", gzip.compress(CSV[:9000]) + gzip.compress(CSV[9000:])))
    assert made.rows == 3000


def test_names_tell_the_splits_of_compressed_files_too(convert: Any) -> None:
    made = convert(("train.csv.gz", gzip.compress(CSV)), ("test.csv.zst", zstd(CSV)))
    assert (made.splits["test"], made.details["split"]["drawn"]) == (3000, ["validation"])


@pytest.mark.parametrize(
    ("what", "data", "code", "says"),
    [
        ("cut off", gzip.compress(CSV)[:-200], "damaged", "cut off or damaged"),
        ("cut off in its last bytes", gzip.compress(CSV)[:-3], "damaged", "cut off or damaged"),
        ("cut off zstd", zstd(CSV)[:-5], "damaged", "begins as zstd"),
        ("with a changed byte", gzip.compress(CSV)[:-8] + b"\0" * 8, "damaged", "cut off or damaged"),
        ("with something behind it", gzip.compress(CSV) + b"something", "damaged", "cut off or damaged"),
        ("compressed twice", gzip.compress(gzip.compress(CSV)), "nested_archive", "compressed once more"),
        ("compressed in two ways", zstd(gzip.compress(CSV)), "nested_archive", "compressed once more"),
        ("a program", gzip.compress(b"\x7fELF" + bytes(200)), "not_a_table", "a program"),
        ("of nothing", gzip.compress(b""), "empty", "is empty"),
        ("of a bad row", gzip.compress(CSV + b'"open,no\n' + CSV), "unclosed_quote", "Line 3,002"),
    ],
)  # fmt: skip
def test_a_compressed_file_that_cannot_be_used_gets_its_sentence(
    what: str, data: bytes, code: str, says: str, convert: Any
) -> None:
    problem = refusal(convert, ("a.csv.gz", data))
    assert (problem.code, problem.file) == (code, "a.csv.gz")
    assert says in problem.message
    assert problem.hint


@pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gz", "zst"])
def test_a_bomb_is_stopped_by_its_ratio_and_fills_no_disk(pack: Any, convert: Any, tmp_path: Path) -> None:
    problem = refusal(convert, ("a.csv.gz", pack(b"text,label\n" + bytes([97]) * (200 << 20))))
    assert problem.code == "unpacks_too_large"
    assert "200 times" in problem.message
    assert max(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) <= 64 << 20


def test_the_limits_of_the_server_hold_in_the_process_that_reads(inspected: Inspected, settings: Any) -> None:
    settings.DATASET_LIMITS = Limits(archive_bytes=10_000)
    dataset = inspected(("a.csv.gz", gzip.compress(CSV)))
    assert (dataset.status, dataset.findings[0]["code"]) == ("invalid", "unpacks_too_large")
    assert "TUNEBOARD_ARCHIVE_MAX_BYTES" in dataset.findings[0]["hint"]
    assert stored_files() == []
