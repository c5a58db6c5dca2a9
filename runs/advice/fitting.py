"""Which models, datasets and tasks go together, and what is in the way where they do not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from runs.training.tasks import all_tasks
from runs.training.tasks.common import Role, Task
from webapp.catalog.models import BaseModel
from webapp.datasets.models import DatasetVersion
from webapp.templatetags.ui import in_sentence

Columns = Sequence[dict[str, Any]]  # of a dataset version: [{name, kind, …}]


def tasks_of_model(model: BaseModel) -> list[Task]:
    """What this model can learn; nothing while its files are not installed."""
    if model.details.get("missing"):
        return []
    return [task for task in all_tasks() if model.kind in task.model_kinds]


def candidates(role: Role, columns: Columns) -> list[str]:
    """The columns whose kind suits the role, those with a usual name first, then as they stand."""
    usual = {name: place for place, name in enumerate(role.usual_names)}
    kinds = {kind: place for place, kind in enumerate(role.kinds)}
    suiting = [column for column in columns if column["kind"] in kinds]

    def order(column: dict[str, Any]) -> tuple[int, int]:
        return usual.get(str(column["name"]).strip().lower(), len(usual)), kinds[column["kind"]]

    return [str(column["name"]) for column in sorted(suiting, key=order)]


def columns_for(task: Task, columns: Columns) -> dict[str, str] | None:
    """A mapping {role: column} that makes examples for the task, or None if no set of roles can be filled."""
    roles = {role.name: role for role in task.roles}
    for role_names in task.column_sets:
        taken: dict[str, str] = {}
        for name in role_names:
            free = [column for column in candidates(roles[name], columns) if column not in taken.values()]
            if not free:
                break
            taken[name] = free[0]
        else:
            return taken
    return None


def fitting_tasks(model: BaseModel | None, version: DatasetVersion | None) -> list[Task]:
    """The tasks that the model can learn and that the dataset has columns for; None means "any"."""
    able = list(all_tasks()) if model is None else tasks_of_model(model)
    return [task for task in able if version is None or columns_for(task, version.columns) is not None]


def why_not_model(model: BaseModel, tasks: Iterable[Task]) -> str:
    """Why this model cannot be chosen with these tasks left; empty if it can."""
    if missing := str(model.details.get("missing", "")):
        return f"it is not installed: {missing[0].lower()}{missing[1:].rstrip('.')}"
    if any(model.kind in task.model_kinds for task in tasks):
        return ""
    able = tasks_of_model(model)
    if not able:
        return f"nothing here trains {model.get_kind_display().lower()} yet"
    return f"it learns {_listed(in_sentence(task.title) for task in able)}, and the dataset has no columns for that"


def why_not_dataset(version: DatasetVersion, tasks: Iterable[Task]) -> str:
    """Why this dataset cannot be chosen with these tasks left; empty if it can."""
    tasks = list(tasks)
    if any(columns_for(task, version.columns) is not None for task in tasks):
        return ""
    needed = dict.fromkeys(" and ".join(_kind(task, name) for name in task.column_sets[0]) for task in tasks)
    return f"the model needs {' or '.join(needed)}" if needed else "the model cannot be trained here yet"


def _kind(task: Task, role_name: str) -> str:
    role = next(role for role in task.roles if role.name == role_name)
    return (
        f"a column of {role.kinds[0]}"
        if role.kinds[0] in {"text", "messages"}
        else f"a column of {role.kinds[0]}s"
    )


def _listed(words: Iterable[str]) -> str:
    found = list(words)
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"
