"""Three rows of a version as a task's examples, through a mapping of columns to roles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from webapp.datasets import cells
from webapp.datasets.mapping_parts import Given, Part, Source, parts
from webapp.datasets.models import DatasetVersion
from webapp.datasets.reading import Rows, rows_of
from webapp.datasets.shards import NotHere
from webapp.datasets.suggestion import TaskNeeds

AT_ONCE = 3  # rows


@dataclass(frozen=True)
class Example:
    """A row. `number` counts from 1 in its split; `troubles`: why a run would stop here, as sentences."""

    number: int
    parts: list[Part]
    troubles: list[str]


@dataclass
class Examples:
    """`start` counts from 1; `previous` and `next` are those of the rows beside these, 0 for none.

    `trouble`: why there are no rows; `hidden`: something that looks like personal data was masked.
    """

    split: str
    rows: int
    start: int
    examples: list[Example] = field(default_factory=list)
    trouble: str = ""
    hidden: bool = False

    @property
    def end(self) -> int:
        return min(self.rows, self.start + AT_ONCE - 1)

    @property
    def previous(self) -> int:
        return max(1, self.start - AT_ONCE) if self.start > 1 else 0

    @property
    def next(self) -> int:
        return self.end + 1 if self.end < self.rows else 0


def given_columns(version: DatasetVersion, needs: TaskNeeds | None, chosen: Mapping[str, str]) -> list[Given]:
    """The columns in their roles; without a task, every column as what its name says."""
    places = {column["name"]: place for place, column in enumerate(version.columns)}
    if needs is None:
        return [Given(name.strip().lower(), name, version.columns[at], at) for name, at in places.items()]
    found = []
    for role, name in chosen.items():
        kinds = needs.roles[role].kinds
        is_class = "label" in kinds and "text" not in kinds
        found.append(
            Given(role, needs.roles[role].title, version.columns[places[name]], places[name], is_class)
        )
    return found


def examples_of(
    version: DatasetVersion, split: str, start: int, given: list[Given], *, checked: bool
) -> Examples:
    """The rows from `start` on (from 1; the last ones where there are no such), laid out.

    `checked`: say where a run would stop.
    """
    rows = int(version.splits.get(split, 0))
    found = Examples(split, rows, max(1, min(start, rows)))
    if not given or not rows:
        return found
    light = cells.parts([each.column for each in given])
    numbers = list(range(found.start, found.end + 1))
    try:
        with rows_of(version, split) as source:
            taken = source.take([number - 1 for number in numbers], light)
            found.examples = [
                _example(version, found, source, number, stored, given, checked)
                for number, stored in zip(numbers, taken, strict=True)
            ]
    except NotHere as error:
        found.trouble, found.examples = str(error), []
    return found


def _example(
    version: DatasetVersion,
    page: Examples,
    rows: Rows,
    number: int,
    stored: dict[str, Any],
    given: list[Given],
    checked: bool,
) -> Example:
    source = Source(version, page.split, number, stored, partial(rows.one, number - 1))
    laid_out = parts(given, source)
    page.hidden = page.hidden or source.hidden
    return Example(number, laid_out, list(dict.fromkeys(source.troubles)) if checked else [])
