"""Tables, JSON and binary files that are hostile or broken: each gets its sentence, or is read all the same.

test_bad_files.py has those that people make by accident.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import pickle
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.webapp.datasets.bad_inputs import MB, Case, check
from tests.webapp.datasets.conftest import refusal
from tests.webapp.datasets.packing import recording, zipped
from tests.webapp.datasets.test_bad_files import GOOD, lines, parquet
from webapp.datasets.formats import csv_rows


def rows(count: int = 30) -> list[dict[str, Any]]:
    return [{"text": f"sentence number {n}", "label": "ab"[n % 2]} for n in range(count)]


def ending(line: bytes) -> bytes:
    """Good lines of JSON, and this one."""
    return lines(*rows()) + line + b"\n"


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def headed(header: str) -> bytes:
    """A good table with another header."""
    return GOOD.replace(b"text,label", header.encode(), 1)


def arrays(**named: Any) -> bytes:
    target = io.BytesIO()
    np.savez(target, **named)
    return target.getvalue()


def with_features(features: Any) -> bytes:
    table = pa.table({"text": [f"t {n}" for n in range(30)], "label": [0, 7] * 15})
    said = features if isinstance(features, str) else json.dumps({"info": {"features": features}})
    return parquet(table.replace_schema_metadata({"huggingface": said}))


def cut_arrow() -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table({"a": list(range(1000))})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes()[:3000])


LONG_LINE = "is longer than 16 MB"
TWO = ("text", "label")
HUGE = [
    Case("a line of 100 MB in CSV", "a.csv", lambda: GOOD + b"x" * (100 * MB) + b",a\n", "huge_value", LONG_LINE, row=32),
    Case("100 MB without a line end", "a.tsv", lambda: b"x" * (100 * MB), "huge_value", LONG_LINE, row=1),
    Case("100 MB in quotes over lines", "a.csv", lambda: GOOD + b'"' + b"line of text\n" * (8 * MB) + b'",a\n', "huge_value", LONG_LINE, row=32),
    Case("a quote never closed before 100 MB", "a.csv", lambda: GOOD + b'"' + b"line of text,b\n" * (7 * MB), "huge_value", LONG_LINE, row=32),
    Case("a line of 100 MB after carriage returns", "a.csv", lambda: GOOD.replace(b"\n", b"\r") + b"x" * (100 * MB) + b",a\r", "huge_value", LONG_LINE, row=1),
    Case("a line of 100 MB in JSON Lines", "a.jsonl", lambda: ending(b'{"text":"' + b"x" * (100 * MB) + b'","label":"a"}'), "huge_value", LONG_LINE, row=31),
    Case("a string of 100 MB in JSON", "a.json", lambda: b'[{"text":"' + b"x" * (100 * MB) + b'"}]', "huge_value", LONG_LINE, row=1),
    Case("a line of 100 MB in a text", "a.txt", lambda: b"one line\n" * 30 + b"x " * (50 * MB), "huge_value", LONG_LINE, row=31),
]  # fmt: skip
CASES = [
    Case("JSON 10,000 lists deep", "a.json", lambda: b'[{"a":' + nested(10_000) + b"}]", "bad_json", "nested too deeply", row=1),
    Case("a line of JSON 10,000 lists deep", "a.jsonl", lambda: ending(b'{"text":"x","label":' + nested(10_000) + b"}"), "bad_json", "nested too deeply", row=31),
    Case("JSON 10,000 objects deep", "a.json", lambda: b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "bad_json", "nested too deeply", row=1),
    Case("JSON 900 deep", "a.jsonl", lambda: ending(b'{"text":"xyz","label":"a","m":' + nested(900) + b"}"), warned=("missing_values",), rows=31),
    Case("JSON cut off", "a.json", lambda: json.dumps(rows()).encode()[:-40], "bad_json", "cut off", row=1),
    Case("not a number in JSON", "a.jsonl", lambda: ending(b'{"text":"xyz","label":"a","n":NaN}'), warned=("empty_column",), rows=31, columns=TWO),
    Case("an endless number in JSON", "a.jsonl", lambda: ending(b'{"text":"xyz","label":"a","n":1e999}'), warned=("empty_column",), rows=31, columns=TWO),
    Case("a number of 30 digits in JSON", "a.jsonl", lambda: ending(b'{"text":"xyz","label":"a","n":123456789012345678901234567890}'), warned=("missing_values",), rows=31),
    Case("JSON of a truth value", "a.json", lambda: b"true", "not_an_object", "“true”", row=1),
    Case("JSON of a string", "a.json", lambda: b'"text"', "not_an_object", "not an object", row=1),
    Case("JSON of nothing", "a.json", lambda: b"null", "not_an_object", "“null”", row=1),
    Case("two JSON documents in one file", "a.json", lambda: json.dumps(rows(), indent=1).encode() * 2, "bad_json", "stands behind its end", row=122),
    Case("a comma too many in JSON", "a.json", lambda: json.dumps(rows()).encode()[:-1] + b",]", "bad_json", "entry 31", row=1),
    Case("comments in JSON", "a.json", lambda: b"// mine\n" + json.dumps(rows()).encode(), "bad_json", "“// mine”", row=1),
    Case("a key twice in JSON", "a.jsonl", lambda: ending(b'{"text":"x","text":"yes","label":"a"}'), rows=31, columns=TWO),
    Case("a key of 300 bytes", "a.jsonl", lambda: lines(*({**row, "k" * 300: 1} for row in rows())), rows=30, columns=(*TWO, "k" * 100)),
    Case("a key without letters", "a.jsonl", lambda: lines(*({**row, "": 1} for row in rows())), warned=("unnamed_column",), rows=30, columns=(*TWO, "column_3")),
    Case("a key with NUL", "a.jsonl", lambda: lines(*({**row, "a\0b": 1} for row in rows())), rows=30, columns=(*TWO, "a b")),
    Case("keys that differ in capitals", "a.jsonl", lambda: lines(*({"Text": f"t {n}", "text": "ab"[n % 2]} for n in range(30))), warned=("duplicate_column",), rows=30, columns=("Text", "text_2")),
    Case("JSON in UTF-16", "a.json", lambda: json.dumps(rows()).encode("utf-16"), rows=30, columns=TWO),
    Case("bytes that are no text in JSON", "a.jsonl", lambda: ending(b'{"text":"\xff\xfe","label":"a"}'), warned=("encoding",), rows=31),
    Case("a page that asks to sign in", "a.csv", lambda: b"<!DOCTYPE html>\n<html><body>\n" + b"<p>Please sign in, then download</p>\n" * 30, "ragged", "do not fit", row=3),
    Case("a drawing with a script", "a.svg", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "too_few_rows", "1 row"),
    Case("UTF-32", "a.csv", lambda: GOOD.decode().encode("utf-32"), "nul", "NUL character", row=1),
    Case("UTF-16 the other way round", "a.csv", lambda: GOOD.decode().encode("utf-16-be"), rows=30, columns=TWO),
    Case("surrogates in UTF-8", "a.csv", lambda: GOOD + b"\xed\xa0\x80,yes\n", warned=("encoding",), rows=31),
    Case("an old Word document", "a.doc", lambda: bytes.fromhex("d0cf11e0a1b11ae1") + bytes(2000), "not_a_table", "an old Office file"),
    Case("a 7-Zip archive", "a.7z", lambda: b"7z\xbc\xaf\x27\x1c" + bytes(100), "not_a_table", "7-Zip"),
    Case("a RAR archive", "a.rar", lambda: b"Rar!\x1a\x07\x01\x00" + bytes(100), "not_a_table", "RAR"),
    Case("a pickle", "a.pkl", lambda: pickle.dumps(rows()), "not_a_table", "no format that can be read"),
    Case("NumPy arrays", "a.npz", lambda: arrays(a=np.zeros(100)), "unknown_layout", "1 × .npy"),
    Case("weights of PyTorch", "a.pt", lambda: zipped({"archive/data.pkl": b"\x80\x02}q\x00.", "archive/version": b"3\n"}), "unknown_layout", "1 × .pkl"),
    Case("HDF5", "a.h5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(500), "not_a_table", "no format that can be read"),
    Case("a film", "a.mp4", lambda: b"\0\0\0\x18ftypmp42" + bytes(500), "not_a_table", "no format that can be read"),
    Case("one recording", "a.wav", recording, "not_a_table", "no format that can be read"),
    Case("a program of Windows", "a.csv", lambda: b"MZ\x90\x00" + bytes(500), "not_a_table", "a program"),
    Case("xz", "a.csv.xz", lambda: lzma.compress(GOOD), "not_a_table", "an xz archive"),
    Case("bzip2", "a.csv.bz2", lambda: bz2.compress(GOOD), "not_a_table", "a bzip2 archive"),
    Case("gzip in gzip", "a.csv.gz", lambda: gzip.compress(gzip.compress(GOOD)), "nested_archive", "compressed once more"),
    Case("a zip in gzip", "a.gz", lambda: gzip.compress(zipped({"a.csv": GOOD})), "not_a_table", "a ZIP archive"),
    Case("gzip with something behind it", "a.csv.gz", lambda: gzip.compress(GOOD) + b"garbage", "damaged", "begins as gzip"),
    Case("gzip with a wrong sum", "a.csv.gz", lambda: gzip.compress(GOOD)[:-8] + bytes(4) + gzip.compress(GOOD)[-4:], "damaged", "begins as gzip"),
    Case("nothing but delimiters", "a.csv", lambda: b",,,,\n" * 50, "only_empty", "empty in every row"),
    Case("a million blank lines", "a.csv", lambda: b"\n" * 1_000_000, "empty", "nothing but blanks"),
    Case("nothing but quotes", "a.csv", lambda: b'"' * 10_001, "unclosed_quote", "never closed", row=1),
    Case("another number of columns in each row", "a.csv", lambda: b"a,b\n" + b"".join(b",".join([b"x"] * (n % 9 + 1)) + b"\n" for n in range(100)), "ragged", "89 of 100 rows", row=2),
    Case("the hint of Excel alone", "a.csv", lambda: b"sep=;\n", "no_rows", "no rows of data"),
    Case("a name that nobody sees", "a.csv", lambda: headed("\u200b,label"), warned=("unnamed_column",), rows=30, columns=("column_1", "label")),
    Case("names that differ in capitals", "a.csv", lambda: headed("Text,text"), warned=("duplicate_column",), rows=30, columns=("Text", "text_2")),
    Case("the name of a column of ours", "a.csv", lambda: headed("*split,*row"), rows=30, columns=("*split", "*row")),
    Case("the name of a column of DuckDB's", "a.csv", lambda: headed("File_Row_Number,label"), warned=("renamed_column",), rows=30, columns=("File_Row_Number_1", "label")),
    Case("words of SQL as names", "a.csv", lambda: headed("select,rows"), rows=30, columns=("select", "rows")),
    Case("SQL in a name", "a.csv", lambda: headed('"x""; DROP TABLE rows; --",label'), rows=30, columns=('x"; DROP TABLE rows; --', "label")),
    Case("a line end in a name", "a.csv", lambda: headed('"te\nxt",label'), rows=30, columns=("te xt", "label")),
    Case("a name of 300 bytes", "a.csv", lambda: headed("t" * 300 + ",label"), rows=30, columns=("t" * 100, "label")),
    Case("right-to-left marks in a name and a value", "a.csv", lambda: headed("te\u202ext,label").replace(b"number 0", "\u202egnp.exe".encode()), rows=30, columns=("te xt", "label")),
    Case("control characters in a value", "a.csv", lambda: GOOD.replace(b"number 0", b"\x01\x02\x1b[2J\x7f"), rows=30, columns=TWO),
    Case("HTML in every name and value", "a.csv", lambda: b"<img src=x onerror=alert(1)>,<script>\n" + b"".join(b"<script>alert(%d)</script>,<b>%s\n" % (n, b"xy"[n % 2 : n % 2 + 1]) for n in range(30)), rows=30, columns=("<img src=x onerror=alert(1)>", "<script>")),
    Case("numbers of 400 digits", "a.csv", lambda: b"text,n\n" + b"".join(b"t %d,%s%d\n" % (n, b"9" * 400, n) for n in range(30)), rows=30),
    Case("endless numbers and none", "a.csv", lambda: b"text,n\n" + b"".join(b"t %d,%s\n" % (n, (b"inf", b"nan", b"1.5")[n % 3]) for n in range(30)), rows=30),
    Case("days that there are not", "a.csv", lambda: b"text,d\n" + b"".join(b"t %d,%s\n" % (n, (b"2024-02-30", b"0000-00-00")[n % 2]) for n in range(30)), rows=30),
    Case("two lines of comments above", "a.csv", lambda: b"# mine\n# yours\n" + GOOD, "ragged", "more than 1 columns", row=3),
    Case("Parquet of its marks alone", "a.parquet", lambda: b"PAR1PAR1", "damaged", "cut off or damaged"),
    Case("Parquet that says it has 2 GB of footer", "a.parquet", lambda: parquet(pa.table({"a": [1, 2, 3]}))[:-8] + struct.pack("<I", 0x7FFFFFFF) + b"PAR1", "damaged", "cut off or damaged"),
    Case("encrypted Parquet", "a.parquet", lambda: b"PARE" + bytes(200) + b"PARE", "not_a_table", "no format that can be read"),
    Case("Parquet with noise in its footer", "a.parquet", lambda: (lambda data: data[:-60] + bytes(range(52)) + data[-8:])(parquet(pa.table({"a": list(range(100))}))), "damaged", "cut off or damaged"),
    Case("Parquet of 5,000 columns", "a.parquet", lambda: parquet(pa.table({f"c{n}": [1, 2, 3] for n in range(5_000)})), "too_many_columns", "5,000 columns"),
    Case("Parquet with a column twice", "a.parquet", lambda: parquet(pa.Table.from_arrays([pa.array(range(30))] * 2, ["a", "a"])), warned=("duplicate_column",), rows=30, columns=("a", "a_2")),
    Case("Parquet with features that are no JSON", "a.parquet", lambda: with_features("{nonsense"), rows=30, columns=TWO),
    Case("Parquet with features of another form", "a.parquet", lambda: with_features({"label": [1], "text": {"_type": "Image"}, "x": None}), rows=30, columns=TWO),
    Case("Parquet with classes that have no name", "a.parquet", lambda: with_features({"label": {"_type": "ClassLabel", "names": ["a", "b"]}}), rows=30, columns=TWO),
    Case("Arrow cut off", "a.arrow", cut_arrow, "damaged", "begins as Arrow"),
    Case("Arrow of its marks alone", "a.arrow", lambda: b"ARROW1\0\0" + bytes(300) + b"ARROW1", "damaged", "begins as Arrow"),
    Case("the head of a SQLite database", "a.db", lambda: b"SQLite format 3\0" + bytes(84), "damaged", "begins as a SQLite database"),
    Case("a workbook of nothing", "a.xlsx", lambda: zipped({"[Content_Types].xml": b""}), "not_a_table", "no Excel workbook"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_broken_or_hostile_table_gets_its_sentence_or_is_read(case: Case, convert: Any) -> None:
    check(case, convert)


@pytest.mark.parametrize("case", HUGE, ids=str)
def test_a_value_of_100_megabytes_is_refused_by_its_line(case: Case, convert: Any) -> None:
    check(case, convert)


def test_too_long_rows_are_found_wherever_quotes_and_line_ends_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the rows that were written, in chunks so small that quotes and line ends fall on their edges."""
    monkeypatch.setattr(csv_rows, "MAX_ROW_BYTES", 3_000)
    monkeypatch.setattr(csv_rows, "CHUNK", 500)
    monkeypatch.setattr(csv_rows, "MOST_TRIED", 3)
    draw, path, found = random.Random(0), tmp_path / "rows.csv", 0
    for _ in range(300):
        target, expected = io.StringIO(), None
        for number in range(draw.randint(1, 30)):
            size = draw.randint(4_200, 9_000) if draw.random() < 0.03 else draw.choice([5, 50, 200, 900])
            line, begin = 1 + target.getvalue().count("\n"), target.tell()
            value = "".join(draw.choice('ab "\n,x') for _ in range(size))
            csv.writer(target, lineterminator="\n").writerow([value, number])
            if expected is None and target.tell() - begin > 4_200:
                expected = line
        path.write_text(target.getvalue(), newline="")
        assert csv_rows.too_long_row(path, '"', ",") == expected
        found += expected is not None
    assert found > 30


def test_marks_of_inches_do_not_make_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "MAX_ROW_BYTES", 3_000)
    monkeypatch.setattr(csv_rows, "CHUNK", 500)
    path = tmp_path / "rows.csv"
    path.write_text('size,what\n5" disk,a\n' + "another,b\n" * 2_000)
    assert csv_rows.too_long_row(path, '"', ",") is None


def test_a_column_that_another_file_writes_in_capitals_is_named(convert: Any) -> None:
    problem = refusal(convert, ("train.csv", headed("Text,label")), ("test.csv", GOOD))
    assert (problem.code, problem.file, problem.column) == ("capitals", "test.csv", "text")
    assert problem.message == "“text” is called “Text” in the files before it."


def test_a_json_list_may_be_of_any_length_on_one_line(convert: Any) -> None:
    document = json.dumps([{"text": f"{n} " * 20_000, "label": "ab"[n % 2]} for n in range(400)]).encode()
    assert len(document) > 20 * MB and b"\n" not in document
    assert convert(("a.json", document)).rows == 400
