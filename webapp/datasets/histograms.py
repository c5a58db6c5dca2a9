"""How long texts are and where numbers lie, a split: counted while a version is written, drawn on its page.

The edges are round numbers and the same for all splits. What is more than half as long again as the 95th
percentile is counted together, so that one endless text does not press all others into one bar.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from webapp.datasets.columns import Column

BINS = 20
STEPS = (1, 2, 2.5, 5, 10)
KINDS = {"text": "characters", "integer": "values", "float": "values"}


class Histogram:
    """Of one column; `add` what is written, then ask for `as_json`."""

    def __init__(self, column: Column, splits: tuple[str, ...]) -> None:
        self.of = KINDS[column.kind]
        if column.kind == "text":
            chars = column.facts["chars"]
            low, high = 0.0, float(max(1, min(chars["max"], 1.5 * chars["p95"])))
            whole = True
        else:
            low, high = float(column.facts["min"]), float(column.facts["max"])
            whole = column.kind == "integer"
        self.edges = edges(low, high, whole)
        self.counts = {split: np.zeros(len(self.edges), np.int64) for split in splits}  # the last: beyond

    def add(self, split: str, array: pa.Array) -> None:
        present = array.drop_null()
        numbers = pc.utf8_length(present) if self.of == "characters" else present
        values = numbers.to_numpy(zero_copy_only=False).astype(np.float64)
        places = np.searchsorted(self.edges, values, side="right") - 1
        self.counts[split] += np.bincount(np.clip(places, 0, len(self.edges) - 1), minlength=len(self.edges))

    def as_json(self) -> dict[str, Any]:
        """{of, edges, counts {split: [n a bin, and of all that lie beyond the last edge]}}"""
        return {
            "of": self.of,
            "edges": self.edges.tolist(),
            "counts": {split: counts.tolist() for split, counts in self.counts.items()},
        }


def histogram_of(column: Column, splits: tuple[str, ...]) -> Histogram | None:
    """One that fits the column; None where its classes are counted one by one, or it has no length."""
    if column.kind not in KINDS:
        return None
    if column.kind != "text" and column.facts.get("min") is None:
        return None
    if column.kind != "text" and not all(math.isfinite(column.facts[name]) for name in ("min", "max")):
        return None
    return Histogram(column, splits)


def edges(low: float, high: float, whole: bool) -> np.ndarray[Any, np.dtype[np.float64]]:
    """At most BINS bins between round numbers, from at or below `low` to above `high`."""
    width = (high - low) / (BINS - 1) or 1.0
    power = 10.0 ** math.floor(math.log10(width))
    step = next(each * power for each in STEPS if each * power >= width * (1 - 1e-9))
    if whole:
        step = float(max(1, math.ceil(step)))
    first = math.floor(low / step)
    count = max(1, math.floor(high / step) + 1 - first)
    return np.array([float(f"{(first + place) * step:.12g}") for place in range(count + 1)])
