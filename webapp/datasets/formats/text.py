"""Text files made plain: UTF-8 without a byte-order mark, lines ending in a line feed, no NUL.

One pass over the bytes; only a file that is not plain yet is written anew, into the scratch folder.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from webapp.datasets.formats.common import MAX_ROW_BYTES, Source
from webapp.datasets.problems import Problems, Refused

CHUNK = 1 << 20
UNUSED_IN_CP1252 = frozenset(b"\x81\x8d\x8f\x90\x9d")
CONTROL = bytes(range(0x01, 0x09)) + bytes(range(0x0E, 0x1B))


@dataclass(frozen=True)
class Plain:
    path: Path
    lines: int  # line feeds, and one for a last line without
    size: int
    encoding: str


def looks_like_text(head: bytes) -> bool:
    """Whether the first bytes can be text: in UTF-16, or with next to no control characters."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or _utf16_without_bom(head):
        return True
    controls = sum(head.count(byte) for byte in CONTROL) + head.count(0)
    return controls <= max(2, len(head) // 500)


def head_as_text(head: bytes) -> str:
    """The first bytes decoded as well as they can be, for recognising a format."""
    encoding = _encoding_by_mark(head) or ("utf-16" if _utf16_without_bom(head) else "utf-8-sig")
    return head.decode(encoding, errors="replace")


def plain_text(source: Source, problems: Problems, *, long_lines: bool = False) -> Plain:
    """The file as UTF-8; raises Refused with the line where it cannot be.

    `long_lines`: a line may be longer than a row, as one is that holds a whole document.
    """
    encoding = _encoding(source)
    size = source.path.stat().st_size
    if encoding == "cp1252":
        problems.warn(
            "encoding",
            "The file is not UTF-8; it was read as Windows-1252. Look at accented letters in the first rows.",
            "If they are wrong, save the file as UTF-8 and upload it again.",
            file=source.name,
        )
    needs_copy = encoding != "utf-8"
    lines, last, carriage_returns = 0, "\n", False
    width = 0  # bytes of the line that the text before this one ended in
    for text in _decoded(source, encoding):
        begin = min((place for place in (text.find("\n"), text.find("\r")) if place >= 0), default=len(text))
        width += len(text[:begin].encode(errors="replace"))
        if width > MAX_ROW_BYTES and not long_lines:
            raise _too_long(source, lines + 1)
        if begin < len(text):
            width = len(text[max(text.rfind("\n"), text.rfind("\r")) + 1 :].encode(errors="replace"))
        if "\0" in text:
            line = lines + text[: text.index("\0")].count("\n") + 1
            raise Refused(
                "nul",
                f"Line {line:,} holds a NUL character, which no text has; the file is damaged or binary.",
                "Save it again as a UTF-8 text file and upload that.",
                file=source.name,
                row=line,
            )
        carriage_returns = carriage_returns or "\r" in text
        lines, last = lines + text.count("\n"), text[-1:] or last
    if not needs_copy and not carriage_returns:
        return Plain(source.path, lines + (last != "\n"), size, encoding)
    only_returns = lines == 0
    path = source.scratch / f"plain-{source.path.name}"
    lines = 0
    with path.open("w", encoding="utf-8", newline="") as copy:
        held = ""
        for text in _decoded(source, encoding):
            text = held + text
            held = "\r" if text.endswith("\r") and not only_returns else ""
            text = text[: len(text) - len(held)].replace("\r\n", "\n")
            text = text.replace("\r", "\n") if only_returns else text
            lines, last = lines + text.count("\n"), text[-1:] or last
            copy.write(text)
        copy.write("\n" if held else "")
    return Plain(path, lines + (last != "\n"), path.stat().st_size, encoding)


def _too_long(source: Source, line: int) -> Refused:
    return Refused(
        "huge_value",
        f"Line {line:,} is longer than {MAX_ROW_BYTES >> 20} MB, more than any example needs.",
        "Look for a quote that is never closed before it, or cut the value.",
        file=source.name,
        row=line,
    )


def _encoding_by_mark(head: bytes) -> str:
    if head.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    return "utf-16" if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else ""


def _utf16_without_bom(head: bytes) -> str:
    even, odd = head[0:4000:2], head[1:4000:2]
    if len(odd) < 4:
        return ""
    if odd.count(0) > 0.7 * len(odd) and even.count(0) < 0.1 * len(even):
        return "utf-16-le"
    return "utf-16-be" if even.count(0) > 0.7 * len(even) and odd.count(0) < 0.1 * len(odd) else ""


def _encoding(source: Source) -> str:
    """utf-8, utf-8-sig, utf-16…, or cp1252 where only that explains the bytes."""
    with source.path.open("rb") as opened:
        head = opened.read(4096)
    if marked := _encoding_by_mark(head) or _utf16_without_bom(head):
        return marked
    decoder = codecs.getincrementaldecoder("utf-8")()
    multibyte = False
    done = 0
    with source.path.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            done += len(chunk)
            source.progress(done, source.path.stat().st_size)
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                multibyte = multibyte or any(byte >= 0xC0 for byte in chunk[: max(0, error.start - 1)])
                return _not_utf8(source, multibyte)
            multibyte = multibyte or not chunk.isascii()
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return _not_utf8(source, multibyte)
    return "utf-8"


def _not_utf8(source: Source, multibyte: bool) -> str:
    """cp1252, unless the file began as proper UTF-8 or has bytes that Windows-1252 does not know."""
    with source.path.open("rb") as opened:
        possible = not multibyte and not any(
            UNUSED_IN_CP1252 & set(chunk) for chunk in iter(lambda: opened.read(CHUNK), b"")
        )
    if possible:
        return "cp1252"
    found = 1
    with source.path.open("rb") as opened:
        for line, raw in enumerate(_bounded_lines(opened), start=1):
            try:
                raw.decode("utf-8")
            except UnicodeDecodeError:
                found = line
                break
    raise Refused(
        "encoding",
        f"Line {found:,} holds bytes that are not UTF-8 text.",
        "Save the file as UTF-8 (in Excel: “CSV UTF-8”) and upload it again.",
        file=source.name,
        row=found,
    )


def _bounded_lines(opened: object) -> Iterator[bytes]:
    read = opened.readline  # type: ignore[attr-defined]
    while line := read(64 << 20):
        yield line


def _decoded(source: Source, encoding: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with source.path.open("rb") as opened:
            while chunk := opened.read(CHUNK):
                yield decoder.decode(chunk)
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise Refused(
            "encoding",
            f"The file begins as {encoding.upper()} but does not go on so; it is damaged or cut off.",
            "Save it again as UTF-8 and upload that.",
            file=source.name,
        ) from error
