"""How the value of a row is shown in the data browser: a kind is an entry here and a partial of its name.

`SHOWN[kind]` says which part of the column is read for it and what its partial, `templates/datasets/cells/<kind>.html`,
gets as `cell.value`. A kind that is not here is shown as text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from webapp.datasets import masks, showing

SHORT = 240  # characters that stand in the table; what is longer unfolds
LONGEST = 4_000  # characters that a page holds of one value; the row's own page says as much
MOST_MESSAGES = 6


@dataclass(frozen=True)
class Beside:
    """What else of the row a value is shown with."""

    tokens: list[str] | None = None
    picture: int | None = None  # number of the column of the picture that a mask lies on
    context: str | None = None  # the text that answers stand in


@dataclass(frozen=True)
class Kind:
    """`make(value, column, what stands beside it)` turns the stored value (never None) into what the partial shows;
    `part`: the column, or a part of it."""

    make: Callable[[Any, dict[str, Any], Beside], Any]
    part: str = "{name}"
    holds_files: bool = False  # pictures, recordings: what no text can hold


@dataclass(frozen=True)
class Cell:
    """A value of a row, and the partial that shows it."""

    column: str
    number: int  # of the column, counted from 0
    kind: str
    value: Any

    @property
    def template(self) -> str:
        return f"datasets/cells/{self.kind}.html"


def parts(columns: list[dict[str, Any]]) -> list[str]:
    """What is read of a file to show these columns."""
    return [_kind_of(column).part.format(name=column["name"]) for column in columns]


def cells(row: dict[str, Any], columns: list[dict[str, Any]]) -> list[Cell]:
    """A row, a cell a column."""
    beside = Beside(
        next((row.get(each["name"]) for each in columns if each["kind"] == "tokens"), None),
        next((number for number, each in enumerate(columns) if each["kind"] == "image"), None),
        row.get(showing.context_column(columns)),
    )
    found = []
    for number, column in enumerate(columns):
        name, value = column["name"], row.get(column["name"])
        kind = column["kind"] if column["kind"] in SHOWN else "text"
        if value is None:
            found.append(Cell(name, number, "empty", None))
        else:
            found.append(Cell(name, number, kind, _kind_of(column).make(value, column, beside)))
    return found


def holds_files(columns: list[dict[str, Any]]) -> bool:
    """Whether a row holds more than text and numbers."""
    return any(_kind_of(column).holds_files for column in columns)


def _kind_of(column: dict[str, Any]) -> Kind:
    return SHOWN.get(column["kind"], SHOWN["text"])


def _text(value: Any, column: dict[str, Any], beside: Beside | None = None) -> dict[str, Any]:
    """{"text": what is shown, "short": its beginning where it is long, "cut": whether more is stored}"""
    told = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return {
        "text": told[:LONGEST],
        "short": told[:SHORT].rstrip() if len(told) > SHORT or told.count("\n") > 4 else "",
        "cut": len(told) > LONGEST,
        "blank": not told.strip(),
    }


def _label(value: Any, column: dict[str, Any], beside: Beside) -> Any:
    names = column.get("names") or []
    return names[value] if 0 <= value < len(names) else value


def _messages(value: Any, column: dict[str, Any], beside: Beside) -> dict[str, Any]:
    turns = [
        {"role": said["role"], "content": _text(said["content"] or "", column)}
        for said in value[:MOST_MESSAGES]
    ]
    return {"turns": turns, "more": max(0, len(value) - MOST_MESSAGES)}


def _as_it_is(value: Any, column: dict[str, Any], beside: Beside) -> Any:
    return value


def _tokens(value: Any, column: dict[str, Any], beside: Beside) -> dict[str, Any]:
    return _text(" ".join(token or "" for token in value), column)


def _tags(value: Any, column: dict[str, Any], beside: Beside) -> Any:
    return showing.entities(value, beside.tokens, column.get("names") or [])


def _answers(value: Any, column: dict[str, Any], beside: Beside) -> dict[str, Any]:
    return showing.answers(value, beside.context)


def _objects(value: Any, column: dict[str, Any], beside: Beside) -> dict[str, Any]:
    return showing.boxes(value, column.get("names") or [])


def _mask(value: Any, column: dict[str, Any], beside: Beside) -> dict[str, Any]:
    """Its pixels come by their own address: which classes they have, the row's own page says."""
    return {"picture": beside.picture, "path": value["path"], **masks.all_classes(column.get("names") or [])}


SHOWN = {
    "text": Kind(_text),
    "json": Kind(_text),
    "label": Kind(_label),
    "integer": Kind(_as_it_is),
    "float": Kind(_as_it_is),
    "boolean": Kind(_as_it_is),
    "messages": Kind(_messages),
    # Its bytes come by an address of their own (browse_views.picture).
    "image": Kind(_as_it_is, part="{name}.path", holds_files=True),
    "audio": Kind(_as_it_is, part="{name}.path", holds_files=True),  # and so do these
    "mask": Kind(_mask, part="{name}.path", holds_files=True),
    "answers": Kind(_answers),
    "objects": Kind(_objects),
    "tokens": Kind(_tokens),
    "tags": Kind(_tags),
}
