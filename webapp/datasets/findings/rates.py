"""Recordings of several rates in one column: a model hears one."""

from __future__ import annotations

from collections.abc import Callable

from webapp.datasets.findings import Rows, plural
from webapp.datasets.problems import Problem

MOST_TOLD = 3


def find(rows: Rows, add: Callable[[Problem], None]) -> None:
    for column in rows.columns:
        rates = column.facts.get("rates") or {}
        if len(rates) < 2:
            continue
        told = [
            f"{plural(count, 'recording')} with {int(rate):,}"
            for rate, count in list(rates.items())[:MOST_TOLD]
        ]
        more = len(rates) - MOST_TOLD
        add(
            Problem(
                "mixed_rates",
                f"“{column.name}” has {', '.join(told)}{f' and {more} rates more' if more > 0 else ''} samples a second.",
                "A model hears one rate, 16,000 most often. Resampled here, that is done once and not in every run.",
                severity="warning",
                column=column.name,
                count=sum(sorted(rates.values())[:-1]),
            )
        )
