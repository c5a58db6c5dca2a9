"""Real data that needs no network: made on the worker at first use, out of packages that are installed.

A sample is one module beside this one with a `SAMPLE`. Nothing else lists them.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from django.db import transaction

from webapp.accounts.models import User, Workspace
from webapp.datasets.claims import waiting
from webapp.datasets.intake import publish_inspection
from webapp.datasets.models import Dataset
from webapp.datasets.samples.common import Sample


@cache
def all_samples() -> tuple[Sample, ...]:
    """Every sample, in the order of its `order`."""
    found: list[Sample] = []
    for module in pkgutil.iter_modules(__path__):
        sample = getattr(importlib.import_module(f"{__name__}.{module.name}"), "SAMPLE", None)
        if isinstance(sample, Sample):
            found.append(sample)
    return tuple(sorted(found, key=lambda each: each.order))


def get_sample(slug: str) -> Sample:
    """Raises KeyError with the samples that there are."""
    for sample in all_samples():
        if sample.slug == slug:
            return sample
    raise KeyError(f"There is no sample “{slug}”; there are: {', '.join(s.slug for s in all_samples())}.")


def use_sample(slug: str, workspace: Workspace, user: User | None) -> Dataset:
    """The workspace's dataset of this sample, made now if it has none; raises KeyError."""
    sample = get_sample(slug)
    with transaction.atomic():
        Workspace.objects.select_for_update().get(pk=workspace.pk)  # two clicks make one dataset
        mine = Dataset.objects.filter(workspace=workspace, sample=slug)
        usable: Dataset | None = mine.exclude(status=Dataset.Status.INVALID).first()
        if usable is not None:
            return usable
        dataset: Dataset = Dataset.objects.create(
            workspace=workspace,
            created_by=user,
            name=sample.title,
            description=sample.summary,
            sample=slug,
            **waiting(),
        )
        publish_inspection(dataset)
    return dataset
