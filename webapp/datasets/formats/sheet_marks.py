"""What openpyxl does not tell of a sheet that it reads row by row: merged cells, and formulas without a value.

Found in the sheet's XML in one pass over its bytes, in pieces. Nothing in here can be large: what a stranger
could repeat without end is counted and not kept.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import IO

from openpyxl.utils import column_index_from_string

from webapp.datasets.formats.common import MAX_COLUMNS

CHUNK = 1 << 20
OVERLAP = 16 << 10  # longer than any formula that Excel takes
MOST_MERGES = 50_000
MOST_LEVELS = 3  # of a header
MERGE = re.compile(rb'<(?:\w+:)?mergeCell\s+ref="([A-Z]{1,3})([0-9]{1,7}):([A-Z]{1,3})([0-9]{1,7})"')
UNSAVED = re.compile(  # with bounds, so that no sheet can make it slow
    rb'<(?:\w+:)?c\s[^<>]{0,100}?r="([A-Z]{1,3}[0-9]{1,7})"[^<>]{0,200}>'
    rb"<(?:\w+:)?f(?:[^<>]{0,200}/>|[^<>]{0,200}>[^<>]{0,8192}</(?:\w+:)?f>)"
    rb"(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v>\s{0,9}</(?:\w+:)?v>)?</(?:\w+:)?c>"
)


@dataclass
class Merges:
    """Merged cells by the row that they begin in: (first column, last column, last row), counted from 1."""

    starts: dict[int, list[tuple[int, int, int]]] = field(default_factory=lambda: defaultdict(list))
    _open: dict[int, tuple[int, str | None]] = field(default_factory=dict)  # column → (last row, value)

    def fill(self, row: int, cells: list[str | None]) -> list[str | None]:
        """The row with the value of merged cells in each of them; rows have to come in their order."""
        for first, last, until in self.starts.get(row, ()):
            value = cells[first - 1] if first <= len(cells) else None
            self._open.update((column, (until, value)) for column in range(first, last + 1))
        for column, (until, value) in list(self._open.items()):
            if until < row:
                del self._open[column]
            elif value is not None:
                cells += [None] * (column - len(cells))
                if cells[column - 1] is None:
                    cells[column - 1] = value
        return cells

    def across(self, row: int) -> int:
        """How many columns the widest of those that begin in this row covers."""
        return max((last - first + 1 for first, last, _ in self.starts.get(row, ())), default=1)

    def levels(self, row: int) -> int:
        """How many rows name the columns, if this is the first of them: names that span columns have names below."""
        begun = self.starts.get(row, ())
        spans = [until - row + 1 + (last > first) for first, last, until in begun if last > first]
        return min(MOST_LEVELS, max(spans, default=1))


@dataclass
class Marks:
    merges: Merges = field(default_factory=Merges)
    unsaved: list[str] = field(default_factory=list)  # the first cell whose formula has no value
    unsaved_count: int = 0


def scan(part: IO[bytes]) -> Marks:
    """Read a sheet's XML to its end."""
    marks = Marks()
    kept = count = 0
    held = b""
    while chunk := part.read(CHUNK):
        data = held + chunk
        # A match that reaches into the last bytes may go on in the next piece: it is looked at again there.
        safe = len(data) - OVERLAP if len(chunk) == CHUNK else len(data)
        ended = 0
        for found in MERGE.finditer(data):
            if found.start() >= max(0, safe):
                break
            ended = found.end()
            kept += 1
            if kept <= MOST_MERGES:
                _keep(marks.merges, found)
        for found in UNSAVED.finditer(data):
            if found.start() >= max(0, safe):
                break
            ended = max(ended, found.end())
            count += 1
            marks.unsaved = marks.unsaved or [found.group(1).decode()]
        held = data[max(safe, ended, 0) :]
    marks.unsaved_count = count
    return marks


def _keep(merges: Merges, found: re.Match[bytes]) -> None:
    first, last = (column_index_from_string(found.group(number).decode()) for number in (1, 3))
    begun, last = merges.starts[int(found.group(2))], min(last, MAX_COLUMNS)
    # Merged cells do not overlap: what covers more columns than there are was made to take long.
    if first <= last and sum(end - start + 1 for start, end, _ in begun) + last - first < MAX_COLUMNS:
        begun.append((first, last, int(found.group(4))))
