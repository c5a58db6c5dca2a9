"""One row of a version, out of its canonical Parquet: what a link to a bad row leads to."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from webapp import storage
from webapp.datasets import masks, pictures, showing
from webapp.datasets.models import DatasetVersion
from webapp.datasets.preview import MOST_MESSAGES, MOST_PIXELS, content_type

LONGEST = 4_000  # characters of a value
LARGEST_PICTURE = 1 << 20  # bytes; it stands in the page itself
LARGEST_RECORDING = 20 << 20  # bytes; a page does not play larger ones
MOST_TO_READ = 256 << 20  # bytes of a row group whose pictures and recordings are read, too
HEAVY = {"image", "mask", "audio"}
AT_ONCE = 64


@dataclass(frozen=True)
class Value:
    """A column of the row. `kind` says how it is shown; `pointed_at`: the link names this column."""

    column: str
    kind: str
    value: Any
    pointed_at: bool


@dataclass(frozen=True)
class Row:
    """A row of a split, counted from 1; `values` is None if it cannot be read."""

    split: str
    number: int
    rows: int
    values: list[Value] | None

    @property
    def before(self) -> int:
        return self.number - 1

    @property
    def after(self) -> int:
        return self.number + 1 if self.number < self.rows else 0


def asked_row(version: DatasetVersion | None, asked: Mapping[str, Any]) -> Row | None:
    """The row that an address names by `split`, `row` and perhaps `column`; None if it names none there is."""
    split, number = str(asked.get("split", "")), str(asked.get("row", ""))
    if version is None or split not in version.splits or not (number.isdecimal() and len(number) < 16):
        return None
    rows = version.splits[split]
    if not 1 <= int(number) <= rows:
        return None
    found = _read(version, split, int(number) - 1)
    column = str(asked.get("column", ""))
    values = None
    if found is not None:
        values = [_value(spec, found, spec["name"] == column, version.columns) for spec in version.columns]
    return Row(split, int(number), rows, values)


def read_value(version: DatasetVersion, split: str, row: int, column: int, kind: str) -> bytes | None:
    """The bytes of a picture or a recording: `row` from 1, `column` from 0; None if none of this kind is there."""
    if split not in version.splits or not 1 <= row <= version.splits[split]:
        return None
    if column >= len(version.columns) or version.columns[column]["kind"] != kind:
        return None
    found = _read(version, split, row - 1, [version.columns[column]])
    value = (found or {}).get(version.columns[column]["name"])
    return value["bytes"] if value else None


def _read(
    version: DatasetVersion, split: str, row: int, columns: list[dict[str, Any]] | None = None
) -> dict[str, Any] | None:
    """{column: value}, without pictures where reading them would take too long; None if it is not there."""
    shards = [
        key
        for key in storage.keys_under(version.storage_prefix)
        if key.rsplit("/", 1)[-1].startswith(f"{split}-") and key.endswith(".parquet")
    ]
    try:
        for key in sorted(shards):
            with storage.open_file(key) as source:
                file = pq.ParquetFile(source)
                if row < file.metadata.num_rows:
                    return _row_of(file, columns or version.columns, row)
                row -= file.metadata.num_rows
    except (OSError, ValueError):  # gone meanwhile, or damaged: pyarrow's errors are of these
        return None
    return None


def _row_of(file: pq.ParquetFile, columns: list[dict[str, Any]], row: int) -> dict[str, Any] | None:
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        if row >= group.num_rows:
            row -= group.num_rows
            continue
        names = [
            spec["name"]
            for spec in columns
            if spec["kind"] not in HEAVY or group.total_byte_size <= MOST_TO_READ
        ]
        for batch in file.iter_batches(AT_ONCE, row_groups=[number], columns=names):
            if row < batch.num_rows:
                found: dict[str, Any] = batch.slice(row, 1).to_pylist()[0]
                return found
            row -= batch.num_rows
    return None


def _value(
    spec: dict[str, Any], row: dict[str, Any], pointed_at: bool, columns: list[dict[str, Any]]
) -> Value:
    name, kind, value = spec["name"], spec["kind"], row.get(spec["name"])
    names = spec.get("names") or []
    if value is None:
        return Value(name, "empty", None, pointed_at)
    match kind:
        case "label":
            value = names[value] if 0 <= value < len(names) else value
        case "text" | "json":
            value = _cut(value)
        case "messages":
            value = [{**said, "content": _cut(said["content"] or "")} for said in value[:MOST_MESSAGES]]
        case "image":
            value = _picture(value["bytes"] or b"")
        case "audio":
            size = len(value["bytes"] or b"")
            value = {"column": columns.index(spec), "size": size, "plays": size <= LARGEST_RECORDING}
        case "objects":
            value = showing.boxes(value, names) | _below(row, columns)
        case "answers":
            value = showing.answers(value, row.get(showing.context_column(columns)))
        case "mask":
            value = _mask(value["bytes"] or b"", names) | {"below": _below(row, columns)["source"]}
        case "tokens":
            value = _cut(" ".join(token or "" for token in value))
        case "tags":
            value = showing.entities(value, _first(row, columns, "tokens"), names)
    return Value(name, kind, value, pointed_at)


def _first(row: dict[str, Any], columns: list[dict[str, Any]], kind: str) -> Any:
    return next((row.get(spec["name"]) for spec in columns if spec["kind"] == kind), None)


def _below(row: dict[str, Any], columns: list[dict[str, Any]]) -> dict[str, Any]:
    """The picture that boxes lie on: {"source", "width", "height"}."""
    data = (_first(row, columns, "image") or {}).get("bytes") or b""
    source = _picture(data)["source"]
    try:
        width, height = pictures.size_of(data, MOST_PIXELS) if source else (0, 0)
    except pictures.Unreadable:  # Pillow's own limit here is not that of the process that converts
        source, width, height = "", 0, 0
    return {"source": source, "width": width, "height": height}


def _mask(data: bytes, names: list[str]) -> dict[str, Any]:
    """{"source": what is laid over the picture, "width", "height", "classes", "hidden"}"""
    width, height = masks.size_of(data) or (0, 0)
    return {
        **_picture(masks.laid_over(data, names)),
        "width": width,
        "height": height,
        **masks.legend(data, names),
    }


def _picture(data: bytes) -> dict[str, Any]:
    """{"source": what a page shows, empty if it cannot, "size": bytes}"""
    kind = content_type(data)
    if not kind or len(data) > LARGEST_PICTURE:
        return {"source": "", "size": len(data)}
    return {"source": f"data:{kind};base64,{base64.b64encode(data).decode()}", "size": len(data)}


def _cut(text: str) -> str:
    return showing.cut(text, LONGEST)
