"""The first rows of a dataset as a page shows them: long text cut, pictures as files of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from webapp.datasets import masks, pictures, recordings, showing
from webapp.datasets.columns import Column
from webapp.datasets.findings.personal import masked

ROWS = 20
LONGEST = 400  # characters of a value
LARGEST_PICTURE = 5 << 20  # bytes; a page does not show larger ones
MOST_MESSAGES = 6
MOST_PIXELS = 1 << 40  # they were counted when they were read

# What a browser may be given, by first bytes; nothing that can hold a script.
PICTURES = (
    (b"\x89PNG", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
)


def content_type(data: bytes) -> str:
    """Of a picture that pages show; empty for anything else."""
    return next((kind for magic, kind in PICTURES if data.startswith(magic)), "")


class Preview:
    """Collects the first rows to train on, and writes their pictures below `previews`."""

    def __init__(self, output: Path, columns: list[Column]) -> None:
        self._columns = columns
        self._folder = output / "previews"
        self._rows: list[dict[str, Any]] = []

    def add(self, split: str, batch: pa.RecordBatch) -> None:
        if split != "train" or len(self._rows) >= ROWS:
            return
        for row in batch.slice(0, ROWS - len(self._rows)).to_pylist():
            shown = {c.name: self._value(row, c, index) for index, c in enumerate(self._columns)}
            self._rows.append(shown)

    def close(self) -> list[dict[str, Any]]:
        return self._rows

    def _value(self, row: dict[str, Any], column: Column, index: int) -> Any:
        value = row[column.name]
        if value is None:
            return None
        match column.kind:
            case "label":
                return column.names[value]
            case "text" | "json":
                return cut(masked(value))
            case "messages":
                return [
                    {"role": m["role"], "content": cut(masked(m["content"] or ""))}
                    for m in value[:MOST_MESSAGES]
                ]
            case "image":
                return self._picture(value["bytes"], index)
            case "audio":
                found = recordings.look_into(value["bytes"], whole=False)
                return {"seconds": round(found.seconds, 2), "size": len(value["bytes"])}
            case "objects":
                return showing.boxes(value, column.names) | self._below(row)
            case "answers":
                return self._answers(row, value)
            case "mask":
                return self._mask(row, value["bytes"], column, index)
            case "tokens":
                return cut(" ".join(token or "" for token in value))
            case "tags":
                return showing.entities(value, self._tokens(row), column.names)
            case _:
                return value

    def _picture(self, data: bytes, column: int) -> dict[str, Any]:
        """{"picture": file name, empty if it is not shown}"""
        if len(data) > LARGEST_PICTURE or not content_type(data):
            return {"picture": "", "size": len(data)}
        self._folder.mkdir(exist_ok=True)
        name = f"{len(self._rows)}-{column}"
        (self._folder / name).write_bytes(data)
        return {"picture": name, "size": len(data)}

    def _mask(self, row: dict[str, Any], data: bytes, column: Column, index: int) -> dict[str, Any]:
        """What is laid over the row's picture, that picture as `below`, and what the hues mean."""
        below = self._below(row)
        width, height = masks.size_of(data) or (0, 0)
        shown = self._picture(masks.laid_over(data, column.names), index)
        legend = masks.legend(data, column.names)
        return {**shown, "below": below["picture"], "width": width, "height": height, **legend}

    def _answers(self, row: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
        context = showing.context_column([{"name": c.name, "kind": c.kind} for c in self._columns])
        told = showing.answers(value, row.get(context))
        for each in told["answers"]:
            each |= {part: masked(each[part]) for part in ("before", "text", "after")}
        return told

    def _below(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row's first picture, which boxes lie on: {"picture", "width", "height"}."""
        for index, column in enumerate(self._columns):
            if column.kind == "image" and row[column.name] is not None:
                data = row[column.name]["bytes"]
                width, height = pictures.size_of(data, MOST_PIXELS)
                return {**self._picture(data, index), "width": width, "height": height}
        return {"picture": "", "width": 0, "height": 0}

    def _tokens(self, row: dict[str, Any]) -> list[str] | None:
        return next((row[column.name] for column in self._columns if column.kind == "tokens"), None)


def cut(text: str) -> str:
    return showing.cut(text, LONGEST)
