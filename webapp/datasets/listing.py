"""The list of datasets: what one may search, filter and sort by, all of it in the address."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import QuerySet

from webapp.datasets import suggestion
from webapp.datasets.models import Dataset
from webapp.listing import ListFilter

SORTS = {
    "newest": ("Newest first", ["-created_at", "-pk"]),
    "oldest": ("Oldest first", ["created_at", "pk"]),
    "name": ("Name", ["name", "-pk"]),
    "rows": ("Most rows", ["-version__rows", "-pk"]),
}


class DatasetFilter(ListFilter):
    """What stands above the list of datasets."""

    q = forms.CharField(
        required=False,
        max_length=200,
        label="Search",
        widget=forms.TextInput(attrs={"placeholder": "Name or file", "type": "search"}),
    )
    status = forms.ChoiceField(required=False, choices=[("", "Any status"), *Dataset.Status.choices])
    task = forms.ChoiceField(required=False, label="Suits")
    sort = forms.ChoiceField(required=False, choices=[(key, title) for key, (title, _) in SORTS.items()])

    def __init__(self, data: Any) -> None:
        super().__init__(data)
        self.offer(
            "task", "Any task", ((needs.slug, needs.title) for needs in suggestion.registered().values())
        )

    def apply(self, datasets: QuerySet[Dataset]) -> QuerySet[Dataset]:
        """The datasets that are asked for, in the order that is asked for."""
        chosen = self.chosen()
        if words := chosen.get("q"):
            named = datasets.filter(name__icontains=words)
            with_file = datasets.filter(pk__in=datasets.filter(files__name__icontains=words).values("pk"))
            datasets = named | with_file
        if status := chosen.get("status"):
            datasets = datasets.filter(status=status)
        if task := chosen.get("task"):
            datasets = datasets.filter(version__suggested__task=task)
        return datasets.order_by(*SORTS[chosen.get("sort", "newest")][1])
