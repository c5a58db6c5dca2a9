"""Finds the file formats: every module here that has a `FORMAT` is one. Nothing else lists them."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from webapp.datasets.archives import EXTENSIONS as ARCHIVES
from webapp.datasets.formats.common import Format, Source
from webapp.datasets.problems import Problems, Refused

HEAD_BYTES = 64 << 10

# What people upload by mistake: first bytes, what it is, what to do instead.
FOREIGN = (
    (
        b"PK\x03\x04",
        "a ZIP archive or an Excel workbook",
        "Unpack it, or save the sheet as CSV, and upload that.",
    ),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", "Save the sheet as CSV and upload that."),
    (b"\x1f\x8b", "a gzip archive", "Unpack it (gunzip) and upload what is inside."),
    (b"BZh", "a bzip2 archive", "Unpack it (bunzip2) and upload what is inside."),
    (b"\xfd7zXZ", "an xz archive", "Unpack it (unxz) and upload what is inside."),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", "Unpack it (unzstd) and upload what is inside."),
    (b"7z\xbc\xaf", "a 7-Zip archive", "Unpack it and upload what is inside."),
    (b"Rar!", "a RAR archive", "Unpack it and upload what is inside."),
    (b"\x7fELF", "a program", "Upload a table of examples instead."),
    (b"MZ\x90", "a program", "Upload a table of examples instead."),
    (b"%PDF", "a PDF document", "Upload a table of examples instead."),
    (b"\x89PNG", "a picture", "Put pictures with their labels into a Parquet file and upload that."),
    (b"\xff\xd8\xff", "a picture", "Put pictures with their labels into a Parquet file and upload that."),
    (b"GIF8", "a picture", "Put pictures with their labels into a Parquet file and upload that."),
    (b"SQLite format 3", "a SQLite database", "Export the table as CSV and upload that."),
    (b"ARROW1", "an Arrow file", "Save it as Parquet and upload that."),
)


@cache
def all_formats() -> tuple[Format, ...]:
    """Every format, by title."""
    found: list[Format] = []
    for module in pkgutil.iter_modules(__path__):
        candidate = getattr(importlib.import_module(f"{__name__}.{module.name}"), "FORMAT", None)
        if isinstance(candidate, Format):
            found.append(candidate)
    return tuple(sorted(found, key=lambda each: each.title))


def all_extensions() -> list[str]:
    """Every extension that can be uploaded, for the file chooser of a browser."""
    return sorted({extension for each in all_formats() for extension in each.extensions} | {*ARCHIVES, ".gz"})


def recognise(source: Source, problems: Problems) -> Format:
    """The format of a file, by what is in it; raises Refused if it is none that can be used."""
    with source.path.open("rb") as opened:
        head = opened.read(HEAD_BYTES)
    if not head.strip(b"\x00 \t\r\n\xef\xbb\xbf"):
        blank = "is empty" if not head else "holds nothing but blanks"
        raise Refused(
            "empty",
            f"The file {blank}.",
            "Upload a file with at least three rows of examples.",
            file=source.name,
        )
    for magic, what, advice in FOREIGN:
        if head.startswith(magic):
            raise Refused("not_a_table", f"This is {what}, not a table.", advice, file=source.name)
    sure, best = max(
        ((each.recognises(head, source.extension), each) for each in all_formats()), key=lambda pair: pair[0]
    )
    if sure <= 0:
        titles = ", ".join(each.title for each in all_formats())
        raise Refused(
            "not_a_table",
            "The file is in no format that can be read here: it is not text, and no known binary format.",
            f"Upload one of: {titles}.",
            file=source.name,
        )
    claimed = next((each for each in all_formats() if source.extension in each.extensions), best)
    if claimed is not best:
        problems.warn(
            "extension",
            f"The name ends in {source.extension}, but what is inside is {best.title}; it was read as that.",
            file=source.name,
        )
    return best
