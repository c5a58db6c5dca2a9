"""The versions of a dataset: how one is kept, found, and made the one that runs get.

A version never changes. It is named by the hash of its rows and by its mapping: two that differ in the mapping
alone share their files.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from django.db.models import F, Max

from webapp import storage
from webapp.datasets.models import Change, Dataset, DatasetVersion
from webapp.storable import fault_of

CONVERTED = {"size_bytes", "rows", "splits", "columns", "suggested", "preview", "details", "problems"}


def prefix_of(dataset_id: int, content_hash: str) -> str:
    return f"datasets/{dataset_id}/versions/{content_hash}"


def store(dataset_id: int, converted: dict[str, Any], output: Path) -> None:
    """Put what was converted into storage, and note in its details what lies there."""
    content_hash = converted["content_hash"]
    stored: dict[str, dict[str, Any]] = {}
    for path in sorted(output.glob("*.parquet")):
        stored[path.name] = {"size": path.stat().st_size, "sha256": storage.sha256_of(path)}
        storage.put(path, f"{prefix_of(dataset_id, content_hash)}/{path.name}", move=True)
    for path in sorted((output / "previews").glob("*")):
        storage.put(path, f"datasets/{dataset_id}/previews/{content_hash}/{path.name}", move=True)
    converted["details"]["stored"] = stored  # of the bytes: the content hash is of the rows


def keep_version(
    dataset_id: int,
    converted: dict[str, Any],
    *,
    parent: DatasetVersion | None = None,
    change: dict[str, Any] | None = None,
    created_by: int | None = None,
) -> DatasetVersion:
    """The version of these rows and this mapping, made unless it is there. The caller has locked the dataset's row
    and stored the files.
    """
    suggested = converted["suggested"]
    mapping = mapping_hash(suggested)
    content_hash = converted["content_hash"]
    last = DatasetVersion.objects.filter(dataset_id=dataset_id).aggregate(last=Max("number"))["last"] or 0
    version, _ = DatasetVersion.objects.get_or_create(
        dataset_id=dataset_id,
        content_hash=content_hash,
        mapping=mapping,
        defaults={
            "storage_prefix": prefix_of(dataset_id, content_hash),
            "number": last + 1,
            "parent": parent,
            "change": change or {},
            "created_by_id": created_by,
            **{name: converted[name] for name in CONVERTED},
        },
    )
    return version


def mapping_hash(suggested: dict[str, Any]) -> str:
    """Of a version's task and columns; empty where it has none."""
    if not suggested.get("task"):
        return ""
    said = {"task": suggested["task"], "columns": suggested.get("columns") or {}}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]


def find_version(dataset: Dataset, named: str) -> DatasetVersion | None:
    """By its number or its hash, or the dataset's own where none is named; None if there is none."""
    if not named:
        version: DatasetVersion | None = dataset.version
        return version
    if fault_of(named):
        return None
    number = int(named) if named.isdecimal() and len(named) < 9 else None
    asked = {"number": number} if number is not None else {"content_hash": named[:64]}
    found: DatasetVersion | None = dataset.versions.filter(**asked).order_by("-number").first()
    return found


def make_current(dataset: Dataset, version: DatasetVersion) -> bool:
    """Give new runs this version; False while a change is being made, whose version would follow it at once."""
    return bool(
        Dataset.objects.filter(pk=dataset.pk, status=Dataset.Status.READY)
        .exclude(changes__status=Change.Status.WAITING)
        .update(version=version, row_version=F("row_version") + 1)
    )


def large(prefix: str) -> list[str]:
    """The columns of versions that a list of them does not need, for `defer`; `prefix`: the way to the version."""
    return [f"{prefix}{name}" for name in DatasetVersion.LARGE]


def query_of(dataset: Dataset, version: DatasetVersion) -> str:
    """What names a version in an address; empty for the one that is meant without it."""
    return "" if version.pk == dataset.version_id else f"?version={version.number}"
