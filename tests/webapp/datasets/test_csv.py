"""Tables as text, the ways in which programs write them: every encoding with every delimiter."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Any

import pytest

from tests.webapp.datasets.conftest import refusal

VALUE = 'Käse, Brot; „gut“ | "x" {n}\n\tzweite Zeile'


def table(delimiter: str) -> str:
    quoted = VALUE.replace('"', '""')
    rows = (f'"{quoted.format(n=n)}"{delimiter}{"gut" if n % 2 else "schlecht"}\r\n' for n in range(40))
    return f"text{delimiter}label\r\n" + "".join(rows)


@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"], ids=["comma", "semicolon", "bar", "tab"])
@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b""),
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", b""),
        ("utf-16-be", b""),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("cp1252", b""),
    ],
)
def test_every_encoding_and_delimiter_gives_the_same_rows(
    encoding: str, mark: bytes, delimiter: str, convert: Any
) -> None:
    made = convert(("a.csv", mark + table(delimiter).encode(encoding)))
    plain = convert(("a.csv", table(",").encode()))
    assert made.rows == 40
    assert made.content_hash == plain.content_hash
    assert VALUE.format(n=0) in {row["text"] for row in made.preview}
    assert {each["code"] for each in made.problems} == ({"encoding"} if encoding == "cp1252" else set())


def test_a_comma_in_every_text_is_no_delimiter_where_the_names_have_another(convert: Any) -> None:
    rows = "".join(f"good, really {n};{('yes', 'no')[n % 2]}\n" for n in range(40))
    made = convert(("a.csv", f"text;label\n{rows}".encode()))
    assert (made.details["files"][0]["delimiter"], made.rows) == ("semicolon", 40)


@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"])
def test_excels_line_that_tells_the_separator_is_no_row(delimiter: str, convert: Any) -> None:
    told = f"sep={delimiter}\r\n" + table(delimiter)
    assert (
        convert(("a.csv", told.encode())).content_hash == convert(("a.csv", table(",").encode())).content_hash
    )


def test_below_the_line_that_tells_the_separator_rows_are_still_needed(convert: Any) -> None:
    problem = refusal(convert, ("a.csv", b"sep=;\ntext;label\n"))
    assert (problem.code, problem.row) == ("header_only", 2)


def test_a_line_that_does_not_fit_is_named_as_an_editor_counts_it(convert: Any) -> None:
    rows = b"".join(b"some text %d;%s\n" % (n, b"ab"[n % 2 : n % 2 + 1]) for n in range(300))
    made = convert(("a.csv", b"sep=;\ntext;label\n" + rows + b"one;two;three\n"))
    assert [(each["code"], each["row"]) for each in made.problems] == [("ragged", 303)]


def test_real_files_without_a_header_become_the_splits_they_are_called(
    convert: Any, shared_data: Path
) -> None:
    files = [
        (f"{name}.tsv", (shared_data / f"sst2/{name}.tsv").read_bytes()) for name in ("train", "dev", "test")
    ]
    made = convert(*files)
    assert made.splits == {"train": 6920, "validation": 872, "test": 1821}
    assert [column["kind"] for column in made.columns] == ["text", "integer"]
    assert not made.problems
