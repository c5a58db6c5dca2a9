"""One JSON document: a list of objects, or an object with such a list in it ({"data": [...]}), read in pieces.

A decoder of the standard library decodes one entry at a time out of a buffer that grows until the entry is whole, so
memory depends on the largest entry and not on the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import IO, Any

from webapp.datasets.formats.common import MAX_ROW_BYTES, Source
from webapp.datasets.formats.text import Plain
from webapp.datasets.problems import Problems, Refused, shown

CHUNK = 1 << 16
BLANK = re.compile(r"[ \t\r\n]*")
# An object with a list of objects in it, behind a few values such as SQuAD's version.
NAMED_LIST = re.compile(
    rb'\{\s*("[^"\\]{0,200}"\s*:\s*("[^"\\]{0,200}"|[-+.\w]{1,50})\s*,\s*){0,20}"[^"\\]{0,200}"\s*:\s*\[\s*\{'
)
UNFINISHED = 32  # characters before the end of the buffer: an error there may be the end of what was read


def is_document(plain: Plain) -> bool:
    """Whether the file is one document, and not an object a line."""
    with plain.path.open("rb") as opened:
        line = b""
        while not line:
            raw = opened.readline(MAX_ROW_BYTES + 1)
            if not raw:
                return False
            line = raw.removeprefix(b"\xef\xbb\xbf").strip()
        if line[:1] == b"[":
            return True
        if len(line) > MAX_ROW_BYTES:
            return NAMED_LIST.match(line) is not None
        try:
            value = json.loads(line)
        except RecursionError:
            return False
        except json.JSONDecodeError as error:
            cut = error.pos >= len(error.doc) - 1 or error.msg.startswith("Unterminated")
            return line[:1] == b"{" and cut
        except ValueError:
            return False
        lists = isinstance(value, dict) and any(
            isinstance(each, list) and each and isinstance(each[0], dict) for each in value.values()
        )
        return lists and not any(rest.strip() for rest in iter(lambda: opened.read(CHUNK), b""))


def entries(
    source: Source, plain: Plain, problems: Problems | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number of the entry, counted from 1; object) of the list. `problems`, once: what else the document holds."""
    with plain.path.open(encoding="utf-8-sig") as opened:
        reader = _Reader(source, opened)
        if reader.peek() == "[":
            yield from _objects(source, reader)
        else:
            yield from _in_object(source, reader, problems)
        if reader.peek():
            raise reader.bad("something stands behind its end")


def _objects(source: Source, reader: _Reader) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, value in reader.items():
        if not isinstance(value, dict):
            raise Refused(
                "not_an_object",
                f"Entry {number:,} of the list is {shown(json.dumps(value, ensure_ascii=False))}, "
                "not an object with named values.",
                'Write each row as {"column": value, …}.',
                file=source.name,
                row=number,
            )
        yield number, value


