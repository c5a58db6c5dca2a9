"""Rows that are like other rows, but not equal to them: a table of pairs, and what is said of it.

A table has split, row, other_split, other_row and share (how alike they are, to 1): the later row of a pair first, where the
rows to train on are the earliest.
"""

# Tables and splits are ours.
# ruff: noqa: S608
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from webapp.datasets.findings import Rows, percent, plural
from webapp.datasets.findings.repeats import HELD_OUT
from webapp.datasets.problems import Problem

Places = np.ndarray[Any, np.dtype[np.int64]]


def ordered_splits(rows: Rows) -> list[str]:
    """The rows to train on first."""
    return sorted(rows.splits, key=lambda split: split in HELD_OUT)


@dataclass(frozen=True)
class Pairs:
    """A table of pairs, and the codes and words of its findings."""

    table: str
    code: str  # of rows of one split
    leak_code: str
    differ: tuple[str, str]  # "differs … from", of one row and of several
    example: Callable[
        [Rows, tuple[str, int], tuple[str, int], float], str
    ]  # a sentence without its full stop

    def keep(
        self,
        rows: Rows,
        place: tuple[Places, Places],
        later: Places,
        earlier: Places,
        share: np.ndarray[Any, np.dtype[np.float64]],
    ) -> None:
        """Make the table. `place`: (number of the split in `ordered_splits`, row) of each thing that was compared."""
        splits, (part, row) = np.array(ordered_splits(rows), dtype=object), place
        found = {
            "split": pa.array(splits[part[later]], pa.string()),
            "row": row[later],
            "other_split": pa.array(splits[part[earlier]], pa.string()),
            "other_row": row[earlier],
            "share": share,
        }
        rows.connection.register("found", pa.table(found))
        rows.connection.execute(f"CREATE TABLE {self.table} AS SELECT * FROM found")
        rows.connection.unregister("found")

    def selects(self, compare: Callable[[Rows], object]) -> dict[str, Callable[..., str]]:
        """What a finding names, by its code, as the registry of findings wants it; `compare` makes the table."""

        def repeats(rows: Rows, *_: object) -> str:
            compare(rows)
            return self._repeats()

        def leaks(rows: Rows, _code: str, _column: str, split: str) -> str:
            compare(rows)
            return self._leaks(split)

        return {self.code: repeats, self.leak_code: leaks}

    def _repeats(self) -> str:
        """(split, row) of the rows that are like an earlier one of their split."""
        return f"SELECT DISTINCT split, row FROM {self.table} WHERE split = other_split"

    def _leaks(self, split: str) -> str:
        """(split, row) of the rows to train on that rows of a held-out split are like."""
        assert split in HELD_OUT
        return (
            f"SELECT DISTINCT other_split AS split, other_row AS row FROM {self.table}"
            f" WHERE split = '{split}' AND other_split = 'train'"
        )

    def tell(self, rows: Rows, compared: str, add: Callable[[Problem], None]) -> None:
        """Add the findings; `compared` says that not all were, where it is so."""
        for split in HELD_OUT:
            self._tell(rows, f"split = '{split}' AND other_split = 'train'", split, compared, add)
        self._tell(rows, "split = other_split", "", compared, add)

    def _tell(self, rows: Rows, where: str, leak: str, compared: str, add: Callable[[Problem], None]) -> None:
        found = f"FROM {self.table} WHERE {where}"
        (count,) = rows.ask(f"SELECT count(DISTINCT (split, row)) {found}")[0]
        if not count:
            return
        split, row, other_split, other, share = rows.ask(
            f"SELECT split, row, other_split, other_row, share {found} ORDER BY split, row, share DESC LIMIT 1"
        )[0]
        who = (
            f"{plural(count, 'row')} of {leak} ({percent(count, rows.splits[leak])})"
            if leak
            else plural(count, "row")
        )
        whom = "rows to train on" if leak else "another row of the same split"
        example = self.example(rows, (split, row), (other_split, other), share)
        add(
            Problem(
                self.leak_code if leak else self.code,
                f"{who} {self.differ[count > 1]} {whom}: {example}.{compared}",
                f"A model that has nearly seen the answers scores too well: what {leak} measures means less."
                if leak
                else "Rows that are nearly the same count more in training than you may mean them to.",
                severity="serious" if leak else "warning",
                split=split,
                row=int(row),
                column=leak,
                count=count,
                other_split=other_split,
                other_row=int(other),
            )
        )
