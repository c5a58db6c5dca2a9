"""The charts of a version's columns as SVG shapes: how often each class stands in each split, how long texts are.

Splits are compared by shares of their rows, since one is many times the others; the numbers are in a table beside.
Units are those of the SVG's viewBox, WIDTH wide.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

WIDTH = 420
PLOT, LEFT, RIGHT = 130, 40, 8  # height and margins of a histogram
NAMES, NUMBERS, THICK, GAP = 120, 62, 7, 9  # of a chart of classes
MOST_CLASSES = 20
LONGEST_NAME = 18


@dataclass(frozen=True)
class Bar:
    """A rectangle; `series`: number of its split's colour; `told`: what it says when pointed at."""

    x: float
    y: float
    width: float
    height: float
    series: int
    told: str


@dataclass(frozen=True)
class Mark:
    """A text; `whole` where it is cut."""

    x: float
    y: float
    text: str
    whole: str = ""


@dataclass(frozen=True)
class Chart:
    """What templates/components/histogram.html draws."""

    title: str
    height: int
    bars: list[Bar]
    lines: list[tuple[int, str]]  # (series, the path of its outline)
    names: list[Mark]  # along the side
    ticks: list[Mark]  # below, or behind the bars
    grid: list[float]  # heights of lines across
    splits: list[tuple[int, str]]  # (series, split)
    heads: list[str]
    rows: list[tuple[str, list[int]]]  # the table: (class or bin, rows of each split)
    of: str = "rows"  # what is counted
    hidden: int = 0  # classes without a bar: they are in the table
    is_classes: bool = False
    width: int = field(default=WIDTH)


def chart_of(column: dict[str, Any], splits: dict[str, int]) -> Chart | None:
    """The chart of a column; None for one without (other kinds, and versions made before there were charts)."""
    usual = [name for name in ("train", "validation", "test") if splits.get(name)]
    names = usual + [name for name, rows in splits.items() if rows and name not in usual]
    if column.get("counts"):
        return _classes(column, names)
    if column.get("histogram"):
        return _histogram(column, names)
    return None


def _share(count: int, total: int) -> float:
    return count / total if total else 0.0


def _classes(column: dict[str, Any], splits: list[str]) -> Chart:
    counts: dict[str, dict[str, int]] = {split: column["counts"].get(split, {}) for split in splits}
    found = {name for split in counts.values() for name in split}
    order = sorted(found, key=lambda name: (-sum(each.get(name, 0) for each in counts.values()), name))
    if column["kind"] == "integer" and len(order) <= MOST_CLASSES:
        order = sorted(found, key=int)
    totals = {split: sum(counts[split].values()) for split in splits}
    of = {"objects": "boxes", "tags": "tokens", "mask": "pixels"}.get(column["kind"], "rows")
    shown = order[:MOST_CLASSES]
    most = max((_share(counts[s].get(n, 0), totals[s]) for s in splits for n in shown), default=0.0) or 1.0
    room = WIDTH - NAMES - NUMBERS
    bars, names, ticks, y = [], [], [], 2.0
    for name in shown:
        total = sum(counts[split].get(name, 0) for split in splits)
        middle = y + len(splits) * THICK / 2 + 4
        told = name if name.strip() else "(blank)"
        cut = told if len(told) <= LONGEST_NAME else f"{told[: LONGEST_NAME - 1]}…"
        names.append(Mark(NAMES - 8, round(middle, 1), cut, told))
        ticks.append(Mark(WIDTH, round(middle, 1), f"{total:,}"))
        for series, split in enumerate(splits, start=1):
            count = counts[split].get(name, 0)
            share = _share(count, totals[split])
            width = round(max(room * share / most, 1.0 if count else 0.0), 1)
            said = f"{told}: {count:,} of {totals[split]:,} {split} {of}, {share:.1%}"
            bars.append(Bar(NAMES, round(y, 1), width, THICK - 1, series, said))
            y += THICK
        y += GAP
    return Chart(
        title=f"{of.capitalize()} of each class of {column['name']}",
        height=round(y),
        bars=bars,
        lines=[],
        names=names,
        ticks=ticks,
        grid=[],
        splits=list(enumerate(splits, start=1)),
        heads=["Class", *splits],
        rows=[(name, [counts[split].get(name, 0) for split in splits]) for name in order],
        of=of,
        hidden=len(order) - len(shown),
        is_classes=True,
    )


def _histogram(column: dict[str, Any], splits: list[str]) -> Chart:
    said = column["histogram"]
    edges: list[float] = said["edges"]
    counts: dict[str, list[int]] = {split: list(said["counts"].get(split, [])) for split in splits}
    bins = [f"{_number(low)} to {_number(high)}" for low, high in pairwise(edges)]
    if any(each and each[-1] for each in counts.values()):
        bins.append(f"{_number(edges[-1])} and more")
    totals = {split: sum(counts[split]) for split in splits}
    shares = {
        split: [_share(count, totals[split]) for count in counts[split][: len(bins)]] for split in splits
    }
    most = max((share for each in shares.values() for share in each), default=0.0) or 1.0
    each = (WIDTH - LEFT - RIGHT) / len(bins)

    def height(share: float) -> float:
        return round(PLOT * share / most, 1)

    bars, lines = [], []
    for series, split in enumerate(splits, start=1):
        path = [f"M{LEFT} {PLOT + 8}"]
        for place, share in enumerate(shares[split]):
            left, tall = LEFT + place * each, height(share)
            if series == 1:
                told = f"{bins[place]}: {counts[split][place]:,} {split} rows, {share:.1%}"
                bars.append(
                    Bar(round(left + 1, 1), round(PLOT + 8 - tall, 1), round(each - 2, 1), tall, 1, told)
                )
            path.append(f"V{PLOT + 8 - tall:.1f}H{left + each:.1f}")
        if series > 1:
            lines.append((series, f"{''.join(path)}V{PLOT + 8}"))
    every = max(1, -(-len(edges) // 5))
    ticks = [
        Mark(round(LEFT + place * each, 1), PLOT + 24, _number(edge))
        for place, edge in enumerate(edges)
        if place % every == 0
    ]
    return Chart(
        title=f"{'Length of' if said['of'] == 'characters' else 'Values of'} {column['name']}",
        height=PLOT + 30,
        bars=bars,
        lines=lines,
        names=[
            Mark(LEFT - 6, 14, f"{most:.0%}" if most >= 0.1 else f"{most:.1%}"),
            Mark(LEFT - 6, PLOT + 11, "0"),
        ],
        ticks=ticks,
        grid=[8, 8 + PLOT / 2, 8 + PLOT],
        splits=list(enumerate(splits, start=1)),
        heads=["Characters" if said["of"] == "characters" else "Value", *splits],
        rows=[
            (name, [counts[split][place] if place < len(counts[split]) else 0 for split in splits])
            for place, name in enumerate(bins)
        ],
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.6g}"
