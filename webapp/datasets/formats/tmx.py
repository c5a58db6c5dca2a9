"""Translation memories (TMX): a column of text for each language, a translation unit a row.

The XML was written by a stranger: entities are refused, and what is between two units is bounded, so that memory
depends on the largest unit alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import IO, Any
from xml.etree.ElementTree import ParseError

import pyarrow as pa
from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from webapp.datasets.formats.common import (
    BATCH_BYTES,
    MAX_BATCH_ROWS,
    MAX_ROW_BYTES,
    Format,
    Opened,
    Source,
    check_column_count,
    unique_names,
)
from webapp.datasets.formats.text import head_as_text, looks_like_text
from webapp.datasets.problems import Problems, Refused, shown

ROOT = re.compile(r"<tmx[\s>]")
LANG = "{http://www.w3.org/XML/1998/namespace}lang"
CODES = {"bpt", "ept", "it", "ph", "ut"}  # what a translation program needs and no reader sees
DEEPEST = 50
Unit = tuple[int, dict[str, str]]  # its number, {language: text}


class Tmx(Format):
    slug = "tmx"
    title = "TMX"
    extensions = (".tmx",)

    def recognises(self, head: bytes, extension: str) -> float:
        return 1.0 if looks_like_text(head) and ROOT.search(head_as_text(head)) else 0.0

    def open(self, source: Source, problems: Problems) -> Opened:
        found: Counter[str] = Counter()
        rows = 0
        for _, unit in _units(source):
            rows += 1
            found.update(unit.keys())
            check_column_count(len(found), source)
        if not rows:
            raise Refused(
                "no_rows", "The file has no translation units.", "Export it again.", file=source.name
            )
        if len(found) < 2:
            only = f"only {shown(next(iter(found)))}" if found else "no language"
            raise Refused(
                "one_language",
                f"The units of the file have {only}; a translation needs two languages.",
                "Export the memory with source and target.",
                file=source.name,
            )
        columns = _columns(found)
        names = unique_names(list(columns.values()), source, problems)
        schema = pa.schema([(name, pa.string()) for name in names])
        return Opened(schema, _batches(source, list(columns), schema, rows), details={"format": self.slug})


def _columns(found: Counter[str]) -> dict[str, str]:
    """Language → name of its column: en and not en-US, as long as there is one English; the commonest first."""
    short = {language: language.split("-")[0].lower() for language in found}
    often = Counter(short.values())
    return {
        language: short[language] if often[short[language]] == 1 else language
        for language, _ in found.most_common()
    }


def _batches(source: Source, languages: list[str], schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
    held: list[list[str | None]] = []
    weight = 0
    for number, unit in _units(source):
        held.append([unit.get(language) for language in languages])
        weight += sum(len(text) for text in unit.values())
        if weight > BATCH_BYTES or len(held) >= MAX_BATCH_ROWS:
            yield _batch(held, schema)
            source.progress(number, rows)
            held, weight = [], 0
    if held:
        yield _batch(held, schema)


def _batch(rows: list[list[str | None]], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


class _Metered:
    """A file that refuses to be read on where too much comes without a unit ending."""

    def __init__(self, source: Source, opened: IO[bytes]) -> None:
        self._source, self._opened = source, opened
        self.number = 0  # of units that have ended
        self._since = 0

    def ended(self) -> None:
        """A unit has ended."""
        self.number, self._since = self.number + 1, 0

    def read(self, size: int = -1) -> bytes:
        data = self._opened.read(size)
        self._since += len(data)
        if self._since > MAX_ROW_BYTES:
            raise Refused(
                "huge_value",
                f"Translation unit {self.number + 1:,} is longer than {MAX_ROW_BYTES >> 20} MB, more than any example needs.",
                "Cut it, or export the memory again.",
                file=self._source.name,
                row=self.number + 1,
            )
        return data


def _units(source: Source) -> Iterator[Unit]:
    """Every unit that has a text; raises Refused where the file is no XML or not to be trusted."""
    with source.path.open("rb") as opened:
        metered = _Metered(source, opened)
        try:
            yield from _parsed(metered, source)
        except DefusedXmlException as error:
            raise Refused(
                "forbidden_xml",
                "The file defines entities of its own or asks for other files, which is not done here.",
                "Export the memory again: no translation program needs that.",
                file=source.name,
                row=metered.number + 1,
            ) from error
        except (ParseError, LookupError, ValueError) as error:
            line = getattr(error, "position", (None,))[0]
            raise Refused(
                "bad_xml",
                f"Line {line:,} is not XML: the file is cut off or damaged."
                if line
                else "The file is not XML that can be read.",
                "Export the memory again.",
                file=source.name,
                row=line,
            ) from error


def _parsed(metered: _Metered, source: Source) -> Iterator[Unit]:
    above: list[Any] = []
    for event, element in iterparse(metered, events=("start", "end")):
        if event == "start":
            above.append(element)
            if len(above) > DEEPEST:
                raise Refused(
                    "bad_xml",
                    f"Translation unit {metered.number + 1:,} is nested too deeply.",
                    "Export the memory again.",
                    file=source.name,
                    row=metered.number + 1,
                )
            continue
        above.pop()
        if _name(element) != "tu":
            continue
        unit = {}
        for part in element:
            language = part.get(LANG) or part.get("lang")
            text = next((_text(each) for each in part if _name(each) == "seg"), "")
            if _name(part) == "tuv" and language and text:
                unit[" ".join(language.split())[:50]] = text
        if above:
            above[-1].clear()  # of all units so far
        metered.ended()
        if unit:
            yield metered.number, unit


def _name(element: Any) -> str:
    return str(element.tag).rsplit("}", 1)[-1]


def _text(element: Any) -> str:
    """What a reader sees of a segment."""
    if _name(element) in CODES:
        return ""
    parts = [element.text or ""]
    for part in element:
        parts += [_text(part), part.tail or ""]
    return " ".join("".join(parts).split())


FORMAT = Tmx()
