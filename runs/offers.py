"""Which models and datasets a new run is offered, and why not the rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from runs.advice.fitting import fitting_tasks, tasks_of_model, why_not_dataset, why_not_model
from runs.training.tasks import all_tasks
from webapp.catalog.models import BaseModel
from webapp.datasets.models import Dataset


@dataclass(frozen=True)
class Option:
    """A model or dataset that is offered."""

    thing: Any
    chosen: bool
    note: str = ""  # why choosing it takes something else out
    tasks: tuple[str, ...] = ()  # titles of what it can be used for


@dataclass(frozen=True)
class Refused:
    """One that is not offered, and why."""

    name: str
    reason: str


def models(found: Iterable[BaseModel], chosen: BaseModel | None, dataset: Dataset | None) -> list[Option]:
    """Models that can be trained; those that fit the chosen dataset first."""
    options = []
    for model in found:
        tasks = tasks_of_model(model)
        if not tasks:
            continue
        fits = dataset is None or not dataset.version or fitting_tasks(model, dataset.version)
        note = "" if fits or model == chosen or dataset is None else f"needs other data than {dataset.name}"
        options.append(Option(model, model == chosen, note, tuple(task.title for task in tasks)))
    return sorted(options, key=lambda option: bool(option.note))


def refused_models(found: Iterable[BaseModel]) -> list[Refused]:
    """Models of which no task makes anything."""
    return [
        Refused(model.name, why_not_model(model, all_tasks())) for model in found if not tasks_of_model(model)
    ]


def datasets(found: Iterable[Dataset], model: BaseModel | None, chosen: Dataset | None) -> list[Option]:
    """Datasets that fit the model; all that any task can use while none is chosen."""
    options = []
    for dataset in found:
        if tasks := fitting_tasks(model, dataset.version):
            options.append(Option(dataset, dataset == chosen, "", tuple(task.title for task in tasks)))
    return options


def refused_datasets(found: Iterable[Dataset], model: BaseModel | None) -> list[Refused]:
    """Datasets that do not fit the model."""
    tasks = tasks_of_model(model) if model else list(all_tasks())
    return [
        Refused(dataset.name, why_not_dataset(dataset.version, tasks))
        for dataset in found
        if dataset.version and not fitting_tasks(model, dataset.version)
    ]
