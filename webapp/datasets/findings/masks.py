"""Masks with values that no class has: those pixels do not count, which is seldom what was meant."""

# ruff: noqa: S608
from __future__ import annotations

from collections.abc import Callable

from webapp.datasets.columns import quoted
from webapp.datasets.findings import ROW, SPLIT, Rows, plural
from webapp.datasets.problems import Problem


def _select(rows: Rows, _code: str, column: str, _split: str) -> str:
    """By what is kept of each: its pixels no longer tell a value without a name from one that is left out on purpose."""
    named = next(each for each in rows.columns if each.name == column).facts["unknown"]["masks"]
    hashes = ", ".join(f"'{sha256}'" for sha256 in named)
    return (
        f"SELECT {SPLIT} AS split, {ROW} AS row FROM rows WHERE sha256({quoted(column)}.bytes) IN ({hashes})"
    )


SELECTS = {"mask_values": _select}


def find(rows: Rows, add: Callable[[Problem], None]) -> None:
    for column in rows.columns:
        unknown = column.facts.get("unknown")
        if column.kind != "mask" or not unknown:
            continue
        found = rows.ask(
            f"SELECT {SPLIT}, {ROW} FROM rows WHERE sha256({quoted(column.name)}.bytes) = '{unknown['masks'][0]}'"
            f" ORDER BY {SPLIT}, {ROW} LIMIT 1"
        )
        split, row = found[0] if found else ("", None)
        values = ", ".join(str(value) for value in unknown["values"][:10])
        add(
            Problem(
                "mask_values",
                f"{plural(unknown['count'], 'mask')} in “{column.name}” {'has' if unknown['count'] == 1 else 'have'} "
                f"values that no class has ({values}), first “{unknown['file']}”. Those pixels do not count.",
                "Name the values in the file of the classes, or draw those masks again.",
                severity="serious",
                file=unknown["file"],
                split=split,
                row=row,
                column=column.name,
                count=unknown["count"],
            )
        )
