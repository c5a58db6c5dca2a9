"""Excel workbooks (.xlsx, .xlsm): the first sheet that has rows, read a row at a time.

A workbook is a ZIP of XML files that a stranger made: what it would inflate to is looked at before anything is
inflated, and macros, links to other files and formulas are never followed: a formula counts as the value that was
saved with it. Values come as text, as from a CSV: whether a column holds numbers is decided over all its rows.
"""

from __future__ import annotations

import datetime
import itertools
import struct
import zipfile
from collections.abc import Iterator
from typing import IO, Any

import openpyxl
import pyarrow as pa

from webapp.datasets.formats.common import (
    BATCH_BYTES,
    MAX_BATCH_ROWS,
    Format,
    Opened,
    Source,
    check_column_count,
    unique_names,
)
from webapp.datasets.formats.compressed import inflation_limit, unpacks_too_large
from webapp.datasets.formats.csv import guess_header
from webapp.datasets.formats.sheet_marks import Marks, Merges, scan
from webapp.datasets.problems import Problems, Refused, shown

ZIP, OLE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
CONTENTS = "[Content_Types].xml"
MOST_PARTS = 10_000  # files in a workbook
LARGEST_PART = 256 << 20  # bytes inflated, of all but the sheets, which are read in pieces
MOST_ROWS = 1_048_576  # that Excel knows
SAMPLED = 500  # rows that header and columns are found from
MOST_TITLES = 5
ERRORS = frozenset(("#N/A", "#VALUE!", "#REF!", "#DIV/0!", "#NUM!", "#NAME?", "#NULL!", "#GETTING_DATA"))
Row = tuple[int, list[str | None]]  # as Excel counts it, its cells without empty ones at the end


class Excel(Format):
    slug = "excel"
    title = "Excel"
    extensions = (".xlsx", ".xlsm")

    def recognises(self, head: bytes, extension: str) -> float:
        if head.startswith(OLE):
            return 1.0
        workbook = CONTENTS.encode() in head or extension in self.extensions
        return 1.0 if head.startswith(ZIP) and workbook else 0.0

    def open(self, source: Source, problems: Problems) -> Opened:
        _check_container(source)
        stream = source.path.open("rb")  # of a path, openpyxl would judge the name
        try:
            _check_sizes(source)
            book = openpyxl.load_workbook(stream, read_only=True, data_only=True, keep_links=False)
            sheet, marks = _first_with_rows(book, source, problems)
            rows = _Rows(sheet, marks, source, problems)
            header = _Header(list(itertools.islice(rows, SAMPLED)), marks.merges, source, problems)
        except Exception as error:
            stream.close()
            raise _refused(error, source) from error
        names = header.names
        schema = pa.schema([(name, pa.string()) for name in names])
        first = header.rows[0][0] if header.rows else 2
        return Opened(
            schema=schema,
            batches=_batches(itertools.chain(header.rows, rows), stream, schema, source, problems),
            textual=True,
            first_row=first,
            details={"format": self.slug, "sheet": sheet.title, "header": header.there},
        )


def _check_container(source: Source) -> None:
    """What stands in a compound file of Microsoft: its directory says which program made it."""
    with source.path.open("rb") as opened:
        head = opened.read(512)
        if not head.startswith(OLE):
            return
        shift, first = struct.unpack_from("<H", head, 30)[0], struct.unpack_from("<I", head, 48)[0]
        opened.seek(min((first + 1) << min(shift, 16), source.path.stat().st_size))
        directory = opened.read(4096)
    if "EncryptedPackage".encode("utf-16-le") in directory:
        raise Refused(
            "encrypted",
            "The workbook is protected by a password.",
            "In Excel: File → Info → Protect Workbook → Encrypt with Password, empty the field, save, and upload it again.",
            file=source.name,
        )
    old = any(name.encode("utf-16-le") in directory for name in ("Workbook", "Book"))
    what = "an old Excel workbook (.xls)" if old else "an old Office file"
    raise Refused(
        "not_a_table",
        f"This is {what}, which cannot be read here.",
        "In Excel: Save as → Excel Workbook (.xlsx), and upload that.",
        file=source.name,
    )


