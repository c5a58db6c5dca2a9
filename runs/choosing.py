"""A new run while it is being put together: what has been chosen, what is offered next, and why not the rest.

The model leads: a dataset that does not fit it is taken out and the page says why. A task or method that
is not chosen, or no longer fits, is the suggested one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from django.db.models.functions import Lower

from runs import offers
from runs.advice.fitting import fitting_tasks, tasks_of_model, why_not_dataset
from runs.advice.memory import Memory, estimate
from runs.advice.methods import Advice, optimiser_steps, suggested_method
from runs.fleet import Fleet, fleet
from runs.forms import ColumnsForm, NameForm, SettingsForm, WhenForm
from runs.launch import queue_for_now
from runs.models import Run
from runs.offers import Option, Refused
from runs.queueing.routing import online, why_nowhere
from runs.repeating import copy_name, scheduling_of
from runs.spreading import ALONE, Spread, SpreadForm, batch_sentence, what_is_missing
from runs.training.tasks import all_tasks
from runs.training.tasks.common import Method, Task
from webapp.catalog.models import BaseModel
from webapp.datasets.models import Dataset, DatasetVersion
from webapp.datasets.versions import find_version
from webapp.requests import Request

# What the launch calls them, and where they stand in the form.
WHEN_FIELDS = {"after": "after", "not_before": "not_before", "time_limit_seconds": "time_limit_hours"}


def _number(text: Any) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


class Choosing:
    """The state of the page, out of its address (a link that prefills) or of the form as it was last sent."""

    def __init__(self, request: Request, data: Mapping[str, Any], *, launching: bool = False) -> None:
        self.request = request
        self.launching = launching
        self.again = self._run_to_repeat(data.get("from"))
        # A link that duplicates says little more than which run; the form, once shown, says everything.
        self._is_link = self.again is not None and request.method == "GET"
        self.data: Mapping[str, Any] = (
            self._of_run(self.again, data) if self.again and self._is_link else data
        )
        name = copy_name(self.again.name) if self.again and self._is_link else data.get("name", "")
        self.name_form = NameForm(self.data if launching else None, initial={"name": name})
        # A link may ask for settings, too: `settings-learning_rate=0.0001`.
        self.asked_settings = {
            name.removeprefix("settings-"): value
            for name, value in data.items()
            if name.startswith("settings-")
        }

    def _run_to_repeat(self, pk: Any) -> Run | None:
        if not str(pk or "").isdecimal():
            return None
        runs = Run.objects.visible_to(self.request.user).select_related("base_model", "dataset_version")
        found: Run | None = runs.filter(pk=int(pk)).first()
        return found

    @staticmethod
    def _of_run(run: Run, data: Mapping[str, Any]) -> dict[str, Any]:
        version = run.dataset_version
        start = {"model": run.base_model.slug, "task": run.task, "method": run.method}
        if version is not None:
            start["dataset"] = str(version.dataset_id)
            start["version"] = f"{version.dataset_id}:{version.number}"
        return {**start, **{name: value for name, value in data.items() if name in start and value}}

    # -- model and dataset -------------------------------------------------------------------------
    @cached_property
    def _models(self) -> list[BaseModel]:
        return list(BaseModel.objects.visible_to(self.request.user).order_by(Lower("name")))

    @cached_property
    def _datasets(self) -> list[Dataset]:
        ready = Dataset.objects.filter(workspace=self.request.workspace, status=Dataset.Status.READY)
        found = list(ready.exclude(version=None).select_related("version"))
        for dataset in found:
            self._choose_version(dataset)
        return found

    def _choose_version(self, dataset: Dataset) -> None:
        """The one that was chosen, `<dataset>:<number>`; it stands only here for the dataset's own."""
        pk, _, number = str(self.data.get("version") or "").partition(":")
        if pk == str(dataset.pk) and number:
            dataset.version = find_version(dataset, number) or dataset.version

    @cached_property
    def versions(self) -> list[tuple[str, str, bool]]:
        """(value, label, whether it is chosen) of the versions of the chosen dataset; empty where it has one."""
        dataset = self.dataset
        if dataset is None:
            return []
        current = Dataset.objects.values_list("version_id", flat=True).get(pk=dataset.pk)
        found = list(dataset.versions.order_by("-number").only("number", "change", "rows"))
        return [
            (
                f"{dataset.pk}:{each.number}",
                f"Version {each.number}{' (usual)' if each.pk == current else ''}: "
                f"{each.change.get('says') or 'as it was uploaded.'}"[:120],
                dataset.version is not None and each.pk == dataset.version.pk,
            )
            for each in (found if len(found) > 1 else [])
        ]

    @cached_property
    def model(self) -> BaseModel | None:
        found = next((model for model in self._models if model.slug == self.data.get("model")), None)
        return found if found and tasks_of_model(found) else None

    @cached_property
    def asked_dataset(self) -> Dataset | None:
        """The dataset that was chosen, whether or not it fits the model."""
        return next((item for item in self._datasets if str(item.pk) == self.data.get("dataset")), None)

    @cached_property
    def dataset(self) -> Dataset | None:
        asked = self.asked_dataset
        return asked if asked and fitting_tasks(self.model, asked.version) else None

    @property
    def version(self) -> DatasetVersion | None:
        return self.dataset.version if self.dataset else None

    @property
    def dropped(self) -> str:
        """Why the chosen dataset was taken out; empty if it was not."""
        asked = self.asked_dataset
        if asked is None or self.dataset is not None or asked.version is None:
            return ""
        tasks = tasks_of_model(self.model) if self.model else list(all_tasks())
        name = f" “{self.model.name}”" if self.model else ""
        return f"“{asked.name}” does not fit the model{name}: {why_not_dataset(asked.version, tasks)}."

    @cached_property
    def models(self) -> list[Option]:
        """Models that can be trained; those that fit the chosen dataset first."""
        return offers.models(self._models, self.model, self.dataset)

    @cached_property
    def refused_models(self) -> list[Refused]:
        return offers.refused_models(self._models)

    @cached_property
    def datasets(self) -> list[Option]:
        """Datasets that fit the model."""
        return offers.datasets(self._datasets, self.model, self.dataset)

    @cached_property
    def refused_datasets(self) -> list[Refused]:
        return offers.refused_datasets(self._datasets, self.model)

    # -- task and method ---------------------------------------------------------------------------
    @cached_property
    def tasks(self) -> list[Task]:
        """What model and dataset can be used for together; empty until both are chosen."""
        return fitting_tasks(self.model, self.version) if self.model and self.version else []

    @cached_property
    def task(self) -> Task | None:
        suggested = self.version.suggested.get("task") if self.version else None
        for slug in (self.data.get("task"), suggested):
            for task in self.tasks:
                if task.slug == slug:
                    return task
        return self.tasks[0] if self.tasks else None

    @cached_property
    def fleet(self) -> Fleet:
        return fleet()

    @cached_property
    def advice(self) -> Advice | None:
        """The method to begin with."""
        if self.task is None:
            return None
        return suggested_method(self.task, self.training_rows, self.fleet.has_gpu)

    @cached_property
    def method(self) -> Method | None:
        if self.task is None or self.advice is None:
            return None
        by_slug = {method.slug: method for method in self.task.methods}
        return by_slug.get(str(self.data.get("method"))) or by_slug[self.advice.method]

    # -- columns and settings ----------------------------------------------------------------------
    @cached_property
    def columns_form(self) -> ColumnsForm | None:
        if self.task is None or self.version is None:
            return None
        if self.launching:
            return ColumnsForm(self.data, task=self.task, columns=self.version.columns)
        known = ColumnsForm(None, task=self.task, columns=self.version.columns)
        suggested = self.version.suggested
        initial = dict(known.initial)
        if suggested.get("task") == self.task.slug:
            initial |= suggested.get("columns") or {}
        if self.again and self.again.task == self.task.slug:
            initial |= self.again.columns
        initial |= {
            role: self.data[f"columns-{role}"]
            for role, field in known.fields.items()
            if self._was_shown(same_method=False)
            and self.data.get(f"columns-{role}") in dict(getattr(field, "choices", []))
        }
        return ColumnsForm(None, task=self.task, columns=self.version.columns, initial=initial)

    @cached_property
    def settings_form(self) -> SettingsForm | None:
        if self.task is None or self.method is None:
            return None
        if self.launching:
            return SettingsForm(self.data, task=self.task, method=self.method.slug)
        return SettingsForm(None, task=self.task, method=self.method.slug, initial=self._kept_settings())

    def _was_shown(self, *, same_method: bool = True) -> bool:
        """Whether the form that was sent is of the task (and method) that is shown now."""
        assert self.task is not None and self.method is not None
        same = self.data.get("shown_task") == self.task.slug
        return same and (not same_method or self.data.get("shown_method") == self.method.slug)

    @property
    def is_unseen(self) -> bool:
        """Whether the form that was sent had the settings of another task or method than is chosen in it."""
        return self.task is not None and not self._was_shown()

    def _kept_settings(self) -> dict[str, Any]:
        """What was typed, but for values that were only the default of the method before."""
        assert self.task is not None and self.method is not None
        if not self._was_shown(same_method=False):
            again = self.again
            is_same = again and (again.task, again.method) == (self.task.slug, self.method.slug)
            declared = {item.name for item in self.task.settings_for(self.method.slug)}
            asked = {name: value for name, value in self.asked_settings.items() if name in declared}
            return {**(again.settings if again and is_same else {}), **asked}
        kept: dict[str, Any] = {}
        before = str(self.data.get("shown_method"))
        for item in self.task.settings_for(before):
            typed = self.data.get(f"settings-{item.name}")
            if item.type == "bool":
                typed = typed is not None
            if str(typed) != str(item.default_for(before)):
                kept[item.name] = "" if typed is None else typed
        return kept

    @cached_property
    def estimate(self) -> Memory | None:
        """The memory that the run may need on each device, as the settings are now."""
        if self.model is None or self.task is None or self.method is None:
            return None
        return estimate(self.model, self.method.slug, self._current_settings())

    @cached_property
    def when_form(self) -> WhenForm:
        total = self.estimate.total if self.estimate else None
        workspace = self.request.workspace
        if self.launching:
            return WhenForm(self.data, workspace=workspace, estimate=total)
        if self._is_link and self.again:
            initial = scheduling_of(self.again)
        else:
            typed = {
                name.partition("-")[2]: self.data[name] for name in self.data if name.startswith("when-")
            }
            initial = {name: value for name, value in typed.items() if value}
        return WhenForm(None, workspace=workspace, estimate=total, initial=initial)

    @cached_property
    def spread_form(self) -> SpreadForm:
        if self.launching:
            return SpreadForm(self.data)
        again = self.again
        if self._is_link and again:
            initial: dict[str, Any] = {
                "devices": again.processes,
                "hosts": again.nodes,
                "strategy": again.strategy or "ddp",
            }
        else:
            names = ("devices", "hosts", "strategy")
            typed = {name: self.data.get(f"spread-{name}") for name in names}
            initial = {name: value for name, value in typed.items() if value}
        return SpreadForm(None, initial=initial)

    @property
    def spread(self) -> Spread:
        """Devices and hosts as they stand in the form; one where the method cannot share its work."""
        return self.spread_form.current_for(self.method)

    @property
    def can_be_spread(self) -> bool:
        """Whether several devices could share the method's work."""
        return self.method is not None and self.method.slug not in ALONE

    @property
    def rows_a_step(self) -> str:
        """How the batch of an optimiser step comes about, where several devices have their part in it."""
        return batch_sentence(self.spread, self._current_settings())

    @cached_property
    def nowhere(self) -> str:
        """Why no worker that is online could hold the run; empty if one could, or none is online at all."""
        if self.task is None or not self.fleet.workers:
            return ""
        said = _number(self.when_form["memory_gb"].value())
        memory = round(said * 1e9) if said else self.estimate.total if self.estimate else None
        missing = what_is_missing(self.spread, online())
        return missing or why_nowhere(queue_for_now(self.spread.devices), memory)

    # -- what will happen --------------------------------------------------------------------------
    @property
    def training_rows(self) -> int | None:
        return self.version.splits.get("train") if self.version else None

    @property
    def splits(self) -> list[tuple[str, int]]:
        """(title, rows) in the order they are used."""
        rows = self.version.splits if self.version else {}
        return [(name.title(), rows[name]) for name in ("train", "validation", "test") if rows.get(name)]

    @property
    def steps(self) -> int | None:
        """Optimiser steps that the settings come to, or None if that cannot be told yet."""
        if not self.training_rows:
            return None
        return optimiser_steps(self.training_rows, self._current_settings(), self.spread.processes)

    def _current_settings(self) -> dict[str, Any]:
        """Every setting as it stands in the form, by its default where it is empty or wrong."""
        form = self.settings_form
        if form is None or self.task is None or self.method is None:
            return {}
        values = {item.name: item.default_for(self.method.slug) for item in form.declared}
        if form.is_bound:
            values |= form.chosen() if form.is_valid() else {}
        else:
            probe = {
                f"settings-{name}": value
                for name, value in form.initial.items()
                if value not in (None, False)
            }
            typed = SettingsForm(probe, task=self.task, method=self.method.slug)
            values |= {name: value for name, value in typed.current().items() if value not in (None, "")}
        return values

    @property
    def is_complete(self) -> bool:
        """Whether the run could be launched as far as the choices go."""
        return self.task is not None

    def missing(self) -> str:
        """What has to be chosen next; empty when nothing is."""
        if self.model is None:
            return "Choose a model."
        return "" if self.dataset else "Choose a dataset."

    def is_valid(self) -> bool:
        """Check every form; their errors then stand beside the fields."""
        forms: list[Any] = [self.name_form, self.columns_form, self.settings_form, self.when_form]
        forms.append(self.spread_form)
        checked = [form.is_valid() for form in forms if form is not None]  # all of them, not up to the first
        return self.is_complete and all(checked)

    def refuse(self, message: str, fields: Mapping[str, str]) -> None:
        """Put what the launch found wrong beside its fields; what has none is said above the form."""
        for name, text in fields.items():
            part, _, rest = name.partition(".")
            form = {"columns": self.columns_form, "settings": self.settings_form}.get(part)
            if form is not None and rest in form.fields:
                form.add_error(rest, text)
            elif name in WHEN_FIELDS and WHEN_FIELDS[name] in self.when_form.fields:
                self.when_form.add_error(WHEN_FIELDS[name], text)
            elif name in self.spread_form.fields:
                self.spread_form.add_error(name, text)
            elif name in self.name_form.fields:
                self.name_form.add_error(name, text)
            else:
                self.name_form.add_error(None, text)
        if not fields:
            self.name_form.add_error(None, message)
