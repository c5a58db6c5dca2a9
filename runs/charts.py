"""A run's series for its charts: at most about 1,000 buckets each, computed in Postgres.

A client that has drawn some asks for what is newer: `since` holds the last step it has of each series.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from django.db import connection

from runs.models import Run
from runs.training.tasks.common import Task

BUCKETS = 1000

# Names of a run's series without reading all of its points: each step of the recursion jumps, by
# the index metric_chart_points, to the first series after the one before.
POINTS = """
WITH RECURSIVE known(series) AS (
    SELECT min(series) FROM runs_metric WHERE run_id = %(run)s
    UNION ALL
    SELECT (SELECT min(series) FROM runs_metric WHERE run_id = %(run)s AND series > known.series)
    FROM known WHERE known.series IS NOT NULL
), bounds AS (
    SELECT series, since,
           (SELECT min(step) FROM runs_metric WHERE run_id = %(run)s AND series = k.series AND step > since) AS low,
           (SELECT max(step) FROM runs_metric WHERE run_id = %(run)s AND series = k.series AND step > since) AS high
    FROM (
        SELECT series, coalesce((%(since)s::jsonb ->> series)::bigint, -1) AS since
        FROM known WHERE series IS NOT NULL
    ) k
)
SELECT b.series, max(m.step), min(m.value), avg(m.value), max(m.value)
FROM bounds b
JOIN runs_metric m ON m.run_id = %(run)s AND m.series = b.series AND m.step > b.since
WHERE b.low IS NOT NULL AND m.value NOT IN ('NaN', 'Infinity', '-Infinity')
GROUP BY b.series, (m.step - b.low) / greatest(1, (b.high - b.low + %(buckets)s) / %(buckets)s)
ORDER BY 1, 2
"""


def points(run_id: int, since: dict[str, int] | None = None) -> dict[str, dict[str, list[float]]]:
    """{series: {step, min, mean, max}}: lists of one length; step is the last of its bucket.

    Without `since`, everything; with it, only what is newer, series by series. A series with nothing
    newer is left out.
    """
    found: dict[str, dict[str, list[float]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(POINTS, {"run": run_id, "since": json.dumps(since or {}), "buckets": BUCKETS})
        for series, step, low, mean, high in cursor.fetchall():
            lists = found.setdefault(series, {"step": [], "min": [], "mean": [], "max": []})
            lists["step"].append(step)
            for name, value in (("min", low), ("mean", mean), ("max", high)):
                lists[name].append(float(f"{value:.6g}"))
    return found


def parse_since(text: str) -> dict[str, int]:
    """`loss:120,validation_loss:100` as a mapping; what cannot be read is left out, so it is sent again."""
    found: dict[str, int] = {}
    for part in text.split(",")[:200]:
        series, _, step = part.rpartition(":")
        if series and series.isprintable() and step.isdecimal() and len(step) < 16:
            found[series] = int(step)
    return found


@dataclass(frozen=True)
class Line:
    """A series in a chart."""

    series: str
    label: str
    color: int  # 1…8: --tb-series-N


@dataclass(frozen=True)
class Chart:
    """What one chart shows, and what stands in it until there are points."""

    title: str
    lines: tuple[Line, ...]
    waiting: str
    percent: bool = False
    help: str = ""
    unit: str = ""  # behind each value; "bytes": as sizes
    top: float | None = None  # the axis goes from 0 to this
    time: bool = False  # steps are seconds since 1970

    @property
    def definition(self) -> str:
        """As JSON for static/js/charts.js."""
        lines = [{"series": line.series, "label": line.label, "color": line.color} for line in self.lines]
        said: dict[str, Any] = {"title": self.title, "lines": lines, "percent": self.percent}
        said |= {name: value for name in ("unit", "top", "time") if (value := getattr(self, name))}
        return json.dumps(said)


def charts_of(task: Task | None) -> list[Chart]:
    """Loss, then the task's metrics on the validation split with the main one first, then the learning rate."""
    loss = Chart(
        "Loss",
        (Line("loss", "Training", 1), Line("validation_loss", "Validation", 2)),
        "Appears with the first training steps.",
        help="How far the model's answers are from the right ones. Validation rising while training falls means overfitting.",
    )
    rate = Chart(
        "Learning rate",
        (Line("learning_rate", "Learning rate", 4),),
        "Appears with the first training steps.",
    )
    if task is None:
        return [loss, rate]
    ordered = sorted(task.metrics, key=lambda item: item.name != task.main_metric)
    metrics = [
        Chart(
            f"{item.title} on validation rows",
            (Line(f"validation_{item.name}", item.title, 3),),
            "Appears with the first evaluation.",
            percent=item.percent,
            help=item.help,
        )
        for item in ordered
        if item.name != "loss"
    ]
    if task.main_metric == "loss":
        return [loss, *metrics, rate]
    return [*metrics[:1], loss, *metrics[1:], rate]


def newest_table(run: Run, charts: list[Chart]) -> list[tuple[str, str, Any]]:
    """(chart, line, newest value), for readers of the page who do not see charts."""
    rows = []
    for chart in charts:
        for line in chart.lines:
            value = run.metrics.get(line.series)
            if isinstance(value, int | float) and math.isfinite(value):
                rows.append((chart.title, line.label, value))
    return rows
