"""Making a run out of what a person chose: the same checks for the form and for the API.

Everything that can be known before training is checked here, so that a run that is queued can start;
a mistake is told with the name of the field that has to change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings as site
from django.db import IntegrityError
from django.utils import timezone

from runs import lifecycle, spreading
from runs.advice.fitting import columns_for
from runs.advice.memory import memory_needed
from runs.models import Run, Worker
from runs.training.settings import SettingsError, check_settings
from runs.training.tasks import all_tasks, get_task
from runs.training.tasks.common import Task
from webapp.accounts.models import User, Workspace
from webapp.catalog.models import BaseModel
from webapp.datasets.models import Dataset, DatasetVersion
from webapp.templatetags.ui import in_sentence


class LaunchError(Exception):
    """The run cannot be: `fields` has a sentence for each choice that has to change."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__(next(iter(fields.values())))
        self.fields: dict[str, str] = dict(fields)


@dataclass(frozen=True)
class Scheduling:
    """When and where a run may start, and for how long it may go on."""

    priority: int = Run.Priority.NORMAL
    not_before: datetime | None = None
    after: Run | None = None
    time_limit_seconds: int | None = None
    memory_bytes: int | None = None  # of one device; None: as estimated


def launch(
    *,
    workspace: Workspace,
    user: User,
    base_model: BaseModel,
    version: DatasetVersion,
    method: str,
    task: str = "",
    columns: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    name: str = "",
    scheduling: Scheduling | None = None,
    made_from: Run | None = None,
    devices: int = 1,
    hosts: int = 1,
    strategy: str = "",
) -> Run:
    """Check the choices and queue the run. What is left out is suggested by the dataset or the task.

    `devices` on each of so many `hosts` share the work by a `strategy` of runs/spreading.py.

    Raises LaunchError; its keys are `model`, `dataset`, `task`, `columns` or `columns.<role>`, `method`,
    `settings.<name>`, `after`, `not_before`, `time_limit_seconds`, `devices`, `hosts`, `strategy`.
    """
    scheduling = scheduling or Scheduling()
    _check_dataset(version, workspace)
    _check_scheduling(scheduling, workspace)
    chosen = _task(task, base_model, version)
    if base_model.details.get("missing"):
        raise LaunchError({"model": f"{base_model.name} is not installed. {base_model.details['missing']}"})
    if base_model.kind not in chosen.model_kinds:
        kind = base_model.get_kind_display().lower()
        raise LaunchError(
            {"model": f"{chosen.title} does not train a model of the kind “{kind}”; choose another."}
        )
    try:
        how = chosen.method(method)
    except KeyError:
        known = ", ".join(item.slug for item in chosen.methods)
        raise LaunchError(
            {"method": f"{chosen.title} has no method {method!r}; choose one of: {known}."}
        ) from None
    mapping = _columns(chosen, version, columns)
    try:
        checked = check_settings(chosen, how.slug, dict(settings or {}))
    except SettingsError as wrong:
        raise LaunchError({f"settings.{key}": text for key, text in wrong.fields.items()}) from wrong
    spread, unfit = spreading.checked(how, devices, hosts, strategy, checked)
    if unfit:
        raise LaunchError(unfit)
    run = Run(
        workspace=workspace,
        created_by=user,
        name=name.strip()[:200]
        or f"{base_model.name} on {version.dataset.name}, {in_sentence(how.title)}"[:200],
        base_model=base_model,
        dataset_version=version,
        dataset_name=version.dataset.name,
        dataset_hash=version.content_hash,
        task=chosen.slug,
        method=how.slug,
        columns=mapping,
        settings=checked,
        queue=queue_for_now(spread.devices),
        nodes=spread.hosts,
        processes=spread.devices,
        strategy=spread.strategy,
        attempts_allowed=site.MAX_ATTEMPTS,
        made_from=made_from if made_from and made_from.workspace_id == workspace.pk else None,
        priority=scheduling.priority,
        not_before=scheduling.not_before,
        after=scheduling.after,
        time_limit_seconds=scheduling.time_limit_seconds,
        memory_bytes=scheduling.memory_bytes or memory_needed(base_model, how.slug, checked),
    )
    try:
        return lifecycle.submit(run, user)
    except lifecycle.NotAllowed as refused:
        raise LaunchError({"after": str(refused)}) from refused
    except IntegrityError:
        if DatasetVersion.objects.filter(pk=version.pk).exists():
            raise
        raise LaunchError({"dataset": f"{version.dataset.name} has just been deleted."}) from None


