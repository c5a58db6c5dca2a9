"""Finding a model in the catalogue: search, filters, order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.db.models import Q, QuerySet
from django.db.models.functions import Lower

from webapp.catalog.abilities import all_abilities
from webapp.catalog.models import BaseModel

SIZES = {
    "small": ("Up to 50M", Q(parameters__lte=50_000_000)),
    "medium": ("50M to 1B", Q(parameters__gt=50_000_000, parameters__lte=1_000_000_000)),
    "large": ("Over 1B", Q(parameters__gt=1_000_000_000)),
}
ORDERS: dict[str, tuple[str, Any]] = {
    "name": ("Name", Lower("name").asc()),
    "smallest": ("Smallest first", "parameters"),
    "largest": ("Largest first", "-parameters"),
    "newest": ("Newest first", "-created_at"),
}


def kinds_for(task: str) -> tuple[str, ...]:
    """The kinds of model that can learn a task; none if there is no such task."""
    return next((ability.model_kinds for ability in all_abilities() if ability.slug == task), ())


def search_models(
    models: QuerySet[BaseModel],
    *,
    words: str = "",
    task: str = "",
    kind: str = "",
    licence: str = "",
    size: str = "",
) -> QuerySet[BaseModel]:
    """The models that have every word somewhere in name, summary, architecture or reference."""
    for word in words.split():
        models = models.filter(
            Q(name__icontains=word)
            | Q(slug__icontains=word)
            | Q(summary__icontains=word)
            | Q(architecture__icontains=word)
            | Q(reference__icontains=word)
        )
    if task:
        models = models.filter(kind__in=kinds_for(task))
    if kind:
        models = models.filter(kind=kind)
    if licence:
        models = models.filter(licence=licence)
    if size in SIZES:
        models = models.filter(SIZES[size][1])
    return models


class ModelFilter(forms.Form):
    """What stands in the address of the catalogue page."""

    q = forms.CharField(required=False, label="Search")
    task = forms.ChoiceField(required=False, label="Can learn")
    kind = forms.ChoiceField(required=False, label="Kind")
    licence = forms.ChoiceField(required=False, label="Licence")
    size = forms.ChoiceField(required=False, label="Parameters")
    order = forms.ChoiceField(required=False, label="Order")

    def __init__(self, data: object, models: QuerySet[BaseModel]) -> None:
        super().__init__(data)  # type: ignore[arg-type]
        self.models = models
        self._offer("task", ((ability.slug, ability.title) for ability in all_abilities()))
        self._offer("kind", BaseModel.Kind.choices)
        licences = models.exclude(licence="").order_by("licence").values_list("licence", flat=True).distinct()
        self._offer("licence", ((licence, licence) for licence in licences))
        self._offer("size", ((slug, title) for slug, (title, _) in SIZES.items()))
        order = self.fields["order"]
        assert isinstance(order, forms.ChoiceField)
        order.choices = [(slug, title) for slug, (title, _) in ORDERS.items()]

    def _offer(self, name: str, choices: Iterable[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", "Any"), *choices]

    def found(self) -> QuerySet[BaseModel]:
        """The models to show; a value that is not offered narrows nothing."""
        self.is_valid()
        said = self.cleaned_data
        found = search_models(
            self.models,
            words=said.get("q", ""),
            task=said.get("task", ""),
            kind=said.get("kind", ""),
            licence=said.get("licence", ""),
            size=said.get("size", ""),
        )
        return found.order_by(ORDERS[said.get("order") or "name"][1], "pk")

    @property
    def narrows(self) -> bool:
        return any(self.cleaned_data.get(name) for name in ("q", "task", "kind", "licence", "size"))
