"""Which task a version is for, and which of its columns plays which role: the form, and what it says of a choice.

The address holds all choices (`task`, `set`, `column-<role>`), so a view of it can be sent to somebody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django import forms

from webapp.datasets import suggestion
from webapp.datasets.models import DatasetVersion
from webapp.datasets.suggestion import RoleLike, TaskNeeds
from webapp.templatetags.ui import in_sentence

# What a column of a kind holds, as the object of a sentence.
HOLDS = {
    "text": "texts",
    "label": "classes",
    "integer": "whole numbers",
    "float": "numbers",
    "boolean": "yes-or-no values",
    "image": "pictures",
    "audio": "recordings",
    "objects": "boxes",
    "mask": "masks",
    "tokens": "words",
    "tags": "tags of words",
    "messages": "conversations",
    "answers": "answers",
    "json": "nested values",
}
MOST_NAMED = 5  # columns that a message names


@dataclass
class Known:
    """A column of a version, as matching needs it."""

    name: str
    kind: str
    distinct: int | None
    typical_length: float

    @classmethod
    def of(cls, column: Mapping[str, Any]) -> Known:
        length = (column.get("chars") or {}).get("mean") or 0
        return cls(column["name"], column["kind"], column.get("distinct"), float(length))


class MappingForm(forms.Form):
    """A task, what an example of it is made of, and a column for each role. What is left open is suggested.

    A choice that cannot be used stays as it is, with what is wrong with it beside its field.
    """

    task = forms.ChoiceField(required=False, label="Task")

    def __init__(self, version: DatasetVersion, said: Mapping[str, Any], *, saving: bool = False) -> None:
        self.version, self.saving = version, saving
        self.columns = [Known.of(column) for column in version.columns]
        self.needs = self._needs(said)
        self.roles = self._roles(said)
        super().__init__(self._filled(said))
        self._offer_tasks()
        if self.needs:
            self._offer_sets(self.needs)
            for name in self.roles:
                self._offer_columns(self.needs.roles[name])

    @property
    def shown(self) -> str:
        """What the fields were made for; said back, so that those of another task are not taken for choices."""
        return f"{self.needs.slug if self.needs else ''}:{'+'.join(self.roles)}"

    def role_fields(self) -> list[forms.BoundField]:
        return [self[field_name(name)] for name in self.roles]

    def clean(self) -> dict[str, Any]:
        if not self.needs:
            if self.saving:
                self.add_error("task", "Choose what a model should learn from these rows.")
            return self.cleaned_data
        taken: dict[str, str] = {}
        for name in self.roles:
            role, column = self.needs.roles[name], self.data[field_name(name)]
            if wrong := self._wrong(role, column, taken):
                self.add_error(field_name(name), wrong)
            else:
                taken[column] = role.title
        return self.cleaned_data

    def chosen(self) -> dict[str, str]:
        """{role: column} of what can be used; all roles of them if the form is valid."""
        wrong = self.errors
        return {
            name: self.data[field_name(name)]
            for name in self.roles
            if field_name(name) not in wrong and self.data[field_name(name)]
        }

    def _needs(self, said: Mapping[str, Any]) -> TaskNeeds | None:
        slug = said["task"] if "task" in said else self.version.suggested.get("task", "")
        return suggestion.registered().get(slug)

    def _roles(self, said: Mapping[str, Any]) -> tuple[str, ...]:
        """Of the sets that make an example: the one that was chosen, is in use, can be filled, or is the first."""
        if not self.needs:
            return ()
        sets = self.needs.column_sets
        for each in sets:
            if said.get("set") == "+".join(each):
                return each
        in_use = self.version.suggested
        for each in sets:
            if in_use.get("task") == self.needs.slug and set(in_use.get("columns", {})) == set(each):
                return each
        return next((each for each in sets if self._suggested(each, {})), sets[0])

    def _suggested(self, roles: tuple[str, ...], asked: dict[str, str]) -> dict[str, str]:
        """{role: column}; empty if a role finds none."""
        assert self.needs
        found = suggestion.suggest(self.columns, [replace(self.needs, column_sets=(roles,))], asked=asked)
        return dict(found.get("columns", {}))

    def _filled(self, said: Mapping[str, Any]) -> dict[str, Any]:
        """What was said, with a suggestion where nothing was."""
        filled: dict[str, Any] = {"task": self.needs.slug if self.needs else "", "set": "+".join(self.roles)}
        if not self.needs:
            return filled
        in_use = self.version.suggested
        fits = in_use.get("task") == self.needs.slug and set(in_use.get("columns", {})) == set(self.roles)
        best = dict(in_use["columns"]) if fits else self._suggested(self.roles, {})
        meant = said.get("shown", self.shown) == self.shown
        taken: set[str] = set()
        for name in self.roles:
            asked = str(said.get(field_name(name), ""))
            role = self.needs.roles[name]
            if asked and (meant or (asked not in taken and self._suits(role, asked))):
                filled[field_name(name)] = asked
            else:
                filled[field_name(name)] = best.get(name) or self._alone(name, taken)
            taken.add(filled[field_name(name)])
        return filled

    def _alone(self, name: str, taken: set[str]) -> str:
        """The best column for one role, where not all of them find one."""
        assert self.needs
        free = [column for column in self.columns if column.name not in taken]
        found = suggestion.suggest(free, [replace(self.needs, column_sets=((name,),))])
        return str(found.get("columns", {}).get(name, ""))

    def _suits(self, role: RoleLike, name: str) -> bool:
        return any(column.name == name and suggestion.suits(column, role) for column in self.columns)

    def _wrong(self, role: RoleLike, name: str, taken: dict[str, str]) -> str:
        """Why the column cannot play the role, and what could; empty if it can."""
        what = role.title
        suiting = [column.name for column in self.columns if suggestion.suits(column, role)]
        column = next((each for each in self.columns if each.name == name), None)
        takes = f"{what} takes {listed([HOLDS.get(kind, kind) for kind in role.kinds], 'or')}"
        could = f"{takes}: {_named(suiting)}." if suiting else f"{takes}; no column here holds that."
        if not name:
            return could if not suiting else f"Choose the column that holds the {in_sentence(what)}."
        if column is None:
            return f"There is no column “{name}”. {could}"
        if column.kind not in role.kinds and not _becomes_classes(column, role):
            return f"“{name}” holds {HOLDS.get(column.kind, column.kind)}. {could}"
        if not suggestion.suits(column, role) and not _becomes_classes(column, role):
            most = suggestion.MOST_CLASSES if column.kind == "label" else suggestion.MOST_NUMBER_CLASSES
            values = f"{column.distinct:,} different value{'' if column.distinct == 1 else 's'}"
            other = f" {_named(suiting)} would do." if suiting else ""
            return f"“{name}” has {values}; to sort rows into classes takes 2 to {most:,}.{other}"
        if name in taken:
            return f"“{name}” is the {in_sentence(taken[name])} already; choose another column."
        return ""

    def _offer_tasks(self) -> None:
        field = self.fields["task"]
        assert isinstance(field, forms.ChoiceField)
        suits: list[tuple[str, str]] = []
        lacks: list[tuple[str, str]] = []
        for slug, needs in suggestion.registered().items():
            found = suggestion.suggest(self.columns, [needs])
            (suits if found else lacks).append((slug, needs.title))
        groups = [("These columns suit", suits), ("Columns are missing", lacks)]
        field.choices = [
            ("", "Not decided yet"),
            *((title, tasks) for title, tasks in groups if tasks),
        ]

    def _offer_sets(self, needs: TaskNeeds) -> None:
        if len(needs.column_sets) > 1:
            titles = [
                ("+".join(each), listed([needs.roles[name].title for name in each]))
                for each in needs.column_sets
            ]
            self.fields["set"] = forms.ChoiceField(label="An example is", choices=titles, required=False)

    def _offer_columns(self, role: RoleLike) -> None:
        suiting: list[tuple[str, str]] = []
        others: list[tuple[str, str]] = []
        for column in self.columns:
            named = (column.name, f"{column.name} ({HOLDS.get(column.kind, column.kind)})")
            (suiting if suggestion.suits(column, role) else others).append(named)
        groups = [("Columns that suit", suiting), ("Other columns", others)]
        self.fields[field_name(role.name)] = _Column(
            label=role.title,
            help_text=role.help,
            required=False,
            choices=[("", "– none –"), *((title, names) for title, names in groups if names)],
        )


class _Column(forms.ChoiceField):
    """What is wrong with a choice is said by the form, which knows why."""

    def validate(self, value: Any) -> None:
        return


def _becomes_classes(column: Known, role: RoleLike) -> bool:
    """Whether texts of a column are few enough to be made classes, where a role takes nothing else."""
    if column.kind != "text" or "label" not in role.kinds:
        return False
    return column.distinct is not None and 2 <= column.distinct <= suggestion.MOST_CLASSES


def field_name(role: str) -> str:
    return f"column-{role}"


def _named(names: Sequence[str]) -> str:
    """Columns in a sentence."""
    told = [f"“{name}”" for name in names[:MOST_NAMED]]
    if len(names) > MOST_NAMED:
        told.append(f"{len(names) - MOST_NAMED:,} more")
    return listed(told)


def listed(words: Sequence[str], last: str = "and") -> str:
    """`a, b and c`; what is a title after the first goes on in the sentence."""
    told = [words[0], *(in_sentence(word) for word in words[1:])]
    return told[0] if len(told) == 1 else f"{', '.join(told[:-1])} {last} {told[-1]}"