def _check_sizes(source: Source) -> None:
    """Before anything is inflated: how much it would be. ZipFile inflates no more of a part than is said here."""
    with zipfile.ZipFile(source.path) as archive:
        parts = archive.infolist()
    names = {part.filename for part in parts}
    if "xl/workbook.bin" in names or not any(name.startswith("xl/") for name in names):
        what = "a binary Excel workbook (.xlsb)" if "xl/workbook.bin" in names else "no Excel workbook"
        raise Refused(
            "not_a_table",
            f"This is {what}, whatever its name says.",
            "Save the sheet as Excel Workbook (.xlsx) or as CSV, and upload that.",
            file=source.name,
        )
    if len(parts) > MOST_PARTS or len(names) < len(parts):
        raise _damaged(source)
    if any(part.flag_bits & 1 for part in parts):
        raise Refused(
            "encrypted",
            "The workbook is protected by a password.",
            "Save it without one, and upload it again.",
            file=source.name,
        )
    others = [
        part.file_size for part in parts if not part.filename.startswith(("xl/worksheets/", "xl/media/"))
    ]
    if sum(part.file_size for part in parts) > inflation_limit(source) or max(others) > LARGEST_PART:
        raise unpacks_too_large(source)


def _first_with_rows(book: Any, source: Source, problems: Problems) -> tuple[Any, Marks]:
    """The first sheet in which something stands, those that are hidden last."""
    sheets = sorted(book.worksheets, key=lambda sheet: sheet.sheet_state != "visible")
    for sheet in sheets:
        sheet.reset_dimensions()  # what it says of itself may be anything
        if any(cell not in (None, "") for row in _bounded(sheet, source) for cell in row):
            with zipfile.ZipFile(source.path) as archive, archive.open(sheet._worksheet_path) as part:
                marks = scan(part)
            break
    else:
        raise Refused(
            "no_rows", "No sheet of the workbook has rows.", "Add rows of examples.", file=source.name
        )
    others = [each.title for each in sheets if each is not sheet]
    if others:
        named = ", ".join(shown(title) for title in others[:5]) + (" and more" if len(others) > 5 else "")
        problems.warn(
            "other_sheets",
            f"Only the sheet {shown(sheet.title)} was read; the workbook also has {named}.",
            "Move the rows to the first sheet, or upload other sheets as files of their own, if they matter.",
            file=source.name,
            count=len(others),
        )
    if marks.unsaved:
        problems.warn(
            "formula_without_value",
            f"Cell {marks.unsaved[0]} holds a formula that was saved without its value; it is empty here.",
            "Open the workbook in Excel or LibreOffice, save it, and upload it again.",
            file=source.name,
            count=marks.unsaved_count,
        )
    return sheet, marks


def _bounded(sheet: Any, source: Source) -> Iterator[tuple[Any, ...]]:
    for number, row in enumerate(sheet.iter_rows(values_only=True), start=1):
        if number > MOST_ROWS:
            raise _damaged(source)
        yield row


class _Rows:
    """The rows in which something stands, as text; values of merged cells are repeated in each of them."""

    def __init__(self, sheet: Any, marks: Marks, source: Source, problems: Problems) -> None:
        self._raw = enumerate(_bounded(sheet, source), start=1)
        self._merges, self._source, self._problems = marks.merges, source, problems

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        for number, raw in self._raw:
            cells = [self._text(value, number) for value in raw]
            cells = self._merges.fill(number, cells)
            while cells and cells[-1] is None:
                cells.pop()
            if cells:
                check_column_count(len(cells), self._source)
                return number, cells
        raise StopIteration

    def _text(self, value: Any, row: int) -> str | None:
        match value:
            case None | "":
                return None
            case bool():
                return "true" if value else "false"
            case float() if value.is_integer() and abs(value) < 1e15:
                return str(int(value))
            case datetime.datetime() if value.time() == datetime.time():
                return value.date().isoformat()
            case datetime.date() | datetime.time():
                return value.isoformat()
            case str() if value in ERRORS:
                self._problems.warn(
                    "cell_error",
                    f"Row {row:,} has a cell that says {value}; cells with errors are empty here.",
                    "Correct the formula and save the workbook, if the value matters.",
                    file=self._source.name,
                    row=row,
                )
                return None
        return str(value).replace("\0", "").encode("utf-8", "replace").decode() or None


