"""Excel workbooks: what people make of sheets, and what strangers make of workbooks."""

from __future__ import annotations

import datetime
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from openpyxl import Workbook
from openpyxl.worksheet.worksheet import Worksheet

from tests.webapp.datasets.conftest import refusal
from webapp.datasets.formats.sheet_marks import scan

SHEET = "xl/worksheets/sheet1.xml"


def book(fill: Callable[[Any], object]) -> bytes:
    workbook = Workbook()
    fill(workbook.active)
    target = io.BytesIO()
    workbook.save(target)
    return target.getvalue()


def rows(sheet: Worksheet) -> None:
    sheet.append(["text", "label", "day", "moment", "price", "stars", "code", "good"])
    for n in range(30):
        day = datetime.datetime(2024, 2, 1 + n % 28)
        sheet.append(
            [f"sentence {n}", "ab"[n % 2], day, day.replace(hour=9), n + 0.5, n, f"0{n % 3}7", bool(n % 2)]
        )


def changed(data: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """The workbook with one of its parts changed."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.namelist():
            new.writestr(part, change(old.read(part)) if part == name else old.read(part))
    return target.getvalue()


def office(entry: str) -> bytes:
    """A compound file of Microsoft whose directory has one entry."""
    head = bytearray(512)
    head[:8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
    struct.pack_into("<H", head, 30, 9)
    struct.pack_into("<I", head, 48, 0)
    return bytes(head) + entry.encode("utf-16-le").ljust(512, b"\0")


def test_a_sheet_becomes_columns_of_the_kinds_that_it_holds(convert: Any) -> None:
    made = convert(("a.xlsx", book(rows)))
    assert {column["name"]: column["kind"] for column in made.columns} == {
        "text": "text",
        "label": "label",
        "day": "text",
        "moment": "text",
        "price": "float",
        "stars": "integer",
        "code": "label",
        "good": "boolean",
    }
    first = next(row for row in made.preview if row["text"] == "sentence 0")
    assert (first["day"], first["moment"], first["price"]) == ("2024-02-01", "2024-02-01T09:00:00", 0.5)
    assert made.problems == []


def test_a_workbook_gives_the_rows_of_the_same_csv(convert: Any) -> None:
    def fill(sheet: Worksheet) -> None:
        sheet.append(["text", "label", "n"])
        for n in range(50):
            sheet.append([f'ein "Satz", {n}\nüber zwei Zeilen', "ab"[n % 2], n])

    lines = "".join(f'"ein ""Satz"", {n}\nüber zwei Zeilen",{"ab"[n % 2]},{n}\n' for n in range(50))
    made, plain = convert(("a.xlsx", book(fill))), convert(("a.csv", ("text,label,n\n" + lines).encode()))
    assert made.content_hash == plain.content_hash


def test_titles_merged_names_and_merged_values_are_read_as_they_look(convert: Any) -> None:
    def fill(sheet: Worksheet) -> None:
        sheet.append(["Survey of 2024"])
        sheet.append(["Text", "Scores", None, "Topic"])
        sheet.append([None, "first", "second", None])
        for cells in ("A1:D1", "A2:A3", "B2:C2", "D2:D3"):
            sheet.merge_cells(cells)
        for n in range(30):
            sheet.append([f"sentence {n}", n, 2 * n, None if n % 2 else "abc"[n % 3]])
        for n in range(0, 30, 2):
            sheet.merge_cells(start_row=4 + n, end_row=5 + n, start_column=4, end_column=4)

    made = convert(("a.xlsx", book(fill)))
    assert [column["name"] for column in made.columns] == ["Text", "Scores first", "Scores second", "Topic"]
    assert made.rows == 30
    assert made.columns[3]["nulls"] == 0
    topics = {row["Text"]: row["Topic"] for row in made.preview}
    assert topics["sentence 0"] == topics["sentence 1"]
    assert [(each["code"], each["row"]) for each in made.problems] == [("title_row", 1)]


def test_the_first_sheet_with_rows_is_read_and_the_others_are_named(convert: Any) -> None:
    workbook = Workbook()
    for title in ("Hidden", "Data", "Notes"):
        rows(workbook.create_sheet(title))
    workbook["Hidden"].sheet_state = "hidden"
    target = io.BytesIO()
    workbook.save(target)
    made = convert(("a.xlsx", target.getvalue()))
    assert made.details["files"][0]["sheet"] == "Data"
    (problem,) = made.problems
    assert problem["code"] == "other_sheets"
    assert all(title in problem["message"] for title in ("“Sheet”", "“Notes”", "“Hidden”"))


def test_formulas_count_as_the_values_that_were_saved_with_them(convert: Any) -> None:
    def fill(sheet: Worksheet) -> None:
        sheet.append(["text", "twice"])
        for n in range(30):
            sheet.append([f"sentence {n}", f"=2*{n}"])

    def saved(xml: bytes) -> bytes:
        for n in range(1, 30):
            xml = xml.replace(b"<f>2*%d</f><v/>" % n, b"<f>2*%d</f><v>%d</v>" % (n, 2 * n))
            xml = xml.replace(b"<f>2*%d</f><v />" % n, b"<f>2*%d</f><v>%d</v>" % (n, 2 * n))
        return xml

    made = convert(("a.xlsx", changed(book(fill), SHEET, saved)))
    assert (made.columns[1]["kind"], made.columns[1]["max"], made.columns[1]["nulls"]) == ("integer", 58, 1)
    unsaved = next(each for each in made.problems if each["code"] == "formula_without_value")
    assert (unsaved["count"], "B2" in unsaved["message"]) == (1, True)


def test_cells_with_errors_are_empty_and_named(convert: Any) -> None:
    def fill(sheet: Worksheet) -> None:
        rows(sheet)
        sheet["B7"] = "#DIV/0!"

    made = convert(("a.xlsx", book(fill)))
    assert made.columns[1]["nulls"] == 1
    assert (made.problems[0]["code"], made.problems[0]["row"]) == ("cell_error", 7)


def test_without_a_header_every_row_counts(convert: Any) -> None:
    def fill(sheet: Worksheet) -> None:
        for n in range(30):
            sheet.append([f"sentence {n}", n])

    made = convert(("a.xlsx", book(fill)))
    assert ([column["name"] for column in made.columns], made.rows) == (["column_1", "column_2"], 30)
    assert convert(("a.xlsx", book(rows)), has_header=False).rows == 31


def test_a_sheet_that_lies_about_its_size_is_read_as_it_is(convert: Any) -> None:
    lying = changed(book(rows), SHEET, lambda xml: xml.replace(b'ref="A1:H31"', b'ref="A1:XFD1048576"'))
    assert lying != book(rows)
    assert convert(("a.xlsx", lying)).rows == 30


def test_a_compressed_workbook_is_read_too(convert: Any) -> None:
    import gzip

    assert convert(("a.xlsx.gz", gzip.compress(book(rows)))).rows == 30


def zip_of(**files: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target.getvalue()


def encrypted_entry(data: bytes) -> bytes:
    """With the flag of encryption set in every header."""
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = -1
        while (place := data.find(signature, place + 1)) >= 0:
            data = data[: place + offset] + b"\x01" + data[place + offset + 1 :]
    return data


GOOD = book(rows)
ENTITY = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
OUTSIDE = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("what", "data", "code", "says"),
    [
        ("cut off", GOOD[:-100], "damaged", "cut off or damaged"),
        ("only a beginning", GOOD[:400], "damaged", "cut off or damaged"),
        ("half a sheet", changed(GOOD, SHEET, lambda xml: xml[:900]), "damaged", "cut off or damaged"),
        ("entities", changed(GOOD, SHEET, lambda xml: ENTITY + xml), "damaged", "cut off or damaged"),
        ("a file outside", changed(GOOD, SHEET, lambda xml: OUTSIDE + xml), "damaged", "cut off or damaged"),
        ("row 99,999,999,999", changed(GOOD, SHEET, lambda xml: xml.replace(b'r="9"', b'r="99999999999"')), "damaged", "cut off or damaged"),
        ("strings out of range", changed(GOOD, SHEET, lambda xml: xml.replace(b'"inlineStr"><is><t>a</t></is>', b'"s"><v>99999</v>')), "damaged", "cut off or damaged"),
        ("a bomb", changed(GOOD, SHEET, lambda xml: xml + b" " * (70 << 20)), "unpacks_too_large", "200 times"),
        ("no sheet with rows", book(lambda sheet: None), "no_rows", "No sheet"),
        ("only names", book(lambda sheet: sheet.append(["text", "label"])), "header_only", "no rows below"),
        ("2,000 columns", book(lambda sheet: [sheet.append(["x"] * 2000) for _ in range(5)]), "too_many_columns", "at most 1,000"),
        ("a Word document", zip_of(**{"[Content_Types].xml": b"<x/>", "word/document.xml": b"<x/>"}), "not_a_table", "no Excel workbook"),
        ("a binary workbook", zip_of(**{"[Content_Types].xml": b"<x/>", "xl/workbook.bin": b"x"}), "not_a_table", ".xlsb"),
        ("with a password on its parts", encrypted_entry(GOOD), "encrypted", "password"),
        ("with a password", office("EncryptedPackage"), "encrypted", "password"),
        ("an old workbook", office("Workbook"), "not_a_table", "(.xls)"),
        ("an old document", office("WordDocument"), "not_a_table", "old Office file"),
        ("a cut office file", office("Workbook")[:40].ljust(80, b"\xff"), "not_a_table", "old Office file"),
    ],
)  # fmt: skip
def test_a_workbook_that_cannot_be_used_gets_its_sentence(
    what: str, data: bytes, code: str, says: str, convert: Any
) -> None:
    problem = refusal(convert, ("a.xlsx", data))
    assert (problem.code, problem.file) == (code, "a.xlsx"), problem
    assert says in problem.message
    assert problem.hint


def test_a_bomb_leaves_nothing_inflated(convert: Any, tmp_path: Path) -> None:
    refusal(convert, ("a.xlsx", changed(GOOD, SHEET, lambda xml: xml + b" " * (70 << 20))))
    assert max(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 1 << 20


def test_of_merged_cells_that_cover_each_other_few_are_kept() -> None:
    merges = b'<mergeCell ref="A2:XFD1048576"/>' * 200_000 + b'<mergeCell ref="B3:C3"/>'
    marks = scan(io.BytesIO(b"<mergeCells>" + merges + b"</mergeCells>"))
    assert {row: len(begun) for row, begun in marks.merges.starts.items()} == {2: 1}


def test_marks_are_found_across_the_pieces_that_a_sheet_is_read_in() -> None:
    cell, merge = b'<c r="B%d"><f>1+1</f><v/></c>', b'<mergeCell ref="A%d:B%d"/>'
    xml = b"".join(b"<row>" + cell % n + b" " * 9999 + b"</row>" for n in range(1, 500))
    marks = scan(io.BytesIO(xml + b"".join(merge % (n, n) + b" " * 9999 for n in range(1, 500))))
    assert (marks.unsaved, marks.unsaved_count) == (["B1"], 499)
    assert sorted(marks.merges.starts) == list(range(1, 500))


def test_the_library_in_use_refuses_entities() -> None:
    assert openpyxl.DEFUSEDXML is True
