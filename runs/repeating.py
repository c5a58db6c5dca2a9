"""A run that is made from another: what of it is taken over."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from django.utils import timezone

from runs.advice.memory import memory_needed
from runs.launch import LaunchError, Scheduling, launch
from runs.models import Run
from runs.results import task_of
from runs.spreading import spread_of
from webapp.accounts.models import User
from webapp.catalog.models import BaseModel
from webapp.datasets.models import DatasetVersion

NUMBERED = re.compile(r"^(.*) \((\d+)\)$")


def copy_name(name: str) -> str:
    """`X (2)` for X, `X (3)` for that."""
    found = NUMBERED.match(name)
    base, count = (found[1], int(found[2])) if found else (name, 1)
    ending = f" ({count + 1})"
    return base[: 200 - len(ending)] + ending


def said_memory(run: Run) -> int | None:
    """The memory that somebody gave; None where it is only what was estimated."""
    estimated = memory_needed(run.base_model, run.method, run.settings)
    return run.memory_bytes if run.memory_bytes != estimated else None


def scheduling_of(run: Run) -> dict[str, Any]:
    """What the form of a copy begins with; a time that has passed and a run that is over are left out."""
    limit, memory = run.time_limit_seconds, said_memory(run)
    values: dict[str, Any] = {"priority": run.priority}
    if run.not_before is not None and run.not_before > timezone.now():
        values["not_before"] = timezone.localtime(run.not_before)
    if run.after is not None and not run.after.is_over:
        values["after"] = str(run.after_id)
    if limit:
        values["time_limit_hours"] = f"{limit / 3600:.6g}"
    if memory:
        values["memory_gb"] = f"{memory / 1e9:.6g}"
    return values


def repeat(
    run: Run,
    by: User,
    *,
    name: str = "",
    base_model: BaseModel | None = None,
    version: DatasetVersion | None = None,
    task: str = "",
    method: str = "",
    columns: dict[str, str] | None = None,
    settings: dict[str, Any] | None = None,
    scheduling: dict[str, Any] | None = None,
) -> Run:
    """Launch a copy of a run with some things changed; raises LaunchError.

    Settings that are given join those of the run, as long as task and method stay what they were.
    """
    version = version or run.dataset_version
    if version is None:
        raise LaunchError({"dataset": f"“{run.dataset_name}” has been deleted: name another dataset."})
    same_task = not task or task == run.task
    same_method = same_task and (not method or method == run.method)
    if columns is None and same_task and version.pk == run.dataset_version_id:
        columns = run.columns
    own = Scheduling(
        priority=run.priority,
        not_before=run.not_before if run.not_before and run.not_before > timezone.now() else None,
        after=run.after if run.after is not None and not run.after.is_over else None,
        time_limit_seconds=run.time_limit_seconds,
        memory_bytes=said_memory(run),
    )
    return launch(
        workspace=run.workspace,
        user=by,
        base_model=base_model or run.base_model,
        version=version,
        task=task or run.task,
        method=method or run.method,
        columns=columns,
        settings={**(_settings_of(run) if same_method else {}), **(settings or {})},
        name=name or copy_name(run.name),
        scheduling=dataclasses.replace(own, **(scheduling or {})),
        made_from=run,
        **spread_of(run, method or run.method),
    )


def _settings_of(run: Run) -> dict[str, Any]:
    """Those that its method still has."""
    task = task_of(run)
    declared = {item.name for item in task.settings_for(run.method)} if task is not None else set()
    return {name: value for name, value in run.settings.items() if name in declared}
