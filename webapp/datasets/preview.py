"""The first rows of a dataset as a page shows them: long text cut, pictures as files of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from webapp.datasets.columns import Column
from webapp.datasets.findings.personal import masked

ROWS = 20
LONGEST = 400  # characters of a value
LARGEST_PICTURE = 5 << 20  # bytes; a page does not show larger ones
MOST_MESSAGES = 6

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
            shown = {c.name: self._value(row[c.name], c, index) for index, c in enumerate(self._columns)}
            self._rows.append(shown)

    def close(self) -> list[dict[str, Any]]:
        return self._rows

    def _value(self, value: Any, column: Column, index: int) -> Any:
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


def cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
