"""JSON: an object a line, or a list of objects; their keys are the columns.

Read twice, once for the columns and their types and once for the values: a column may appear late, and
holds integers only as long as no row says otherwise.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from webapp.datasets.formats.chat import BadTurn, as_messages, nearly_messages, shape_of
from webapp.datasets.formats.common import (
    ARROW_TYPES,
    BATCH_BYTES,
    JSON_FIELD,
    MAX_BATCH_ROWS,
    MAX_ROW_BYTES,
    Format,
    Opened,
    Source,
    check_column_count,
    field_of,
    settled_text,
    unique_names,
)
from webapp.datasets.formats.json_document import entries, is_document
from webapp.datasets.formats.squad import TEXTS, as_answers, squad_shape
from webapp.datasets.formats.tagged import TaggedWords
from webapp.datasets.formats.text import Plain, head_as_text, looks_like_text, plain_text
from webapp.datasets.problems import Problems, Refused, shown

OPENS = re.compile(r'(\[\s*)?\{\s*("|$)')  # how a file of objects begins
INT64 = range(-(2**63), 2**63)


@dataclass
class Seen:
    """What a column's values have been so far."""

    kinds: set[str] = field(default_factory=set)
    mixed_at: int | None = None  # the first row whose type did not fit the rows before

    def add(self, kind: str, row: int) -> None:
        if kind not in self.kinds:
            if self.kinds and not {*self.kinds, kind} <= {"integer", "float"} and self.mixed_at is None:
                self.mixed_at = row
            self.kinds.add(kind)

    @property
    def kind(self) -> str:
        if len(self.kinds) <= 1:
            return next(iter(self.kinds), "empty")
        if self.kinds <= {"integer", "float"}:
            return "float"
        return "json" if self.kinds & {"json", "messages", "answers"} else "text"


class JsonLines(Format):
    slug = "jsonl"
    title = "JSON or JSON Lines"
    extensions = (".jsonl", ".ndjson", ".json")

    def recognises(self, head: bytes, extension: str) -> float:
        if not looks_like_text(head):
            return 0.0
        text = head_as_text(head).lstrip("\ufeff \t\r\n")
        if extension in self.extensions:
            return 0.9
        if OPENS.match(text):
            return 0.8
        return 0.0

    def open(self, source: Source, problems: Problems) -> Opened:
        file = _File(source, plain_text(source, problems, long_lines=True))
        seen: dict[str, Seen] = {}
        rows = first = 0
        tagged = TaggedWords()
        for number, row in file.rows(problems):
            rows += 1
            tagged.look(row)
            first = first or number
            for key, value in row.items():
                if key not in seen:
                    check_column_count(len(seen) + 1, source)
                    seen[key] = Seen()
                if value is not None and value != []:
                    _see(seen[key], key, value, number, file)
        if not rows:
            raise Refused(
                "no_rows", "The file has no rows.", "Write one JSON object a line.", file=source.name
            )
        if not seen:
            raise Refused(
                "no_columns",
                "The objects in the file are empty: no row has a key.",
                'Write what belongs to an example into it: {"text": "…", "label": "…"}.',
                file=source.name,
                row=first,
            )
        names = dict(zip(seen, unique_names(list(seen), source, problems), strict=True))
        for key, found in seen.items():
            if found.mixed_at is not None:
                problems.warn(
                    "mixed_types",
                    f"“{names[key]}” changes its type in {file.unit} {found.mixed_at:,}; it is kept as {found.kind}.",
                    "Write the same type of value in every row if that is not what you meant.",
                    file=source.name,
                    row=found.mixed_at,
                    column=names[key],
                )
        kinds = {key: found.kind for key, found in seen.items()} | tagged.kinds()
        has_answers = "answers" in kinds.values()
        fields = [
            settled_text(names[key])
            if has_answers and kind == "text" and key.lower() in TEXTS
            else _field(names[key], kind)
            for key, kind in kinds.items()
        ]
        schema = pa.schema(fields)
        return Opened(
            schema,
            _batches(file, schema, kinds, rows),
            first_row=first,
            details={"format": self.slug, "shape": file.shape.name if file.shape else ""},
        )


