"""Recordings that all get the same number of samples a second, once, instead of in every run."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from webapp.datasets.edits import Edit, Wrong, need_column
from webapp.datasets.edits.facts import Facts
from webapp.datasets.edits.plan import Parent, Plan
from webapp.datasets.formats.common import IMAGE
from webapp.datasets.recordings import at_rate

LOWEST, HIGHEST = 4_000, 96_000


class Resample(Edit):
    """By soxr, in one channel; what has the rate already stays as it is."""

    slug = "resample"
    takes = {"column": str, "rate": 16_000}

    def check(self, asked: dict[str, Any], facts: Facts) -> None:
        need_column(facts, asked["column"], ("audio",))
        if not LOWEST <= asked["rate"] <= HIGHEST:
            raise Wrong(rate=f"Say a number from {LOWEST:,} to {HIGHEST:,}.")

    def title(self, asked: dict[str, Any]) -> str:
        return f"Resampling “{asked['column']}” to {asked['rate']:,} samples a second"

    def apply(self, asked: dict[str, Any], parent: Parent, plan: Plan) -> str:
        rate = asked["rate"]
        plan.rewrite[asked["column"]] = lambda array: pa.array(
            [_resampled(value, rate) for value in array.to_pylist()], IMAGE
        )
        return f"Resampled “{asked['column']}” to {rate:,} samples a second, in one channel."


def _resampled(value: dict[str, Any] | None, rate: int) -> dict[str, Any] | None:
    if value is None or value["bytes"] is None:
        return value
    made = at_rate(value["bytes"], rate)
    if made is value["bytes"]:
        return value
    path = PurePosixPath(value["path"] or "recording").with_suffix(".flac")
    return {"bytes": made, "path": str(path)}


EDITS = (Resample(),)
