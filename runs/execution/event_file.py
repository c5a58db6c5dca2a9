"""Reading `events.jsonl` while a trainer still appends to it."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)
BATCH_BYTES = 1 << 20


@dataclass(frozen=True)
class Line:
    """One event and where in the file its line ends, in bytes."""

    end: int
    event: dict[str, Any]


class EventFile:
    """Follows the file by whole lines. Each event is handed out once by one object."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def read(self) -> list[Line]:
        """The next whole lines, about a megabyte at most; none if there are none yet.

        A last line without its end is one that is still being written, or was when the trainer was
        killed: it is left alone.
        """
        try:
            with self._path.open("rb") as source:
                source.seek(self._position)
                data = source.read(BATCH_BYTES)
                if len(data) == BATCH_BYTES and b"\n" not in data:
                    data += source.readline()
        except FileNotFoundError:
            return []
        lines = []
        for raw in data.split(b"\n")[:-1]:
            self._position += len(raw) + 1
            if event := _parse(raw):
                lines.append(Line(self._position, event))
        return lines


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        event = json.loads(raw)
        if not isinstance(event, dict) or not isinstance(event.get("type"), str):
            raise ValueError("not an event")
    except ValueError as error:
        log.warning("A line of the event file cannot be read (%s): %.200r", error, raw)
        return {}
    return _without_nul(event) if b"\\u0000" in raw else event


def _without_nul(value: Any) -> Any:
    """Postgres keeps no NUL in text."""
    if isinstance(value, str):
        return value.replace("\x00", "")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    return [_without_nul(item) for item in value] if isinstance(value, list) else value
