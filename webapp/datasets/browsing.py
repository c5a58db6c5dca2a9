"""A page of rows: what an address asks for, and the rows that answer it.

The address says all of it: `split`, `q` (words), `value` (a class of a column), and where the page begins (`start`) or
ends (`end`), as row numbers counted from 1. So a page costs the same wherever it is, and a link stays right.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django import forms

from webapp.datasets.cells import Cell, cells, parts
from webapp.datasets.models import DatasetVersion
from webapp.datasets.reading import Rows, rows_of
from webapp.datasets.searching import Busy, Condition, Counted, Search, condition, searched
from webapp.datasets.shards import NotHere
from webapp.listing import ListFilter

PAGE = 50
MOST_COUNTS = 1000
EMPTY = "empty"
NUMBER = forms.IntegerField(required=False, min_value=1, max_value=2**53)


@dataclass(frozen=True)
class Asked:
    """Which rows. `value`: (column, what it holds as it is stored); `limit`: rows of a page."""

    split: str
    text: str = ""
    value: tuple[str, Any] | None = None
    value_name: str = ""
    start: int = 0
    end: int = 0
    limit: int = PAGE

    @property
    def narrows(self) -> bool:
        return bool(self.text) or self.value is not None


@dataclass(frozen=True)
class Row:
    """`number` counts from 1 in its split, as a trainer does."""

    number: int
    stored: dict[str, Any]
    cells: list[Cell]


@dataclass
class Page:
    """`next` and `previous`: the `start` and the `end` that lead on, 0 for none. `trouble`: why there are no rows."""

    rows: list[Row] = field(default_factory=list)
    next: int = 0
    previous: int = 0
    looked_to: int = 0  # the time was over at this row; 0: it was enough
    whole: bool = False  # these are all rows that there are
    trouble: str = ""


class RowFilter(ListFilter):
    """What stands above the rows: only what this version can be narrowed by."""

    q = forms.CharField(
        required=False,
        max_length=200,
        strip=False,
        label="Search",
        widget=forms.TextInput(attrs={"placeholder": "Words in the texts", "type": "search"}),
    )
    split = forms.ChoiceField(required=False, label="Split")
    value = forms.ChoiceField(required=False, label="Class")
    start = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=2**53,
        label="From row",
        widget=forms.NumberInput(attrs={"placeholder": "1"}),
    )
    sorting = "split"

    def __init__(self, version: DatasetVersion, data: Mapping[str, Any]) -> None:
        self.version = version
        self.splits = [name for name, rows in version.splits.items() if rows] or list(version.splits)[:1]
        split = data.get("split") if data.get("split") in self.splits else self._first()
        super().__init__({**{name: data.get(name, "") for name in self.base_fields}, "split": split})
        choice = self.fields["split"]
        assert isinstance(choice, forms.ChoiceField)
        choice.choices = [(name, f"{name} ({version.splits[name]:,})") for name in self._in_order()]
        self.values = _values(version)
        if self.values:
            self.offer("value", "Any", ())
            value = self.fields["value"]
            assert isinstance(value, forms.ChoiceField)
            value.choices = [("", "Any"), *_grouped(self.values)]
        else:
            del self.fields["value"]
        if not searched(version.columns):
            del self.fields["q"]
        self.end = _row_number(data.get("end"))

    def asked(self) -> Asked:
        chosen: dict[str, Any] = dict(self.chosen())
        value = self.values.get(chosen.get("value", ""))
        return Asked(
            split=chosen.get("split", ""),
            text=chosen.get("q", "") if str(chosen.get("q", "")).strip() else "",
            value=(value[0], value[2]) if value else None,
            value_name=value[1] if value else "",
            start=int(chosen.get("start", 0)),
            end=self.end,
        )

    def _in_order(self) -> list[str]:
        usual = [name for name in ("train", "validation", "test") if name in self.splits]
        return usual + [name for name in self.splits if name not in usual]

    def _first(self) -> str:
        return next(iter(self._in_order()), "")


def _row_number(said: Any) -> int:
    try:
        return int(NUMBER.clean(said) or 0)
    except forms.ValidationError:
        return 0


def _values(version: DatasetVersion) -> dict[str, tuple[str, str, Any]]:
    """{choice: (column, the value's name, the value as it is stored)} of every column with few different values."""
    found: dict[str, tuple[str, str, Any]] = {}
    for number, column in enumerate(version.columns):
        name, kind = column["name"], column["kind"]
        told = {each for split in (column.get("counts") or {}).values() for each in split}
        stored: list[tuple[str, Any]] = []
        if kind == "label":
            stored = [(each, place) for place, each in enumerate(column.get("names") or [])]
        elif kind == "integer" and told:
            stored = [(str(each), each) for each in sorted(int(each) for each in told)]
        elif kind == "boolean" and told:
            stored = [("false", False), ("true", True)]
        for place, (each, value) in enumerate(stored):
            found[f"{number}:{place}"] = (name, each, value)
        if stored and column.get("nulls"):
            found[f"{number}:{EMPTY}"] = (name, EMPTY, None)
    return found


def _grouped(values: dict[str, tuple[str, str, Any]]) -> list[Any]:
    """By column, where there are several of them."""
    by_column: dict[str, list[tuple[str, str]]] = {}
    for choice, (column, name, _) in values.items():
        by_column.setdefault(column, []).append((choice, name if name.strip() else "(blank)"))
    groups = list(by_column.items())
    return groups if len(groups) > 1 else groups[0][1]


def page_of(version: DatasetVersion, asked: Asked) -> Page:
    """The rows; a page whose rows cannot be had says why."""
    try:
        with rows_of(version, asked.split) as rows:
            return _page(version, asked, rows)
    except (NotHere, Busy) as error:
        return Page(trouble=str(error))


def _page(version: DatasetVersion, asked: Asked, rows: Rows) -> Page:
    size = asked.limit
    if asked.narrows:
        page, numbers = _found(version, asked, rows)
    else:
        last = min(asked.end, rows.count)
        start = min(asked.start or max(1, last - size + 1), max(1, rows.count))
        numbers = list(range(start - 1, min(start - 1 + size, rows.count)))
        page = Page(next=start + size if start + size <= rows.count else 0, previous=start - 1)
        page.whole = start == 1 and not page.next
    taken = rows.take(numbers, parts(version.columns))
    page.rows = [
        Row(number + 1, row, cells(row, version.columns)) for number, row in zip(numbers, taken, strict=True)
    ]
    return page


def _found(version: DatasetVersion, asked: Asked, rows: Rows) -> tuple[Page, list[int]]:
    search = Search(rows.paths, rows.starts, _condition(version, asked))
    if asked.end and not asked.start:
        before = search.backward(min(asked.end, rows.count), asked.limit + 1)
        if len(before.numbers) > asked.limit:
            following = asked.end + 1 if asked.end < rows.count else 0
            return Page(next=following, previous=before.numbers[0] + 1), before.numbers[1:]
        if not before.over:
            page = Page(next=asked.end + 1, previous=before.looked_to, looked_to=before.looked_to)
            return page, before.numbers
    start = (
        1 if asked.end and not asked.start else asked.start or 1
    )  # the first page, where the last was short
    after = search.forward(start - 1, asked.limit + 1)
    page = Page(previous=start - 1)
    if len(after.numbers) > asked.limit:
        page.next = after.numbers[asked.limit] + 1
    elif not after.over:
        page.next, page.looked_to = after.looked_to + 1, after.looked_to
    else:
        page.whole = start == 1
    return page, after.numbers[: asked.limit]


def _condition(version: DatasetVersion, asked: Asked) -> Condition:
    return condition(version.columns, asked.text, asked.value)


_counted: OrderedDict[tuple[Any, ...], int] = OrderedDict()  # versions do not change, nor do these


def known_count(version: DatasetVersion, asked: Asked, page: Page) -> int | None:
    """How many rows there are, where that costs nothing."""
    if not asked.narrows:
        return int(version.splits.get(asked.split, 0))
    if page.whole:
        return len(page.rows)
    if not asked.text and asked.value and asked.value[1] is not None:
        column = next(each for each in version.columns if each["name"] == asked.value[0])
        counts = ((column.get("counts") or {}).get(asked.split)) or {}
        name = str(asked.value[1]) if column["kind"] == "boolean" else asked.value_name
        if name in counts:
            return int(counts[name])
    return _counted.get(_key(version, asked))


def counted(version: DatasetVersion, asked: Asked) -> Counted:
    """How many rows there are, looked up within the time of a search; raises NotHere, Busy."""
    key = _key(version, asked)
    if key in _counted:
        return Counted(_counted[key], int(version.splits.get(asked.split, 0)))
    with rows_of(version, asked.split) as rows:
        found = Search(rows.paths, rows.starts, _condition(version, asked)).count()
    if found.over:
        _counted[key] = found.matches
        while len(_counted) > MOST_COUNTS:
            _counted.popitem(last=False)
    return found


def _key(version: DatasetVersion, asked: Asked) -> tuple[Any, ...]:
    return (version.content_hash, asked.split, asked.text, asked.value)