def _in_object(
    source: Source, reader: _Reader, problems: Problems | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    taken, others = "", []
    for key in reader.members():
        if reader.peek() != "[":
            reader.value()
        elif reader.begins_with_object():
            if taken:
                others.append(key)
                for _ in reader.items():
                    pass
            else:
                taken = key or "“”"
                yield from _objects(source, reader)
        else:
            for _ in reader.items():
                pass
    if not taken:
        raise Refused(
            "no_list",
            "The file is one JSON object, and in it is no list of objects.",
            'Write a list of rows, [{"text": "…"}, …], or one object a line; in pandas: '
            'to_json(path, orient="records", lines=True).',
            file=source.name,
        )
    if others and problems is not None:
        problems.warn(
            "other_lists",
            f"Only the list {shown(taken)} was read; the file also has {', '.join(shown(key) for key in others[:5])}.",
            "Upload other lists as files of their own (such as train.json and test.json) if they matter.",
            file=source.name,
            count=len(others),
        )


class _Reader:
    """A cursor in a document of which a piece is in memory."""

    def __init__(self, source: Source, opened: IO[str]) -> None:
        self._source, self._opened = source, opened
        self._decoder = json.JSONDecoder()
        self._text, self._at, self._ended = "", 0, False
        self._line = 1  # of the beginning of the buffer
        self._entry = 0

    def peek(self) -> str:
        """The next character that is no blank; empty at the end."""
        while True:
            found = BLANK.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more(CHUNK):
                return ""

    def members(self) -> Iterator[str]:
        """Keys of the object that begins here; whoever iterates reads each value."""
        self._take("{")
        if self.peek() == "}":
            self._take("}")
            return
        while True:
            if self.peek() != '"':
                raise self.bad("a key in quotes is missing")
            key = self.value()
            self._take(":")
            yield str(key)
            if self.peek() != ",":
                self._take("}")
                return
            self._take(",")

    def items(self) -> Iterator[tuple[int, Any]]:
        """The values of the list that begins here."""
        self._take("[")
        number = 0
        if self.peek() == "]":
            self._take("]")
            return
        while True:
            number += 1
            self._entry = number
            yield number, self.value()
            if self.peek() != ",":
                self._take("]")
                self._entry = 0
                return
            self._take(",")

    def begins_with_object(self) -> bool:
        """Whether the list that begins here holds objects, by its first value."""
        while True:
            found = BLANK.match(self._text, self._at + 1)
            at = found.end() if found else self._at + 1
            if at < len(self._text):
                return self._text[at] == "{"
            if not self._more(CHUNK):
                return False

    def value(self) -> Any:
        """The whole value that begins here."""
        if not self.peek():
            raise self.bad("the file ends in the middle: it is cut off")
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError as error:
                raise self.bad("it is nested too deeply") from error
            except json.JSONDecodeError as error:
                unfinished = error.msg.startswith("Unterminated") or error.pos >= len(self._text) - UNFINISHED
                if unfinished and len(self._text) - self._at > MAX_ROW_BYTES:
                    raise self._huge() from error
                # Twice as much each time, so that a long value is not decoded over and over.
                if not (unfinished and self._more(max(CHUNK, len(self._text) - self._at))):
                    why = "the file ends in the middle: it is cut off" if unfinished else error.msg
                    raise self.bad(why, error.pos) from error
                continue
            except ValueError as error:
                raise self.bad("a number is too long") from error
            if end == len(self._text) and self._more(CHUNK):
                continue  # a number may go on
            if end - self._at > MAX_ROW_BYTES:
                raise self._huge()
            self._at = end
            if self._at > 1 << 20:
                self._line += self._text.count("\n", 0, self._at)
                self._text, self._at = self._text[self._at :], 0
            return value

    def bad(self, why: str, at: int | None = None) -> Refused:
        """What is said of a document that is no JSON."""
        at = self._at if at is None else at
        line = self._line + self._text.count("\n", 0, at)
        entry = f", in entry {self._entry:,} of the list" if self._entry else ""
        near = f" It reads {shown(self._text[at : at + 80])}." if self._text[at : at + 80].strip() else ""
        return Refused(
            "bad_json",
            f"Line {line:,}{entry}: this is not JSON: {why[:1].lower() + why[1:]}.{near}",
            "Write the file with a program that knows JSON, and upload it again.",
            file=self._source.name,
            row=line,
        )

    def _huge(self) -> Refused:
        line = self._line + self._text.count("\n", 0, self._at)
        return Refused(
            "huge_value",
            f"Entry {self._entry:,} of the list is longer than {MAX_ROW_BYTES >> 20} MB, more than any example needs.",
            "Look for a quote or bracket that is never closed, or cut the value.",
            file=self._source.name,
            row=line,
        )

    def _take(self, mark: str) -> None:
        found = self.peek()
        if found != mark:
            raise self.bad(f"“{mark}” is missing" if found else "the file ends in the middle: it is cut off")
        self._at += 1

    def _more(self, size: int) -> bool:
        piece = "" if self._ended else self._opened.read(size)
        self._ended = not piece
        self._text += piece
        return bool(piece)
