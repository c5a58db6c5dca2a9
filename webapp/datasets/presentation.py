"""What a dataset's page shows of a version, in the order and words that it is read in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from webapp.datasets.charting import Chart, chart_of
from webapp.datasets.models import DatasetVersion

KIND_ICONS = {
    "text": "article",
    "label": "tag",
    "integer": "hash",
    "float": "percentage",
    "boolean": "check",
    "image": "photo",
    "messages": "messages",
    "json": "code",
}


@dataclass(frozen=True)
class ShownColumn:
    """A column with its facts as words."""

    name: str
    kind: str
    icon: str
    nulls: int
    facts: tuple[tuple[str, Any], ...]  # (what, number or text)
    chart: Chart | None
    undrawn: bool  # it would have a chart, were its version made anew


@dataclass(frozen=True)
class Cell:
    """A value of the first rows. `kind` says how it is shown."""

    kind: str
    value: Any


def shown_columns(version: DatasetVersion) -> list[ShownColumn]:
    return [_column(column, version.splits) for column in version.columns]


def _column(column: dict[str, Any], splits: dict[str, int]) -> ShownColumn:
    facts: list[tuple[str, Any]] = []
    if chars := column.get("chars"):
        facts += [("characters, typically", chars["p50"]), ("longest", chars["max"])]
    if column.get("min") is not None:
        facts += [("from", column["min"]), ("to", column["max"])]
    if column.get("mean") is not None and "counts" not in column:
        facts.append(("on average", column["mean"]))
    if column.get("distinct") is not None:
        facts.append(("classes" if column["kind"] == "label" else "different", column["distinct"]))
    chart = chart_of(column, splits)
    return ShownColumn(
        name=column["name"],
        kind=column["kind"],
        icon=KIND_ICONS.get(column["kind"], "columns"),
        nulls=column.get("nulls", 0),
        facts=tuple(facts),
        chart=chart,
        undrawn=chart is None
        and "histogram" not in column
        and column["kind"] in {"text", "integer", "float"},
    )


def shown_rows(version: DatasetVersion) -> list[list[Cell]]:
    """The first rows, a cell a column in the columns' order."""
    kinds = {column["name"]: column["kind"] for column in version.columns}
    return [
        [Cell(kind if row.get(name) is not None else "empty", row.get(name)) for name, kind in kinds.items()]
        for row in version.preview
    ]


def split_story(version: DatasetVersion) -> str:
    """How the split came about, in a sentence."""
    split = version.details.get("split") or {}
    origin = {
        "column": f"The column “{split.get('column')}” says which rows train, validate and test.",
        "files": "The names of the files say which rows train, validate and test.",
    }.get(split.get("from", ""), "")
    drawn = split.get("drawn") or []
    if not drawn:
        return origin
    names = " and ".join(drawn)
    parts = [
        f"{split.get('share', 0.1):.0%} of the rows {'each ' if len(drawn) > 1 else ''}drawn for {names}"
    ]
    if split.get("stratified_by"):
        parts.append(f"in the same proportions of “{split['stratified_by']}”")
    parts.append(f"seed {split.get('seed')}")
    return f"{origin} {', '.join(parts)}.".strip()
