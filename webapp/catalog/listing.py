"""Finding a model in the catalogue: search, filters, order."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import Q, QuerySet
from django.db.models.functions import Lower

from webapp.catalog.abilities import all_abilities
from webapp.catalog.models import BaseModel
from webapp.listing import ListFilter

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


class ModelFilter(ListFilter):
    """What stands in the address of the catalogue page."""

    sorting = "order"
    task = forms.ChoiceField(required=False, label="Can learn")
    kind = forms.ChoiceField(required=False, label="Kind")
    licence = forms.ChoiceField(required=False, label="Licence")
    size = forms.ChoiceField(required=False, label="Parameters")
    order = forms.ChoiceField(
        required=False, label="Order", choices=[(slug, title) for slug, (title, _) in ORDERS.items()]
    )

    def __init__(self, data: object, models: QuerySet[BaseModel]) -> None:
        super().__init__(data)  # type: ignore[arg-type]
        self.models = models
        self.offer("task", "Any", ((ability.slug, ability.title) for ability in all_abilities()))
        self.offer("kind", "Any", BaseModel.Kind.choices)
        licences = models.exclude(licence="").order_by("licence").values_list("licence", flat=True).distinct()
        self.offer("licence", "Any", ((licence, licence) for licence in licences))
        self.offer("size", "Any", ((slug, title) for slug, (title, _) in SIZES.items()))

    def found(self) -> QuerySet[BaseModel]:
        """The models to show; a value that is not offered narrows nothing."""
        said = self.chosen()
        order = ORDERS[said.pop("order", "name")][1]
        return search_models(self.models, words=said.pop("q", ""), **said).order_by(order, "pk")
