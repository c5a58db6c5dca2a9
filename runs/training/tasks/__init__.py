"""Finds the tasks: every module here that has a `TASK` is one. Nothing else lists them."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from runs.training.tasks.common import Task


@cache
def all_tasks() -> tuple[Task, ...]:
    """Every task, in the order of its `order` and title."""
    found: list[Task] = []
    for module in pkgutil.iter_modules(__path__):
        task = getattr(importlib.import_module(f"{__name__}.{module.name}"), "TASK", None)
        if isinstance(task, Task):
            found.append(task)
    return tuple(sorted(found, key=lambda task: (task.order, task.title)))


def get_task(slug: str) -> Task:
    """The task with this slug; raises KeyError with the slugs that exist."""
    for task in all_tasks():
        if task.slug == slug:
            return task
    raise KeyError(f"There is no task {slug!r}; there are: {', '.join(t.slug for t in all_tasks())}.")
