"""Classes whose names differ in case, blanks or underscores alone: one class, written in several ways."""

from __future__ import annotations

from collections.abc import Callable

from webapp.datasets.findings import Rows, plural
from webapp.datasets.problems import Problem, shown


def find(rows: Rows, add: Callable[[Problem], None]) -> None:
    if rows.label is None:
        return
    counts = dict.fromkeys(rows.label.names, 0)
    for split in rows.label_counts.values():
        for name, count in split.items():
            counts[name] = counts.get(name, 0) + count
    alike: dict[str, list[str]] = {}
    for name in sorted(counts, key=lambda name: (-counts[name], name)):
        alike.setdefault(" ".join(name.replace("_", " ").casefold().split()), []).append(name)
    groups = [names for names in alike.values() if len(names) > 1]
    if not groups:
        return
    kept, *others = groups[0]
    add(
        Problem(
            "similar_labels",
            f"{plural(len(groups), 'class', 'classes')} of “{rows.label.name}” {'is' if len(groups) == 1 else 'are'} written "
            f"in several ways, such as {shown(kept)} and {shown(others[0])}.",
            "A model takes them for different answers. Write each class in one way.",
            severity="warning",
            column=rows.label.name,
            count=len(groups),
            values=(kept, *others),
        )
    )