class _Header:
    """Which of the first rows are titles, which name the columns, and what they call them."""

    def __init__(self, rows: list[Row], merges: Merges, source: Source, problems: Problems) -> None:
        asked = source.has_header
        titles = 0
        while asked is not False and titles < MOST_TITLES and self._is_title(rows[titles:], merges):
            titles += 1
        if titles:
            problems.warn(
                "title_row",
                f"Row {rows[0][0]} is a title above the table: {shown(rows[0][1][0] or '')}. It was left out.",
                "Delete the rows above the column names if that is not what you meant.",
                file=source.name,
                row=rows[0][0],
            )
        rows = rows[titles:]
        width = max(len(cells) for _, cells in rows)
        levels = merges.levels(rows[0][0])
        plain = [[cell or "" for cell in cells] + [""] * (width - len(cells)) for _, cells in rows]
        self.there = asked if asked is not None else levels > 1 or guess_header(plain)
        if not self.there:
            self.names, self.rows = [f"column_{number}" for number in range(1, width + 1)], rows
            return
        last = rows[0][0] + levels - 1
        above = [cells for (number, _), cells in zip(rows, plain, strict=True) if number <= last]
        names = [
            " ".join(dict.fromkeys(part.strip() for part in column if part.strip()))
            for column in zip(*above, strict=True)
        ]
        self.names, self.rows = unique_names(names, source, problems), rows[len(above) :]
        if not self.rows:
            raise Refused(
                "header_only",
                "The sheet has column names but no rows below them.",
                "Add rows of examples. If the first row is an example, say that the file has no header.",
                file=source.name,
                row=last,
            )

    @staticmethod
    def _is_title(rows: list[Row], merges: Merges) -> bool:
        if len(rows) < 3:
            return False
        (number, cells), below = rows[0], rows[1:]
        width = max(len(each) for _, each in below)
        said = {cell for cell in cells if cell is not None}
        if len(said) != 1 or width < 2 or len({*below[0][1]} - {None}) < 2:
            return False
        plain = [[cell or "" for cell in each] + [""] * (width - len(each)) for _, each in below]
        return merges.across(number) >= width or (
            cells[0] is not None and len(cells) == 1 and guess_header(plain)
        )


def _batches(
    rows: Iterator[Row], stream: IO[bytes], schema: pa.Schema, source: Source, problems: Problems
) -> Iterator[pa.RecordBatch]:
    width, done = len(schema), 0
    held: list[list[str | None]] = []
    weight = 0
    try:
        for number, cells in rows:
            if len(cells) > width:
                problems.warn(
                    "ragged",
                    f"Row {number:,} has values to the right of the {width} named columns: {shown(cells[width] or '')}. "
                    "They were left out.",
                    "Name the column in the first row and upload again if they matter.",
                    file=source.name,
                    row=number,
                )
            held.append(cells[:width] + [None] * (width - len(cells)))
            weight += sum(len(cell) for cell in cells if cell) + 8 * width
            if weight > BATCH_BYTES or len(held) >= MAX_BATCH_ROWS:
                done += len(held)
                yield _batch(held, schema)
                source.progress(done, 0)
                held, weight = [], 0
        if held:
            yield _batch(held, schema)
    except Exception as error:
        raise _refused(error, source) from error
    finally:
        stream.close()


def _batch(rows: list[list[str | None]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    return pa.RecordBatch.from_arrays([pa.array(column, pa.string()) for column in columns], schema=schema)


def _refused(error: Exception, source: Source) -> Exception:
    """What openpyxl raises on files that are no workbooks is of every kind."""
    full = isinstance(error, OSError) and error.errno == 28
    return error if isinstance(error, Refused | MemoryError) or full else _damaged(source)


def _damaged(source: Source) -> Refused:
    return Refused(
        "damaged",
        "The workbook cannot be read: it is cut off or damaged.",
        "Open it in Excel or LibreOffice, save it as .xlsx, and upload that; or save the sheet as CSV.",
        file=source.name,
    )


FORMAT = Excel()
