"""Deleting a dataset: its rows at once, its files soon.

What else has to do with datasets is not known here: runs that need one, and whoever takes files out of storage
however long it refuses. They register, and are asked in the transaction that takes the rows away.
"""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction

from webapp.accounts.models import User
from webapp.datasets.models import Dataset, DatasetVersion


class InUse(Exception):
    """The dataset is still needed; the message says by what, and what to do."""


Goes = Callable[[Dataset, User | None], None]
_asked: list[Goes] = []


def register(goes: Goes) -> None:
    """Have this called before the rows of a dataset go, in their transaction; it may raise InUse."""
    _asked.append(goes)


def delete_dataset(dataset: Dataset, by: User | None) -> None:
    """Remove the dataset with all its files; raises InUse. Runs made on it stay, and remember its name."""
    with transaction.atomic():
        # No run can be made on them from here on: its reference would have to wait for this, and fail.
        list(DatasetVersion.objects.select_for_update().filter(dataset=dataset).order_by("pk"))
        for goes in _asked:
            goes(dataset, by)
        dataset.delete()
