"""What the lists of models, datasets and runs have in common: a form in the address that narrows and sorts."""

from __future__ import annotations

from collections.abc import Iterable

from django import forms


class ListFilter(forms.Form):
    """What stands above a list. A value that is not offered is as if it was not there."""

    q = forms.CharField(required=False, max_length=200, label="Search")
    sorting = "sort"  # the field that says in which order

    def offer(self, name: str, anything: str, choices: Iterable[tuple[str, str]]) -> None:
        """Fill a choice, with `anything` for no choice at all."""
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", anything), *choices]

    def chosen(self) -> dict[str, str]:
        """What is filtered and sorted by, without what is empty or not offered."""
        self.is_valid()
        return {name: value for name, value in self.cleaned_data.items() if value}

    @property
    def narrows(self) -> bool:
        """Whether anything hides rows."""
        return bool(self.chosen().keys() - {self.sorting})
