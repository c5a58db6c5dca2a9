"""Plain text: lines, paragraphs and documents."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from tests.webapp.datasets.conftest import refusal

PROSE = [
    f"In the year {1900 + n}, the {('ship', 'train', 'coach')[n % 3]} left at dawn, and nobody saw it{' again' * (n % 4)}."
    for n in range(40)
]
LINES = "\n".join(PROSE).encode()


def texts(made: Any) -> set[str]:
    return {row["text"] for row in made.preview}


def details(made: Any) -> dict[str, Any]:
    found: dict[str, Any] = made.details["files"][0]
    return found


def test_every_line_is_a_row(convert: Any) -> None:
    made = convert(("a.txt", LINES))
    assert (made.rows, details(made)["rows"], made.problems) == (40, "line", [])
    assert [column["name"] for column in made.columns] == ["text"]
    assert texts(made) <= set(PROSE)


def test_a_single_blank_line_by_accident_makes_no_paragraphs(convert: Any) -> None:
    many = [f"line number {n}" for n in range(300)]
    made = convert(("a.txt", "\n".join([*many[:150], "", *many[150:]]).encode()))
    assert (made.rows, details(made)["rows"]) == (300, "line")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_blank_lines_make_paragraphs(end: str, convert: Any) -> None:
    stanzas = [f"roses are red {n}{end}violets are blue" for n in range(12)]
    made = convert(("a.md", (end * 2).join(stanzas).encode()))
    assert (made.rows, details(made)["rows"]) == (12, "paragraph")
    assert texts(made) <= {f"roses are red {n}\nviolets are blue" for n in range(12)}


def test_several_files_are_a_document_each(convert: Any) -> None:
    files = [
        (f"chapter {n}.md", f"# Chapter {n}\n\nIt begins.\n\n    code\n\nIt ends.\n".encode())
        for n in range(5)
    ]
    made = convert(*files)
    assert (made.rows, details(made)["rows"]) == (5, "document")
    assert "# Chapter 0\n\nIt begins.\n\n    code\n\nIt ends." in texts(made)


def test_files_that_are_called_splits_have_rows(convert: Any) -> None:
    made = convert(("train.txt", LINES), ("test.txt.gz", gzip.compress(LINES)))
    assert (made.splits["test"], made.splits["train"]) == (40, 36)


def test_a_first_line_that_is_said_to_be_a_name_is_one(convert: Any) -> None:
    made = convert(("a.txt", b"Tale\n" + LINES), has_header=True)
    assert ([column["name"] for column in made.columns], made.rows) == (["Tale"], 40)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"".join(b"good film %d,1\n" % n for n in range(30)), "csv"),
        (b"".join(b"good film %d\tyes\n" % n for n in range(30)), "csv"),
        (b"".join(b"good film %d|yes\n" % n for n in range(30)), "csv"),
        (b"".join(b"Hello, number %d\n" % n for n in range(30)), "text"),
        (b"".join(b"one word\n" for n in range(30)), "text"),
        (LINES, "text"),
        (LINES.decode().encode("utf-16"), "text"),
    ],
)
def test_tables_are_told_from_prose(data: bytes, kind: str, convert: Any) -> None:
    assert details(convert(("a.txt", data)))["format"] == kind


@pytest.mark.parametrize(
    ("data", "code", "says", "row"),
    [
        (b"a\n" * 5 + b"x" * (17 << 20), "huge_value", "Line 6", 6),
        (b"a\nb\n\n" * 400_000 + (b"y" * 1000 + b"\n") * 17_000, "huge_value", "paragraph from line 1,200,001", 1_200_001),
        (b"one\ntwo\x00\nthree\n", "nul", "Line 2", 2),
        ("é\n".encode() * 5 + b"\xff\xfe\xfa\n", "encoding", "Line 6", 6),
        (b"one\n", "too_few_rows", "1 row", None),
    ],
)  # fmt: skip
def test_a_text_that_cannot_be_used_gets_its_sentence(
    data: bytes, code: str, says: str, row: int | None, convert: Any
) -> None:
    problem = refusal(convert, ("a.txt", data))
    assert (problem.code, problem.row) == (code, row), problem
    assert says in problem.message
