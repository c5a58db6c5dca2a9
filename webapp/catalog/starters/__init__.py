"""Pretrained models that come as ordinary packages: a file each, found by being here."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import Any


@dataclass(frozen=True)
class Starter:
    """What the catalogue says of a starter; named as the fields of `webapp.catalog.models.BaseModel`."""

    slug: str
    name: str
    summary: str
    kind: str
    package: str  # importable name; the weights lie in it
    distribution: str  # what pip calls it
    weights_format: str
    weights_path: str
    architecture: str
    parameters: int
    size_bytes: int
    licence: str
    homepage: str
    context_length: int | None = None
    image_size: int | None = None
    details: dict[str, Any] = field(default_factory=dict)  # languages, trained_on, good_at, limits

    @property
    def is_installed(self) -> bool:
        return find_spec(self.package) is not None


@cache
def all_starters() -> tuple[Starter, ...]:
    """Every starter, installed or not."""
    modules = (
        importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
    )
    return tuple(sorted((module.STARTER for module in modules), key=lambda starter: starter.name.lower()))