class _File:
    """The rows of a file, however they are written: an object a line or one list, and in which shape."""

    def __init__(self, source: Source, plain: Plain) -> None:
        self.source, self.plain = source, plain
        self.is_list = is_document(plain)
        self.unit = "entry" if self.is_list else "line"
        first = next((row for _, row in self._written(None)), {})
        self.shape = squad_shape(first)
        if self.shape is None and source.conversations:  # else someone wants the columns as they are
            self.shape = shape_of(first)
        if self.shape and self.shape.consumes & source.asked:
            self.shape = None

    def rows(self, problems: Problems | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
        """(number of line or entry, row)"""
        for number, row in self._written(problems):
            if self.shape is None:
                yield number, row
                continue
            try:
                for shaped in self.shape.rows(row):
                    yield number, shaped
            except BadTurn as bad:
                raise self.bad_turn(number, bad.column, str(bad)) from bad

    def bad_turn(self, number: int, column: str, why: str) -> Refused:
        """What is said of a row that is nearly a conversation."""
        return Refused(
            "bad_conversation",
            f"“{column}” in {self.unit} {number:,}: {why}.",
            "Write it as the rows before it, or take the row out.",
            file=self.source.name,
            row=number,
            column=column,
        )

    def _written(self, problems: Problems | None) -> Iterator[tuple[int, dict[str, Any]]]:
        if self.is_list:
            return entries(self.source, self.plain, problems)
        return _rows(self.source, self.plain)


def _see(seen: Seen, key: str, value: Any, number: int, file: _File) -> None:
    kind = _kind_of(value)
    if kind == "json" and "messages" in seen.kinds and (why := nearly_messages(value)):
        raise file.bad_turn(number, key, why)
    seen.add(kind, number)


def _field(name: str, kind: str) -> pa.Field:
    if kind == "json":
        return pa.field(name, pa.string(), metadata=JSON_FIELD)
    if kind == "tags":
        return field_of(name, kind)
    return pa.field(name, pa.null() if kind == "empty" else ARROW_TYPES[kind])


def _rows(source: Source, plain: Plain) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object); blank lines are passed over."""
    with plain.path.open("rb") as opened:
        number = 0
        while line := opened.readline(MAX_ROW_BYTES + 1):
            number += 1
            if len(line) > MAX_ROW_BYTES:
                raise Refused(
                    "huge_value",
                    f"Line {number:,} is longer than {MAX_ROW_BYTES >> 20} MB, more than any example needs.",
                    "Write one object a line, and not the whole file in one line.",
                    file=source.name,
                    row=number,
                )
            stripped = line.removeprefix(b"\xef\xbb\xbf").strip()
            if not stripped:
                continue
            yield number, _parsed(source, number, stripped)


def _parsed(source: Source, number: int, line: bytes) -> dict[str, Any]:
    where = {"file": source.name, "row": number}
    try:
        value = json.loads(line)
    except RecursionError as error:
        raise Refused(
            "bad_json",
            f"Line {number:,} is nested too deeply.",
            "Keep what an example needs: texts, numbers and lists of them.",
            **where,
        ) from error
    except ValueError as error:
        message = error.msg if isinstance(error, json.JSONDecodeError) else "a number is too long"
        place = f" at character {error.pos + 1:,}" if isinstance(error, json.JSONDecodeError) else ""
        raise Refused(
            "bad_json",
            f"Line {number:,} is not JSON{place}: {message}. It reads {shown(line.decode(errors='replace'))}.",
            "Write one complete JSON object a line.",
            **where,
        ) from error
    if isinstance(value, dict):
        return value
    raise Refused(
        "not_an_object",
        f"Line {number:,} holds {shown(json.dumps(value, ensure_ascii=False))}, not an object with named values.",
        'Write each row as {"column": value, …}.',
        **where,
    )


def _kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if value in INT64 else "text"
    if isinstance(value, float):
        return "float"
    if isinstance(value, str):
        return "text"
    if as_messages(value):
        return "messages"
    return "answers" if as_answers(value) else "json"


def _batches(file: _File, schema: pa.Schema, kinds: dict[str, str], rows: int) -> Iterator[pa.RecordBatch]:
    columns: dict[str, list[Any]] = {key: [] for key in kinds}
    held = done = 0
    limit = max(1, min(MAX_BATCH_ROWS, int(BATCH_BYTES / max(1, file.plain.size / rows))))
    for _, row in file.rows():
        for key, kind in kinds.items():
            columns[key].append(_value(row.get(key), kind))
        held, done = held + 1, done + 1
        if held >= limit:
            yield _batch(columns, schema)
            columns, held = {key: [] for key in kinds}, 0
            file.source.progress(done, rows)
    if held:
        yield _batch(columns, schema)
    file.source.progress(rows, rows)


def _batch(columns: dict[str, list[Any]], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [pa.array(values, field.type) for values, field in zip(columns.values(), schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _value(value: Any, kind: str) -> Any:
    if value is None or kind == "empty":
        return None
    if kind == "text":
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        text = text.replace("\0", "")  # no database keeps it
        return text.encode("utf-8", "replace").decode() if not text.isascii() else text
    if kind == "json":
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace").decode()
    if kind == "float":
        return float(value) if math.isfinite(value) else None
    if kind in {"tokens", "tags"}:
        return [_value(text, "text") for text in value]
    if kind == "answers":
        answers = as_answers(value)
        return answers and {**answers, "text": [_value(text, "text") for text in answers["text"]]}
    if kind == "messages":
        messages = as_messages(value)
        return messages and [{key: _value(said, "text") for key, said in each.items()} for each in messages]
    return value


FORMAT = JsonLines()
