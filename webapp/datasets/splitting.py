"""Which rows train, which validate, which test.

Rows are drawn batch by batch: of each group (a class of the label) as many as its share so far asks for. So the
split is stratified and exact, depends on the seed and the rows alone, and needs no memory for the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from webapp.datasets.problems import Refused

SHARE = 0.1  # of a split that is made, of the rows that it is made from
TRAIN, VALIDATION, TEST = 0, 1, 2
SEED = 42  # of what is drawn, where nobody says another


def seed_trouble(seed: Any) -> str:
    """Why nothing can be drawn with this, as a sentence; empty if it can."""
    return "" if type(seed) is int and seed >= 0 else "Say a whole number from 0."


@dataclass(frozen=True)
class Plan:
    """How many rows of each group a made split gets: arrays by group."""

    totals: NDArray[np.int64]
    targets: dict[int, NDArray[np.int64]]  # by VALIDATION and TEST; a split that is there already is missing


def plan(totals: NDArray[np.int64], wanted: tuple[int, ...], shares: dict[int, float] | None = None) -> Plan:
    """Share out rows among splits; raises Refused where not even one row a split is there.

    `totals`: rows of each group; `shares`: of each wanted split, of all rows, SHARE where it is left out.
    """
    rows = int(totals.sum())
    if rows < len(wanted) + 1:
        raise Refused(
            "too_few_rows",
            f"There {'is' if rows == 1 else 'are'} {rows} row{'' if rows == 1 else 's'} to train on; at least "
            f"{len(wanted) + 1} are needed: for training{' and validation' if VALIDATION in wanted else ''}"
            f"{' and test' if TEST in wanted else ''}.",
            "Add examples. A few hundred are a good start, twenty a class the least that is any use.",
        )
    left = totals.copy()
    targets: dict[int, NDArray[np.int64]] = {}
    for split in wanted:
        targets[split] = _shared_out(totals, left, max(1, round(rows * (shares or {}).get(split, SHARE))))
        left = left - targets[split]
    return Plan(totals, targets)


def _shared_out(totals: NDArray[np.int64], left: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """`count` rows over the groups by largest remainder; each group keeps a row to train on."""
    spare = np.maximum(left - 1, 0)
    if spare.sum() < count:  # one-row groups all over: the largest groups give theirs
        spare = left.copy()
    exact: NDArray[np.float64] = totals * (count / max(1, totals.sum()))
    taken = np.minimum(np.floor(exact).astype(np.int64), spare)
    # Ties go to the smaller group, so that rare classes are seen outside training too.
    order = np.lexsort((np.arange(len(totals)), totals, -(exact - np.floor(exact))))
    while taken.sum() < count:
        before = taken.sum()
        for group in order:
            if taken.sum() == count:
                break
            if taken[group] < spare[group]:
                taken[group] += 1
        if taken.sum() == before:
            break
    return taken


class Splitter:
    """Draws the rows of a plan, a batch at a time, in the order of the rows."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan = plan
        self._random = np.random.Generator(np.random.PCG64(seed))
        self._seen = np.zeros_like(plan.totals)
        self._given = {split: np.zeros_like(plan.totals) for split in plan.targets}

    def assign(self, groups: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The split of each row of a batch, given its group."""
        splits = np.full(len(groups), TRAIN, np.uint8)
        order = self._random.permutation(len(groups))
        shuffled = groups[order]
        by_group = order[np.argsort(shuffled, kind="stable")]
        counts = np.bincount(groups, minlength=len(self.plan.totals))
        starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
        self._seen += counts
        for group in np.flatnonzero(counts):
            rows = by_group[starts[group] : starts[group] + counts[group]]
            used = 0
            for split, target in self.plan.targets.items():
                due = target[group] * self._seen[group] // self.plan.totals[group]
                take = int(min(due - self._given[split][group], len(rows) - used))
                splits[rows[used : used + take]] = split
                self._given[split][group] += take
                used += take
        return splits
