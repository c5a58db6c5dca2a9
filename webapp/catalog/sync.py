"""Keeps the catalogue's rows of the starters as the starters' files say."""

from __future__ import annotations

import dataclasses

from webapp.catalog.models import BaseModel
from webapp.catalog.starters import Starter, all_starters


def sync_starters() -> None:
    """Make or update a row for every starter. Safe to repeat, and from several processes at once."""
    for starter in all_starters():
        BaseModel.objects.update_or_create(slug=starter.slug, defaults=_row(starter))


def _row(starter: Starter) -> dict[str, object]:
    row = {field.name: getattr(starter, field.name) for field in dataclasses.fields(Starter)}
    package, distribution = row.pop("package"), row.pop("distribution")
    missing = (
        {} if starter.is_installed else {"missing": f"Install the package {distribution} on every worker."}
    )
    return {
        **row,
        "workspace": None,
        "source": BaseModel.Source.STARTER,
        "reference": package,
        "details": {**starter.details, "distribution": distribution, **missing},
    }