def queue_for_now(devices: int = 1) -> str:
    """`gpu<n>` for so many devices a host while a worker with a GPU is alive, else `cpu`."""
    alive = Worker.objects.filter(last_seen_at__gt=timezone.now() - timedelta(seconds=site.LEASE_SECONDS * 2))
    return spreading.queue_for(devices, list(alive))


SHORTEST, LONGEST = 60, 366 * 86400  # seconds


def _check_scheduling(chosen: Scheduling, workspace: Workspace) -> None:
    wrong: dict[str, str] = {}
    after = chosen.after
    if after is not None and after.workspace_id != workspace.pk:
        wrong["after"] = "There is no such run in this workspace."
    elif after is not None and after.status in {Run.Status.FAILED, Run.Status.CANCELLED}:
        state = after.get_status_display().lower()
        wrong["after"] = f"“{after.name}” is {state}: choose a run that may still succeed, or none."
    if chosen.not_before is not None and chosen.not_before > timezone.now() + timedelta(seconds=LONGEST):
        wrong["not_before"] = "Choose a time within a year."
    limit = chosen.time_limit_seconds
    if limit is not None and not SHORTEST <= limit <= LONGEST:
        wrong["time_limit_seconds"] = "Choose a limit between a minute and a year."
    if wrong:
        raise LaunchError(wrong)


def _check_dataset(version: DatasetVersion, workspace: Workspace) -> None:
    dataset = version.dataset
    if dataset.workspace_id != workspace.pk:
        raise LaunchError({"dataset": "There is no such dataset in this workspace."})
    if dataset.status != Dataset.Status.READY:
        state = dataset.get_status_display().lower()
        raise LaunchError({"dataset": f"{dataset.name} is not ready: it is {state}."})


def _task(slug: str, base_model: BaseModel, version: DatasetVersion) -> Task:
    if slug:
        try:
            return get_task(slug)
        except KeyError as unknown:
            raise LaunchError({"task": str(unknown.args[0])}) from None
    suggested = (version.suggested or {}).get("task")
    fitting = [task for task in all_tasks() if base_model.kind in task.model_kinds]
    fitting = [task for task in fitting if columns_for(task, version.columns) is not None]
    for task in fitting:
        if task.slug == suggested:
            return task
    if fitting:
        return fitting[0]
    raise LaunchError(
        {
            "task": f"No task trains {base_model.name} on the columns of {version.dataset.name}; choose another dataset."
        }
    )


def _columns(task: Task, version: DatasetVersion, asked: Mapping[str, str] | None) -> dict[str, str]:
    """{role: column}, whole for one of the task's sets of roles."""
    if not asked:
        suggested = (version.suggested or {}).get("columns") or {}
        same_task = (version.suggested or {}).get("task") == task.slug
        asked = suggested if same_task and suggested else columns_for(task, version.columns) or {}
    present = {str(column["name"]): column for column in version.columns}
    roles = {role.name: role for role in task.roles}
    wrong: dict[str, str] = {}
    for role, column in asked.items():
        if role not in roles:
            wrong[f"columns.{role}"] = f"{task.title} has no role {role!r}; it has: {', '.join(roles)}."
        elif column not in present:
            wrong[f"columns.{role}"] = f"The dataset has no column {column!r}; it has: {', '.join(present)}."
        elif present[column]["kind"] not in roles[role].kinds:
            kinds = " or ".join(roles[role].kinds)
            wrong[f"columns.{role}"] = f"{column!r} is of kind {present[column]['kind']}; this needs {kinds}."
        elif "label" in roles[role].kinds and present[column].get("distinct") == 1:
            wrong[f"columns.{role}"] = f"{column!r} has one value only: there is nothing to tell apart."
    if wrong:
        raise LaunchError(wrong)
    if not any(set(names) <= set(asked) for names in task.column_sets):
        needed = " – or ".join(
            " and ".join(in_sentence(roles[name].title) for name in names) for names in task.column_sets
        )
        raise LaunchError({"columns": f"{task.title} needs columns for: {needed}."})
    if len(set(asked.values())) < len(asked):
        raise LaunchError({"columns": "One column cannot play two roles; choose another for one of them."})
    return dict(asked)
