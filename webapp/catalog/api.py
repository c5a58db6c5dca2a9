"""Models over HTTP."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Query, Router, Schema

from webapp.api import ERRORS
from webapp.catalog.abilities import abilities_of
from webapp.catalog.listing import search_models
from webapp.catalog.models import BaseModel

router = Router(tags=["models"])


class ModelOut(Schema):
    """A base model; `tasks` are those it can learn."""

    id: str
    name: str
    summary: str
    kind: str
    source: str
    reference: str
    revision: str
    architecture: str
    parameters: int | None
    size_bytes: int | None
    licence: str
    context_length: int | None
    image_size: int | None
    tasks: list[str]
    installed: bool


def _out(model: BaseModel) -> dict[str, Any]:
    row = {name: getattr(model, name) for name in ModelOut.model_fields if hasattr(model, name)}
    tasks = [ability.slug for ability in abilities_of(model.kind)]
    return {**row, "id": model.slug, "tasks": tasks, "installed": not model.details.get("missing")}


@router.get("", response={200: list[ModelOut], **ERRORS}, summary="List models")
def list_models(
    request: HttpRequest,
    task: str = Query("", description="slug of a task that the model can learn"),  # type: ignore[type-arg]
    q: str = Query("", description="words in name, summary or architecture"),  # type: ignore[type-arg]
) -> Any:
    """The models of the catalogue that this token's user sees."""
    models = BaseModel.objects.visible_to(request.auth.user)  # type: ignore[attr-defined]
    return [_out(model) for model in search_models(models, words=q, task=task)]


@router.get("/{slug:model_id}", response={200: ModelOut, **ERRORS}, summary="One model")
def one_model(request: HttpRequest, model_id: str) -> Any:
    """By its `id`."""
    models = BaseModel.objects.visible_to(request.auth.user)  # type: ignore[attr-defined]
    return _out(get_object_or_404(models, slug=model_id))
