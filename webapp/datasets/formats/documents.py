"""Plain text (.txt, .md): a line a row, or a paragraph a row where blank lines stand between them.

Of several text files in one upload, each is one document and so one row, unless their names say which split they
are. The one column is called `text`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath

import pyarrow as pa

from webapp.datasets.formats.common import (
    BATCH_BYTES,
    MAX_BATCH_ROWS,
    MAX_ROW_BYTES,
    Format,
    Opened,
    Source,
    unique_names,
)
from webapp.datasets.formats.csv import is_tabular
from webapp.datasets.formats.text import Plain, head_as_text, looks_like_text, plain_text
from webapp.datasets.problems import Problems, Refused

EXTENSIONS = (".txt", ".md", ".text", ".markdown")
LARGEST_DOCUMENT = 1 << 20  # bytes; a larger file is a collection, even beside others
LINES_A_PARAGRAPH = 50  # on average, at most: else blank lines stand there by accident


class Documents(Format):
    slug = "text"
    title = "plain text"
    extensions = EXTENSIONS

    def recognises(self, head: bytes, extension: str) -> float:
        if not looks_like_text(head):
            return 0.0
        if extension in {".md", ".markdown"}:
            return 0.95
        tabular = is_tabular(head_as_text(head))
        if extension in self.extensions:
            return 0.3 if tabular else 0.9
        return 0.1 if tabular else 0.3

    def open(self, source: Source, problems: Problems) -> Opened:
        plain = plain_text(source, problems)
        name = "text"
        skipped = 0
        if source.has_header:
            with plain.path.open(encoding="utf-8") as opened:
                name = unique_names([opened.readline(1000)], source, problems)[0]
            skipped = 1
        rows = "document" if _is_document(source, plain) else _unit(source, plain)
        texts = {"document": _whole, "paragraph": _paragraphs, "line": _lines}[rows](source, plain)
        return Opened(
            pa.schema([(name, pa.string())]),
            _batches(texts, name, source, plain, skipped),
            first_row=1 + skipped,
            details={"format": self.slug, "rows": rows, "encoding": plain.encoding},
        )


def _is_document(source: Source, plain: Plain) -> bool:
    texts = [name for name in source.together if PurePath(name).suffix.lower() in EXTENSIONS]
    return len(texts) > 1 and source.split == "" and plain.size <= LARGEST_DOCUMENT


def _unit(source: Source, plain: Plain) -> str:
    """paragraph or line: whether blank lines stand where paragraphs end."""
    lines = blocks = 0
    blank = True
    for _, line in _numbered(source, plain):
        lines += bool(line)
        blocks += bool(line) and blank
        blank = not line
    return "paragraph" if blocks > 1 and lines <= blocks * LINES_A_PARAGRAPH and lines > blocks else "line"


def _numbered(source: Source, plain: Plain) -> Iterator[tuple[int, str]]:
    """(number of a line, the line without blanks around it)"""
    with plain.path.open("rb") as opened:
        number = 0
        while line := opened.readline(MAX_ROW_BYTES + 1):
            number += 1
            if len(line) > MAX_ROW_BYTES:
                raise too_long(source, f"Line {number:,}", number)
            yield number, line.removeprefix(b"\xef\xbb\xbf").decode().strip()


def too_long(source: Source, what: str, row: int) -> Refused:
    return Refused(
        "huge_value",
        f"{what} is longer than {MAX_ROW_BYTES >> 20} MB, more than any example needs.",
        "Put line breaks between the examples.",
        file=source.name,
        row=row,
    )


def _lines(source: Source, plain: Plain) -> Iterator[str]:
    return (line for _, line in _numbered(source, plain))


def _paragraphs(source: Source, plain: Plain) -> Iterator[str]:
    held: list[str] = []
    first = size = 0
    for number, line in _numbered(source, plain):
        if not line:
            yield "\n".join(held)
            held, size = [], 0
            continue
        first = first if held else number
        held.append(line)
        size += len(line)
        if size > MAX_ROW_BYTES:
            raise too_long(source, f"The paragraph from line {first:,} on", first)
    yield "\n".join(held)


def _whole(source: Source, plain: Plain) -> Iterator[str]:
    """The file as it is: blank lines and what a line begins with mean something in a document."""
    text = plain.path.read_text(encoding="utf-8").removeprefix("\ufeff")
    yield re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).strip()


def _batches(
    texts: Iterator[str], name: str, source: Source, plain: Plain, skipped: int
) -> Iterator[pa.RecordBatch]:
    held: list[str] = []
    size = done = 0
    for text in texts:
        if skipped:
            skipped -= 1
            continue
        if not text:
            continue
        held.append(text)
        size += len(text)
        done += len(text)
        if size >= BATCH_BYTES or len(held) >= MAX_BATCH_ROWS:
            yield pa.RecordBatch.from_arrays([pa.array(held, pa.string())], names=[name])
            source.progress(min(done, plain.size), plain.size)
            held, size = [], 0
    if held:
        yield pa.RecordBatch.from_arrays([pa.array(held, pa.string())], names=[name])


FORMAT = Documents()
