"""JSON Lines: a JSON object a line, its keys the columns.

Read twice, once for the columns and their types and once for the values: a column may appear late, and
holds integers only as long as no row says otherwise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

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
    unique_names,
)
from webapp.datasets.formats.text import Plain, head_as_text, looks_like_text, plain_text
from webapp.datasets.problems import Problems, Refused, shown

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
        return "json" if self.kinds & {"json", "messages"} else "text"


class JsonLines(Format):
    slug = "jsonl"
    title = "JSON Lines"
    extensions = (".jsonl", ".ndjson", ".json")

    def recognises(self, head: bytes, extension: str) -> float:
        if not looks_like_text(head):
            return 0.0
        text = head_as_text(head).lstrip("\ufeff \t\r\n")
        if extension in self.extensions:
            return 0.9
        if not text.startswith(("{", "[{")):
            return 0.0
        try:
            json.loads(text.split("\n", 1)[0])
        except (ValueError, RecursionError):
            return 0.0
        return 0.8

    def open(self, source: Source, problems: Problems) -> Opened:
        plain = plain_text(source, problems)
        seen: dict[str, Seen] = {}
        rows = first = 0
        for number, row in _rows(source, plain):
            rows += 1
            first = first or number
            for key, value in row.items():
                if key not in seen:
                    check_column_count(len(seen) + 1, source)
                    seen[key] = Seen()
                if value is not None:
                    seen[key].add(_kind_of(value), number)
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
                    f"“{names[key]}” changes its type in line {found.mixed_at:,}; it is kept as {found.kind}.",
                    "Write the same type of value in every row if that is not what you meant.",
                    file=source.name,
                    row=found.mixed_at,
                    column=names[key],
                )
        fields = [_field(names[key], found.kind) for key, found in seen.items()]
        schema = pa.schema(fields)
        kinds = {key: found.kind for key, found in seen.items()}
        return Opened(
            schema,
            _batches(source, plain, schema, kinds, rows),
            first_row=first,
            details={"format": self.slug},
        )


def _field(name: str, kind: str) -> pa.Field:
    if kind == "json":
        return pa.field(name, pa.string(), metadata=JSON_FIELD)
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
        if number == 1 and line[:1] in b"[":
            raise _array(source) from error
        if number == 1 and line in (b"{", b"[", b"[{"):
            raise Refused(
                "bad_json",
                "The first line is not a whole JSON object: the file seems to be one JSON document over many lines.",
                "Write one object a line; `jq -c '.[]' file.json > file.jsonl` does it for a list.",
                **where,
            ) from error
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
    if isinstance(value, list) and number == 1:
        raise _array(source)
    raise Refused(
        "not_an_object",
        f"Line {number:,} holds {shown(json.dumps(value, ensure_ascii=False))}, not an object with named values.",
        'Write each row as {"column": value, …}.',
        **where,
    )


def _array(source: Source) -> Refused:
    return Refused(
        "json_array",
        "The file is one JSON list, not an object a line.",
        "Write one object a line; `jq -c '.[]' file.json > file.jsonl` does it.",
        file=source.name,
        row=1,
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
    if isinstance(value, list) and value and all(_is_message(item) for item in value):
        return "messages"
    return "json"


def _is_message(item: Any) -> bool:
    return (
        isinstance(item, dict) and isinstance(item.get("role"), str) and isinstance(item.get("content"), str)
    )


def _batches(
    source: Source, plain: Plain, schema: pa.Schema, kinds: dict[str, str], rows: int
) -> Iterator[pa.RecordBatch]:
    columns: dict[str, list[Any]] = {key: [] for key in kinds}
    held = done = 0
    limit = max(1, min(MAX_BATCH_ROWS, int(BATCH_BYTES / max(1, plain.size / rows))))
    for _, row in _rows(source, plain):
        for key, kind in kinds.items():
            columns[key].append(_value(row.get(key), kind))
        held, done = held + 1, done + 1
        if held >= limit:
            yield _batch(columns, schema)
            columns, held = {key: [] for key in kinds}, 0
            source.progress(done, rows)
    if held:
        yield _batch(columns, schema)
    source.progress(rows, rows)


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
    if kind == "messages":
        return [{"role": _value(m["role"], "text"), "content": _value(m["content"], "text")} for m in value]
    return value


FORMAT = JsonLines()
