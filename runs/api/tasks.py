"""Tasks over HTTP: what each needs and allows, for scripts that build their own forms."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema

from runs.training.tasks import all_tasks
from runs.training.tasks.common import Task
from webapp.api import ERRORS

router = Router(tags=["tasks"])


class RoleOut(Schema):
    """What a column is for, and the kinds of column that can do it."""

    name: str
    title: str
    help: str
    kinds: list[str]


class SettingOut(Schema):
    """Something to choose; `methods` is empty where every method has it."""

    name: str
    title: str
    help: str
    type: str
    default: Any
    defaults_by_method: dict[str, Any]
    minimum: float | None
    maximum: float | None
    choices: list[str]
    methods: list[str]


class MethodOut(Schema):
    slug: str
    title: str
    summary: str


class MetricOut(Schema):
    name: str
    title: str
    higher_is_better: bool


class TaskOut(Schema):
    """What a model can learn to do: what it needs and what it allows."""

    slug: str
    title: str
    summary: str
    model_kinds: list[str]
    columns: list[RoleOut]
    column_sets: list[list[str]]
    methods: list[MethodOut]
    settings: list[SettingOut]
    metrics: list[MetricOut]
    main_metric: str


def _task_out(task: Task) -> dict[str, Any]:
    return {
        "slug": task.slug,
        "title": task.title,
        "summary": task.summary,
        "model_kinds": list(task.model_kinds),
        "columns": [
            {"name": role.name, "title": role.title, "help": role.help, "kinds": list(role.kinds)}
            for role in task.roles
        ],
        "column_sets": [list(names) for names in task.column_sets],
        "methods": [{"slug": m.slug, "title": m.title, "summary": m.summary} for m in task.methods],
        "settings": [
            {
                "name": item.name,
                "title": item.title,
                "help": item.help,
                "type": item.type,
                "default": item.default,
                "defaults_by_method": dict(item.defaults_by_method),
                "minimum": item.minimum,
                "maximum": item.maximum,
                "choices": [str(value) for value, _title in item.choices],
                "methods": list(item.methods),
            }
            for item in task.settings
        ],
        "metrics": [
            {"name": m.name, "title": m.title, "higher_is_better": m.higher_is_better} for m in task.metrics
        ],
        "main_metric": task.main_metric,
    }


@router.get("", response={200: list[TaskOut], **ERRORS}, summary="List tasks")
def list_tasks(request: HttpRequest) -> Any:
    """What each task needs and allows."""
    return [_task_out(task) for task in all_tasks()]
