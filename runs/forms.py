"""Forms for a new run, derived from the declarations of tasks: no task or setting is named here."""

from __future__ import annotations

from typing import Any

from django import forms

from runs.advice.fitting import Columns, candidates, columns_for
from runs.training.tasks.common import Setting, Task
from webapp.templatetags.ui import number


class NameForm(forms.Form):
    """What the run is called."""

    name = forms.CharField(
        required=False,
        max_length=200,
        label="Name of the run",
        help_text="Left empty, it is made of the model, the dataset and the method.",
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
                    "required": f"Choose the column that holds the {role.title.lower()}.",
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
