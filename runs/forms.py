"""Forms for a new run, derived from the declarations of tasks: no task or setting is named here."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.utils import timezone

from runs.advice.fitting import Columns, candidates, columns_for
from runs.launch import Scheduling
from runs.models import Run
from runs.training.tasks.common import Setting, Task
from webapp.accounts.models import Workspace
from webapp.templatetags.ui import in_sentence, number, size

WAITABLE = (Run.Status.QUEUED, Run.Status.RUNNING, Run.Status.PAUSED)
MOST_OFFERED = 100  # runs to wait for, newest first


class NameForm(forms.Form):
    """What the run is called."""

    name = forms.CharField(
        required=False,
        max_length=200,
        label="Name of the run",
        help_text="Left empty, it is made of the model, the dataset and the method.",
    )


class WhenForm(forms.Form):
    """When and where a run may start, and for how long it may go on. All of it may be left as it is."""

    priority = forms.TypedChoiceField(
        label="Priority",
        choices=Run.Priority.choices,
        coerce=int,
        required=False,
        empty_value=None,
        initial=int(Run.Priority.NORMAL),
        help_text="High goes before normal, normal before low. Workspaces take turns all the same.",
    )
    not_before = forms.DateTimeField(
        label="Not before",
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M"],
        error_messages={"invalid": "Type a date and a time, such as 2030-01-31 18:00."},
    )
    after = forms.ChoiceField(
        label="After another run",
        required=False,
        help_text="Starts once that one has succeeded.",
        error_messages={"invalid_choice": "That run is over or gone; choose another, or none."},
    )
    time_limit_hours = forms.FloatField(
        label="Time limit",
        required=False,
        min_value=1 / 60,
        max_value=366 * 24,
        widget=forms.NumberInput(attrs={"step": "any", "placeholder": "none"}),
        help_text="Then it saves a checkpoint and ends; it can go on from there.",
        error_messages={"min_value": "At least a minute, which is 0.017 hours."},
    )
    memory_gb = forms.FloatField(
        label="Memory that it needs",
        required=False,
        min_value=0.1,
        max_value=10_000,
        widget=forms.NumberInput(attrs={"step": "any"}),
    )
    UNITS = {"time_limit_hours": "hours", "memory_gb": "GB"}

    def __init__(
        self,
        data: Any,
        *,
        workspace: Workspace,
        estimate: int | None = None,
        initial: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(data, prefix="when", initial=initial)
        open_runs = Run.objects.filter(workspace=workspace, status__in=WAITABLE).order_by("-pk")
        self._runs = {
            str(run.pk): run for run in open_runs.only("name", "status", "workspace")[:MOST_OFFERED]
        }
        named = [(pk, f"{run.name} ({run.get_status_display().lower()})") for pk, run in self._runs.items()]
        fields: dict[str, Any] = self.fields
        fields["after"].choices = [("", "– none –"), *named]
        now = timezone.localtime()
        fields["not_before"].help_text = (
            f"In the server's time zone, {settings.TIME_ZONE}, where it is {now:%H:%M} now. "
            "Left empty: as soon as a worker is free."
        )
        known = f"about {size(estimate)}" if estimate else "unknown for this model"
        fields["memory_gb"].help_text = f"On each device. Left empty, it is estimated: {known}."

    def parts(self) -> list[tuple[forms.BoundField, str]]:
        """(field, unit) in their order."""
        return [(field, self.UNITS.get(field.name, "")) for field in self]

    @property
    def is_open(self) -> bool:
        """Whether something has a mistake or is not as it is by itself."""
        return any(field.errors or str(field.value() or "0") != "0" for field in self)

    def chosen(self) -> Scheduling:
        """Of a valid form."""
        said = self.cleaned_data
        hours, memory = said["time_limit_hours"], said["memory_gb"]
        return Scheduling(
            priority=Run.Priority.NORMAL if said["priority"] is None else said["priority"],
            not_before=said["not_before"],
            after=self._runs.get(said["after"]),
            time_limit_seconds=round(hours * 3600) if hours else None,
            memory_bytes=round(memory * 1e9) if memory else None,
        )


class ColumnsForm(forms.Form):
    """Which column plays which role of the task. Suggestions are filled in."""

    def __init__(
        self, data: Any, *, task: Task, columns: Columns, initial: dict[str, str] | None = None
    ) -> None:
        super().__init__(data, prefix="columns", initial=initial or columns_for(task, columns) or {})
        always = set(task.column_sets[0]).intersection(*map(set, task.column_sets))
        kinds = {str(column["name"]): str(column["kind"]) for column in columns}
        for role in task.roles:
            names = candidates(role, columns)
            required = role.name in always
            if not names and not required:
                continue  # nothing to choose from, and the task does without it
            choices = [(name, f"{name} ({kinds[name]})") for name in names]
            self.fields[role.name] = forms.ChoiceField(
                label=role.title,
                help_text=role.help,
                required=required,
                choices=choices if required else [("", "– none –"), *choices],
                error_messages={
                    "required": f"Choose the column that holds the {in_sentence(role.title)}.",
                    "invalid_choice": "The dataset has no such column of a fitting kind.",
                },
            )

    def chosen(self) -> dict[str, str]:
        """{role: column} of a valid form, without roles that are left out."""
        return {role: column for role, column in self.cleaned_data.items() if column}


class SettingsForm(forms.Form):
    """The settings that a task declares for a method, with their defaults and limits."""

    def __init__(self, data: Any, *, task: Task, method: str, initial: dict[str, Any] | None = None) -> None:
        self.declared = task.settings_for(method)
        self.defaults = defaults = {item.name: item.default_for(method) for item in self.declared}
        kept = {name: value for name, value in (initial or {}).items() if name in defaults}
        super().__init__(data, prefix="settings", initial={**defaults, **kept})
        for item in self.declared:
            self.fields[item.name] = field_of(item, defaults[item.name])

    def common(self) -> list[tuple[forms.BoundField, Setting]]:
        """Those that most people look at."""
        return [(self[item.name], item) for item in self.declared if not item.advanced]

    def advanced(self) -> list[tuple[forms.BoundField, Setting]]:
        """Those that are folded away."""
        return [(self[item.name], item) for item in self.declared if item.advanced]

    @property
    def advanced_is_open(self) -> bool:
        """Whether something in the folded part has a mistake or is not at its default."""
        return any(field.errors or self._differs(field, item) for field, item in self.advanced())

    def _differs(self, field: forms.BoundField, item: Setting) -> bool:
        value = field.value()
        return value not in (None, "") and str(value) != str(self.defaults[item.name])

    def current(self) -> dict[str, Any]:
        """What the fields hold now as Python values; a field that is wrong is left out."""
        if not self.is_bound:
            return dict(self.initial)
        self.is_valid()
        return dict(self.cleaned_data)

    def chosen(self) -> dict[str, Any]:
        """The values of a valid form; what was left empty takes its default."""
        return {name: value for name, value in self.cleaned_data.items() if value is not None and value != ""}


def field_of(item: Setting, default: Any) -> forms.Field:
    """The form field of a setting. An empty field stands for the default."""
    common: dict[str, Any] = {"label": item.title, "help_text": _help(item, default), "required": False}
    limits: dict[str, Any] = {"min_value": item.minimum, "max_value": item.maximum}
    match item.type:
        case "int":
            limits = {name: None if value is None else int(value) for name, value in limits.items()}
            wrong = {"invalid": "Type a whole number, such as 8."}
            return forms.IntegerField(**common, **limits, error_messages={**wrong, **_beyond(item)})
        case "float":
            wrong = {"invalid": "Type a number, such as 0.001 or 1e-3."}
            any_step = forms.NumberInput(attrs={"step": "any"})
            return forms.FloatField(
                **common, **limits, widget=any_step, error_messages={**wrong, **_beyond(item)}
            )
        case "bool":
            return forms.BooleanField(**common)
        case "choice":
            return forms.ChoiceField(**common, choices=list(item.choices))
        case "text":
            return forms.CharField(**common, max_length=10_000)
    raise ValueError(f"setting {item.name!r} has the unknown type {item.type!r}")


def _beyond(item: Setting) -> dict[str, str]:
    return {
        "min_value": f"At least {number(item.minimum)}.",
        "max_value": f"At most {number(item.maximum)}.",
    }


def _help(item: Setting, default: Any) -> str:
    if item.type in {"bool", "choice"} or default in (None, ""):
        return item.help
    return f"{item.help.rstrip('.')}. Default: {default}."
