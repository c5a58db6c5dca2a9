"""What a dataset's page shows of a version, in the order and words that it is read in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.urls import reverse

from webapp.datasets.charting import Chart, chart_of
from webapp.datasets.edits.classes import CLASSED
from webapp.datasets.fixes import Fix, fixes_of
from webapp.datasets.models import Dataset, DatasetVersion
from webapp.datasets.rows import LARGEST_RECORDING

KIND_ICONS = {
    "text": "article",
    "label": "tag",
    "integer": "hash",
    "float": "percentage",
    "boolean": "check",
    "image": "photo",
    "mask": "layers-intersect",
    "audio": "volume",
    "objects": "box",
    "tokens": "list",
    "tags": "tags",
    "messages": "messages",
    "answers": "question-mark",
    "json": "code",
}


@dataclass(frozen=True)
class ShownColumn:
    """A column with its facts as words."""

    number: int  # from 0
    name: str
    kind: str
    icon: str
    nulls: int
    facts: tuple[tuple[str, Any], ...]  # (what, number or text)
    chart: Chart | None
    undrawn: bool  # it would have a chart, were its version made anew
    has_classes: bool  # which can be joined or left out


@dataclass(frozen=True)
class Cell:
    """A value of the first rows. `kind` says how it is shown; the addresses are of what it is shown with."""

    kind: str
    value: Any
    source: str = ""  # picture below boxes, or mask
    below: str = ""  # picture below a mask
    sound: str = ""

    @property
    def nested(self) -> bool:
        """Whether templates/datasets/media.html shows it."""
        return self.kind in {"audio", "objects", "tags", "mask", "answers"}


def shown_columns(version: DatasetVersion) -> list[ShownColumn]:
    return [_column(number, column, version.splits) for number, column in enumerate(version.columns)]


def _column(number: int, column: dict[str, Any], splits: dict[str, int]) -> ShownColumn:
    facts: list[tuple[str, Any]] = []
    if chars := column.get("chars"):
        facts += [("characters, typically", chars["p50"]), ("longest", chars["max"])]
    facts += _media_facts(column)
    if column.get("min") is not None:
        facts += [("from", column["min"]), ("to", column["max"])]
    if column.get("mean") is not None and "counts" not in column:
        facts.append(("on average", column["mean"]))
    if column.get("distinct") is not None:
        facts.append(("classes" if column["kind"] == "label" else "different", column["distinct"]))
    chart = chart_of(column, splits)
    return ShownColumn(
        number=number,
        has_classes=bool(column.get("names")) and column["kind"] in CLASSED,
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


def _media_facts(column: dict[str, Any]) -> list[tuple[str, Any]]:
    facts: list[tuple[str, Any]] = []
    if width := column.get("width"):
        height = column["height"]
        facts.append(("pixels, typically", f"{width['p50']:,} × {height['p50']:,}"))
        facts.append(("smallest sides", f"{width['min']:,} × {height['min']:,}"))
        facts.append(("largest sides", f"{width['max']:,} × {height['max']:,}"))
    if seconds := column.get("seconds"):
        facts += [
            ("seconds, typically", seconds["p50"]),
            ("shortest", seconds["min"]),
            ("longest", seconds["max"]),
        ]
        facts.append(("minutes in all", round(seconds["total"] / 60, 1)))
        facts.append(("samples a second", ", ".join(f"{int(rate):,}" for rate in column["rates"])))
    if (items := column.get("items")) and column["kind"] != "tags":
        facts += [
            (f"{column['kind']} a row, typically", items["p50"]),
            ("most", items["max"]),
            ("in all", items["total"]),
        ]
    if column["kind"] == "mask" and "counts" in column:
        counted = column["counts"].values()
        facts.append(("pixels of classes", sum(sum(each.values()) for each in counted)))
    if column.get("names") and column["kind"] != "label":
        facts.append(("classes", len(column["names"])))
    return facts


@dataclass(frozen=True)
class ShownProblem:
    """Something that was found, with the buttons that do something about it."""

    problem: dict[str, Any]
    fixes: list[Fix]


def found_problems(dataset: Dataset, version: DatasetVersion | None) -> list[ShownProblem]:
    """Of a version, or why there is none."""
    if version is None:
        return [ShownProblem(problem, []) for problem in dataset.problems]
    return [ShownProblem(problem, fixes_of(problem, version)) for problem in version.problems]


def shown_rows(version: DatasetVersion) -> list[list[Cell]]:
    """The first rows, a cell a column in the columns' order."""
    return [
        [
            _cell(version, number, index, row.get(column["name"]))
            for index, column in enumerate(version.columns)
        ]
        for number, row in enumerate(version.preview, start=1)
    ]


def _cell(version: DatasetVersion, row: int, index: int, value: Any) -> Cell:
    kind = version.columns[index]["kind"]
    query = f"?version={version.number}"
    if value is None:
        return Cell("empty", None)
    if kind == "audio":  # the first rows are those of the split to train on
        plays = value["size"] <= LARGEST_RECORDING
        address = reverse("datasets:recording", args=[version.dataset_id, "train", row, index])
        return Cell(kind, value, sound=f"{address}{query}" if plays else "")
    if kind in {"objects", "mask"}:
        return Cell(
            kind,
            value,
            source=_address(version, value["picture"]),
            below=_address(version, value.get("below", "")),
        )
    return Cell(kind, value)


def _address(version: DatasetVersion, picture: str) -> str:
    """Of a picture of the first rows; empty where there is none."""
    address = reverse("datasets:picture", args=[version.dataset_id, picture]) if picture else ""
    return f"{address}?version={version.number}" if address else ""


def split_story(version: DatasetVersion) -> str:
    """How the split came about, in a sentence."""
    split = version.details.get("split") or {}
    if says := split.get("says"):
        return str(says)
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
