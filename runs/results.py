"""What a run's numbers mean: final metrics beside the baseline, the one that matters most, the confusion matrix.

A run keeps metrics by name, with the split in front where it is not the test split. Their titles,
directions and units come from the task's declaration; a metric that it does not declare is shown by name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from runs.models import Run
from runs.training.tasks import all_tasks
from runs.training.tasks.common import MetricInfo, Task
from webapp.templatetags.ui import NO_VALUE, number, percent

SPLITS = (("", "Test"), ("validation_", "Validation"))
MOST_CLASSES = 40  # a larger confusion matrix says nothing; its worst confusions do


def task_of(run: Run) -> Task | None:
    """The run's task, or None if this installation no longer has it."""
    return next((task for task in all_tasks() if task.slug == run.task), None)


def method_title(run: Run) -> str:
    """As the task calls it, or the slug."""
    task = task_of(run)
    return (
        next((item.title for item in task.methods if item.slug == run.method), run.method)
        if task
        else run.method
    )


def shown(info: MetricInfo | None, value: Any) -> str:
    """A metric's value for people."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return NO_VALUE
    return percent(value) if info and info.percent else number(value)


def metric_info(task: Task | None, name: str) -> MetricInfo | None:
    """The declaration of a metric, with or without its split in front."""
    if task is None:
        return None
    try:
        return task.metric(name)
    except KeyError:
        return None


@dataclass(frozen=True)
class Score:
    """One metric on one split, beside the baseline's."""

    title: str
    help: str
    split: str
    value: str
    baseline: str
    difference: str  # signed, empty without a baseline
    better: bool | None  # than the baseline; None where that cannot be said
    is_main: bool


def scores(run: Run) -> list[Score]:
    """Metrics that the run reports, main metric first; test split if it has been scored, else validation."""
    task = task_of(run)
    if task is None:
        return []
    found: list[Score] = []
    baseline = run.baseline.get("metrics") or {}
    ordered = sorted(task.metrics, key=lambda item: item.name != task.main_metric)
    for prefix, split in _splits_of(run):
        for info in ordered:
            value = run.metrics.get(prefix + info.name)
            if isinstance(value, int | float):
                found.append(_score(info, split, value, baseline.get(prefix + info.name), task))
    return found


def _splits_of(run: Run) -> tuple[tuple[str, str], ...]:
    """Until a run has succeeded, `loss` without a split is the training loss, and nothing is of the test split."""
    return SPLITS if run.status == Run.Status.SUCCEEDED else SPLITS[1:]


def _score(info: MetricInfo, split: str, value: float, baseline: Any, task: Task) -> Score:
    difference, better = "", None
    if isinstance(baseline, int | float):
        change = value - baseline
        sign = "+" if change > 0 else "−" if change < 0 else "±"
        amount = f"{abs(change) * 100:.1f} points" if info.percent else number(abs(change))
        difference = f"{sign}{amount}"
        better = None if change == 0 else (change > 0) == info.higher_is_better
    return Score(
        title=info.title,
        help=info.help,
        split=split,
        value=shown(info, value),
        baseline=shown(info, baseline),
        difference=difference,
        better=better,
        is_main=info.name == task.main_metric,
    )


def headline(run: Run) -> tuple[str, str] | None:
    """The one number of a run for lists, as (title, value): test if it is there, else newest validation."""
    task = task_of(run)
    if task is None:
        return None
    for prefix, split in _splits_of(run):
        value = run.metrics.get(prefix + task.main_metric)
        if isinstance(value, int | float):
            info = task.metric(task.main_metric)
            title = info.title if not prefix else f"{info.title}, {split.lower()}"
            return title, shown(info, value)
    return None


@dataclass(frozen=True)
class Cell:
    """How often one class was taken for another."""

    count: int
    share: float  # of the row: of all that truly are this class
    level: int  # 0…9, the shade
    right: bool


@dataclass(frozen=True)
class Confusion:
    """The confusion matrix as a table: a row a true class, a column a predicted one."""

    labels: list[str]
    rows: list[tuple[str, list[Cell], int]]  # label, cells, total
    worst: list[tuple[str, str, int, float]]  # truth, prediction, count, share of the truth
    is_too_large: bool


def confusion(run: Run) -> Confusion | None:
    """From `results["confusion_matrix"]` (rows: truth) and `results["labels"]`; None if a run has none."""
    matrix, labels = run.results.get("confusion_matrix"), run.results.get("labels")
    if not isinstance(matrix, list) or not isinstance(labels, list) or len(matrix) != len(labels):
        return None
    names = [str(label) for label in labels]
    rows: list[tuple[str, list[Cell], int]] = []
    mistakes: list[tuple[str, str, int, float]] = []
    for position, counts in enumerate(matrix):
        total = sum(counts)
        cells = []
        for column, count in enumerate(counts):
            share = count / total if total else 0.0
            level = min(9, math.ceil(share * 9)) if count else 0
            cells.append(Cell(count, share, level, position == column))
            if count and position != column:
                mistakes.append((names[position], names[column], count, share))
        rows.append((names[position], cells, total))
    mistakes.sort(key=lambda item: (-item[2], -item[3]))
    return Confusion(names, rows, mistakes[:5], len(names) > MOST_CLASSES)
