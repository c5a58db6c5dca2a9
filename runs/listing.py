"""The list of runs: what one may search, filter and sort by, all of it in the address."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import Count, F, OrderBy, Q, QuerySet, Sum

from runs.models import Run
from runs.training.tasks import all_tasks
from webapp.accounts.models import Workspace
from webapp.listing import ListFilter

SORTS: dict[str, tuple[str, list[str | OrderBy]]] = {
    "newest": ("Newest first", ["-created_at", "-id"]),
    "oldest": ("Oldest first", ["created_at", "id"]),
    "name": ("Name", ["name", "-id"]),
    "finished": ("Finished last", [F("finished_at").desc(nulls_last=True), "-id"]),
}
ACTIVE = (Run.Status.QUEUED, Run.Status.RUNNING, Run.Status.PAUSED)


class RunFilter(ListFilter):
    """What stands above the list of runs."""

    status = forms.ChoiceField(required=False)
    task = forms.ChoiceField(required=False)
    model = forms.ChoiceField(required=False)
    method = forms.ChoiceField(required=False)
    sort = forms.ChoiceField(required=False, choices=[(key, title) for key, (title, _) in SORTS.items()])

    def __init__(self, data: Any, workspace: Workspace | None) -> None:
        super().__init__(data)
        runs = Run.objects.filter(workspace=workspace)
        models = (
            runs.values_list("base_model__slug", "base_model__name").distinct().order_by("base_model__name")
        )
        used = set(runs.values_list("task", "method").distinct().order_by())
        tasks = [task for task in all_tasks() if any(slug == task.slug for slug, _ in used)]
        methods = {item.slug: item.title for task in all_tasks() for item in task.methods}
        self.offer("status", "Any status", [("active", "Not finished"), *Run.Status.choices])
        self.offer("task", "Any task", [(task.slug, task.title) for task in tasks])
        self.offer("model", "Any model", list(models))
        used_methods = sorted({(slug, methods.get(slug, slug)) for _, slug in used})
        self.offer("method", "Any method", used_methods)
        self.fields["q"].widget = forms.TextInput(
            attrs={"placeholder": "Name, model or dataset", "type": "search"}
        )

    def apply(self, runs: QuerySet[Run]) -> QuerySet[Run]:
        """The runs that are asked for, in the order that is asked for."""
        chosen = self.chosen()
        if text := chosen.get("q"):
            runs = runs.filter(
                Q(name__icontains=text)
                | Q(base_model__name__icontains=text)
                | Q(dataset_name__icontains=text)
            )
        if status := chosen.get("status"):
            runs = runs.filter(status__in=ACTIVE) if status == "active" else runs.filter(status=status)
        if task := chosen.get("task"):
            runs = runs.filter(task=task)
        if model := chosen.get("model"):
            runs = runs.filter(base_model__slug=model)
        if method := chosen.get("method"):
            runs = runs.filter(method=method)
        return runs.order_by(*SORTS[chosen.get("sort", "newest")][1])


def state_of(runs: QuerySet[Run]) -> tuple[int, int, int]:
    """(how many, sum of their versions, how many are not over): changes with every change of any of them."""
    found = runs.order_by().aggregate(
        rows=Count("id"), versions=Sum("row_version"), active=Count("id", filter=Q(status__in=ACTIVE))
    )
    return found["rows"], found["versions"] or 0, found["active"]
