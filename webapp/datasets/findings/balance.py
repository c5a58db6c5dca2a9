"""Classes that are many times rarer than others."""

from __future__ import annotations

from collections.abc import Callable

from webapp.datasets.findings import Rows, percent
from webapp.datasets.problems import Problem, shown

RATIO = 20  # times rarer than the most frequent class
DOMINATES = 0.9


def find(rows: Rows, add: Callable[[Problem], None]) -> None:
    if rows.label is None:
        return
    counts: dict[str, int] = {}
    for split in rows.label_counts.values():
        for name, count in split.items():
            counts[name] = counts.get(name, 0) + count
    counts = {name: count for name, count in counts.items() if count}
    if len(counts) < 2:
        return
    most = max(counts, key=lambda name: counts[name])
    rare = sorted(
        (name for name in counts if counts[name] * RATIO < counts[most]), key=lambda name: counts[name]
    )
    if not rare and counts[most] < DOMINATES * sum(counts.values()):
        return
    least = min(counts, key=lambda name: counts[name])
    add(
        Problem(
            "unbalanced",
            f"{percent(counts[most], sum(counts.values()))} of the rows are {shown(most)} in “{rows.label.name}”; "
            f"{shown(least)} has {counts[least]:,}.",
            "Accuracy says little here: look at F1 (macro), which counts each class alike. "
            "More examples of the rare classes help most.",
            severity="warning",
            column=rows.label.name,
            count=len(rare) or 1,
            values=(most,),
        )
    )
