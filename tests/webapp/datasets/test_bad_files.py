"""Files that people really upload: each gets its sentence, or is read all the same with a warning.

Straight through the conversion, which is what the inspection's own process runs; test_inspection.py and
test_uploading.py show what stands around it.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.webapp.datasets.conftest import refusal

GOOD = b"text,label\n" + b"".join(
    f"a sentence number {n},{'yes' if n % 2 else 'no'}\n".encode() for n in range(30)
)
MANY = b"text,label\n" + b"".join(
    f"a sentence number {n},{'yes' if n % 2 else 'no'}\n".encode() for n in range(300)
)


def parquet(table: pa.Table) -> bytes:
    target = io.BytesIO()
    pq.write_table(table, target)
    return target.getvalue()


def zipped(name: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(name, "<xml/>")
    return target.getvalue()


def lines(*values: Any) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


@dataclass
class Bad:
    """A file that cannot be used, and what is said of it."""

    what: str
    name: str
    data: bytes
    code: str
    says: str
    row: int | None = None
    column: str = ""
    request: dict[str, Any] = field(default_factory=dict)


REFUSED = [
    Bad("empty", "a.csv", b"", "empty", "The file is empty"),
    Bad("only blanks", "a.csv", b" \n\n\t\n", "empty", "nothing but blanks"),
    Bad("only a byte-order mark", "a.csv", b"\xef\xbb\xbf", "empty", "nothing but blanks"),
    Bad("only a header", "a.csv", b"text,label\n", "header_only", "no rows below it", row=1),
    Bad("two rows", "a.csv", b"text,label\nx,a\ny,b\n", "too_few_rows", "at least 3"),
    Bad("a workbook", "a.csv", zipped("[Content_Types].xml"), "not_a_table", "no Excel workbook"),
    Bad("a program called csv", "a.csv", b"\x7fELF\x02\x01\x01" + bytes(200), "not_a_table", "a program"),
    Bad("a PDF", "a.tsv", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "not_a_table", "a PDF document"),
    Bad("a picture", "a.jsonl", b"\x89PNG\r\n\x1a\n" + bytes(100), "not_a_table", "a picture"),
    Bad("gzip", "a.csv", b"\x1f\x8b\x08\x00" + bytes(100), "damaged", "begins as gzip"),
    Bad("noise", "a.csv", bytes(range(256)) * 50, "not_a_table", "no format that can be read"),
    Bad("a NUL late in the file", "a.csv", MANY + b"x\x00y,no\n", "nul", "Line 302", row=302),
    Bad("ragged all over", "a.csv", GOOD + b"one,two,three\n" * 20, "ragged", "more than 2 columns", row=32),
    Bad("too short rows", "a.csv", GOOD + b"one\n" * 20, "ragged", "fewer than 2 columns", row=32),
    Bad("a quote never closed", "a.csv", GOOD + b'"never closed,no\n' + GOOD, "unclosed_quote", "Line 32", row=32),
    Bad("10,000 columns", "a.csv", b",".join(b"c%d" % n for n in range(10_000)) + b"\n" + b",".join([b"1"] * 10_000) + b"\n", "too_many_columns", "10,000 columns"),
    Bad("invalid UTF-8 after proper UTF-8", "a.csv", "text,label\né,a\n".encode() + b"\xc3(,b\n", "encoding", "Line 3", row=3),
    Bad("UTF-16 cut off", "a.csv", GOOD.decode().encode("utf-16")[:-1], "encoding", "damaged or cut off"),
    Bad("only nulls", "a.csv", b"text,label\n" + b",\n" * 10, "only_empty", "empty in every row"),
    Bad("one line of everything", "a.csv", b"text,label\n" + b"x" * (17 << 20) + b",a\n", "huge_value", "longer than 16 MB", row=2),
    Bad("JSON list of two", "a.jsonl", json.dumps([{"a": 1}, {"a": 2}]).encode(), "too_few_rows", "at least 3"),
    Bad("JSON without rows", "a.json", json.dumps({"a": [1, 2]}, indent=2).encode(), "no_list", "no list of objects"),
    Bad("JSON list of one over lines", "a.json", json.dumps([{"a": 1}], indent=2).encode(), "too_few_rows", "at least 3"),
    Bad("half a JSON object", "a.jsonl", lines({"a": 1}) + b'{"a": \n', "bad_json", "Line 2", row=2),
    Bad("Python instead of JSON", "a.jsonl", b"{'a': 1}\n", "bad_json", "Line 1", row=1),
    Bad("a number a line", "a.jsonl", b"1\n2\n3\n", "not_an_object", "not an object", row=1),
    Bad("a string later", "a.jsonl", lines({"a": 1}, "two"), "not_an_object", "Line 2", row=2),
    Bad("empty objects", "a.jsonl", b"{}\n{}\n{}\n", "no_columns", "no row has a key", row=1),
    Bad("nested without end", "a.jsonl", b'{"a":' + b"[" * 200_000 + b"\n", "bad_json", "nested too deeply", row=1),
    Bad("a number without end", "a.jsonl", b'{"a": ' + b"9" * 10_000 + b"}\n", "bad_json", "Line 1", row=1),
    Bad("keys without end", "a.jsonl", b"".join(lines({f"k{n}": n}) for n in range(1500)), "too_many_columns", "at most 1,000"),
    Bad("truncated Parquet", "a.parquet", parquet(pa.table({"a": list(range(1000))}))[:-40], "damaged", "cut off or damaged"),
    Bad("Parquet with a broken page", "a.parquet", (lambda d: d[:30] + bytes(200) + d[230:])(parquet(pa.table({"a": list(range(1000))}))), "damaged", "cut off or damaged"),
    Bad("Parquet with text that is no UTF-8", "a.parquet", parquet(pa.table({"a": pa.Array.from_buffers(pa.string(), 3, pa.array([b"\xff", b"b", b"c"]).buffers())})), "damaged", "cut off or damaged"),
    Bad("Parquet of nothing", "a.parquet", parquet(pa.table({"a": pa.array([], pa.int64())})), "no_rows", "no rows"),
    Bad("Parquet of bytes", "a.parquet", parquet(pa.table({"a": [b"x", b"y", b"z"]})), "bad_image", "not a picture", row=1, column="a"),
    Bad("a column that is not there", "a.csv", GOOD, "unknown_column", "There is no column “stars”", column="stars", request={"columns": {"label": "stars"}}),
    Bad("a split column with other words", "a.csv", GOOD, "bad_split_column", "“no”", column="label", request={"split_column": "label"}),
]  # fmt: skip


@pytest.mark.parametrize("bad", REFUSED, ids=lambda bad: bad.what)
def test_a_file_that_cannot_be_used_gets_its_sentence(bad: Bad, convert: Any) -> None:
    problem = refusal(convert, (bad.name, bad.data), **bad.request)
    assert problem.code == bad.code, problem
    assert bad.says in problem.message
    assert problem.hint
    assert problem.row == bad.row
    assert problem.column == bad.column


@dataclass
class Odd:
    """A file that is odd but usable, what is warned of, and what comes of it."""

    what: str
    name: str
    data: bytes
    warning: str
    columns: list[str] = field(default_factory=lambda: ["text", "label"])
    rows: int = 30
    first: dict[str, Any] | None = None


def text_rows(*rows: str, end: str = "\n") -> str:
    return end.join(("text,label", *rows)) + end


USED = [
    Odd("a byte-order mark", "a.csv", b"\xef\xbb\xbf" + GOOD, ""),
    Odd("Windows line ends", "a.csv", GOOD.replace(b"\n", b"\r\n"), ""),
    Odd("old Macintosh line ends", "a.csv", GOOD.replace(b"\n", b"\r"), ""),
    Odd("mixed line ends", "a.csv", GOOD.replace(b"0,no\n", b"0,no\r\n"), ""),
    Odd("UTF-16", "a.csv", GOOD.decode().encode("utf-16"), ""),
    Odd("UTF-16 without a mark", "a.csv", GOOD.decode().encode("utf-16-le"), ""),
    Odd("Windows-1252", "a.csv", GOOD.replace(b"sentence", b"caf\xe9"), "encoding", first={"text": "a café number 0", "label": "no"}),
    Odd("semicolons", "a.csv", GOOD.replace(b",", b";"), ""),
    Odd("bars", "a.txt", GOOD.replace(b",", b"|"), ""),
    Odd("tabs in a csv", "a.csv", GOOD.replace(b",", b"\t"), ""),
    Odd("no line end at the end", "a.csv", GOOD[:-1], ""),
    Odd("blank lines", "a.jsonl", lines(*({"text": f"t {n}", "label": "ab"[n % 2]} for n in range(30))).replace(b"}\n", b"}\n\n"), ""),
    Odd("a few ragged rows", "a.csv", MANY + b"one,two,three\n", "ragged", rows=300),
    Odd("the same column twice", "a.csv", GOOD.replace(b"text,label", b"text,text"), "duplicate_column", columns=["text", "text_2"]),
    Odd("a column without a name", "a.csv", GOOD.replace(b"text,label", b"text,"), "unnamed_column", columns=["text", "column_2"]),
    Odd("JSON called csv", "a.csv", lines(*({"text": f"t {n}", "label": "ab"[n % 2]} for n in range(30))), "extension"),
    Odd("CSV called Parquet", "a.parquet", GOOD, "extension"),
    Odd("types that change", "a.jsonl", lines(*({"text": f"t {n}", "label": n if n % 2 else "x"} for n in range(30))), "mixed_types"),
    Odd("keys that come late", "a.jsonl", lines(*({"text": f"t {n}", **({"label": "ab"[n % 2]} if n > 9 else {})} for n in range(30))), "missing_values"),
    Odd("one label only", "a.csv", GOOD.replace(b",no\n", b",yes\n"), "one_label"),
    Odd("a class of one row", "a.csv", GOOD + b"something else,maybe\n", "rare_classes", rows=31),
    Odd("an empty column", "a.csv", GOOD.replace(b"\n", b",\n").replace(b"label,", b"label,notes"), "empty_column"),
    Odd("HTML in cells and names", "a.csv", GOOD.replace(b"text,label", b"<script>alert(1)</script>,label"), "", columns=["<script>alert(1)</script>", "label"]),
    Odd("control marks in names", "a.csv", GOOD.replace(b"text,label", "te\u202ext\x1b[31m,label".encode()), "", columns=["te xt [31m", "label"]),
    Odd("a formula", "a.csv", GOOD.replace(b"a sentence number 0", b"=cmd|' /C calc'!A0"), "", first={"text": "=cmd|' /C calc'!A0", "label": "no"}),
    Odd("a path to another file", "a.csv", GOOD.replace(b"a sentence number 0", b"/etc/passwd"), "", first={"text": "/etc/passwd", "label": "no"}),
    Odd("NUL written as an escape", "a.jsonl", lines(*({"text": f"\0 {n}", "label": "ab"[n % 2]} for n in range(30))), "", first={"text": " 0", "label": "a"}),
    Odd("NUL in Parquet", "a.parquet", parquet(pa.table({"text": [f"\0 {n}" for n in range(30)], "label": ["a", "b\0"] * 15})), "", first={"text": " 0", "label": "a"}),
    Odd("lone surrogates", "a.jsonl", lines(*({"text": f"\ud800 {n}", "label": "ab"[n % 2]} for n in range(30))), ""),
    Odd("Parquet with durations", "a.parquet", parquet(pa.table({"text": [f"t {n}" for n in range(30)], "label": ["a", "b"] * 15, "took": pa.array(range(30), pa.duration("s"))})), "column_left_out"),
    Odd("Parquet with all else", "a.parquet", parquet(pa.table({"text": pa.array([f"t {n}" for n in range(30)], pa.large_string()), "label": pa.array(["a", "b"] * 15).dictionary_encode(), "at": pa.array(range(30), pa.timestamp("us", "UTC")), "price": pa.array(range(30), pa.int64()).cast(pa.decimal128(22, 2)), "big": pa.array([2**64 - 1] + [1] * 29, pa.uint64()), "tags": [["x", "y"]] * 30, "half": pa.array([float("nan")] + [0.5] * 29, pa.float32())})), "missing_values", columns=["text", "label", "at", "price", "big", "tags", "half"]),
]  # fmt: skip


@pytest.mark.parametrize("odd", USED, ids=lambda odd: odd.what)
def test_a_file_that_is_odd_is_read_and_what_is_odd_is_said(odd: Odd, convert: Any) -> None:
    made = convert((odd.name, odd.data))
    assert [column["name"] for column in made.columns] == odd.columns
    assert made.rows == odd.rows == sum(made.splits.values())
    warned = {problem["code"] for problem in made.problems}
    assert warned == ({odd.warning} if odd.warning else set())
    assert all(problem["severity"] == "warning" for problem in made.problems)
    if odd.first is not None:
        assert odd.first in made.preview


def test_a_csv_read_as_tsv_still_says_what_it_is(convert: Any) -> None:
    made = convert(("a.tsv", GOOD))
    assert made.details["files"][0]["delimiter"] == "comma"


def test_numbers_become_numbers_only_where_nothing_is_lost(convert: Any) -> None:
    head = b"plain,zip,long,price,mixed,flag,big\n"
    rows = b"".join(
        b"%d,0%d,123456789012345678%02d,%d.5,%s,%s,1e400\n"
        % (n, n, n, n, b"x" if n == 29 else b"1", b"TRUE" if n % 2 else b"false")
        for n in range(30)
    )
    made = convert(("a.csv", head + rows))
    assert {column["name"]: column["kind"] for column in made.columns} == {
        "plain": "integer",
        "zip": "text",
        "long": "text",
        "price": "float",
        "mixed": "label",
        "flag": "boolean",
        "big": "label",
    }


@pytest.mark.parametrize(
    ("data", "header"),
    [
        (b"text,label\nfoo,a\nbar,b\nbaz,a\n", True),
        (b"foo is good,1\nbar is bad,0\nbaz is good,1\n", False),
        (b"comment,stars\nfoo is good,1\nbar is bad,0\nbaz is good,1\n", True),
        (b"good\tthis film\nbad\tthat film\ngood\tanother film\nbad\tno film\n", False),
        (b"Bewertung;Urteil\nsehr gut gemacht;gut\nleider kaputt;schlecht\npasst;gut\nja;gut\n", True),
    ],
)
def test_a_header_is_told_from_data(data: bytes, header: bool, convert: Any) -> None:
    assert convert(("a.csv", data)).details["files"][0]["header"] is header


def test_the_uploader_knows_better_whether_there_is_a_header(convert: Any) -> None:
    made = convert(("a.csv", GOOD), has_header=False)
    assert made.rows == 31
    assert [column["name"] for column in made.columns] == ["column_1", "column_2"]


def test_a_split_column_decides_and_is_no_column_of_the_dataset(convert: Any) -> None:
    data = b"text,label,split\n" + b"".join(
        f"t {n},{'ab'[n % 2]},{'train' if n < 20 else 'dev' if n < 25 else 'test'}\n".encode()
        for n in range(30)
    )
    made = convert(("a.csv", data))
    assert made.splits == {"train": 20, "validation": 5, "test": 5}
    assert [column["name"] for column in made.columns] == ["text", "label"]


def test_what_is_missing_of_the_splits_is_drawn_from_train(convert: Any) -> None:
    made = convert(("train.csv", MANY), ("my-test.csv", GOOD))
    assert made.splits == {"train": 270, "validation": 30, "test": 30}
    assert made.details["split"]["drawn"] == ["validation"]


def test_chat_messages_are_told_from_other_lists(convert: Any) -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    made = convert(("a.jsonl", lines(*({"messages": chat, "tags": ["x"]} for _ in range(10)))))
    assert [column["kind"] for column in made.columns] == ["messages", "json"]


def test_class_names_of_the_datasets_library_are_kept(convert: Any) -> None:
    features = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["neg", "pos"]}}}}
    table = pa.table({"text": [f"t {n}" for n in range(20)], "label": [0, 1] * 10})
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    made = convert(("a.parquet", parquet(table)))
    assert made.columns[1]["names"] == ["neg", "pos"]
    assert made.preview[0]["label"] in {"neg", "pos"}
