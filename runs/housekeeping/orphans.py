"""Files that no row owns, and rows whose files are gone.

Storage is listed first and the rows are read afterwards: a file that is stored meanwhile is not listed, and a
row that is made meanwhile is seen. What is being written right now is safe three times over: it is young, its
run has an attempt under way, and everything is looked at once more before it is deleted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property

from django.conf import settings

from runs.execution.checkpoints import MANIFEST
from runs.models import Artifact, Attempt, Checkpoint, HousekeepingReport, Removal, Run, StorageRemoval
from webapp import clock, storage
from webapp.catalog.models import BaseModel
from webapp.datasets.models import Dataset, DatasetVersion, UploadedFile
from webapp.storage import Stored
from webapp.uploads.models import Upload

LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


class WrongDatabase(Exception):
    """The database knows nothing of what storage holds: deleting would delete everything."""


@dataclass
class Orphan:
    """Files that belong together and to nobody."""

    prefix: str  # a folder, or one file
    reason: str
    is_known: bool = True  # False: nothing of Tuneboard's is called so, and it is never deleted
    keys: list[str] = field(default_factory=list)
    size_bytes: int = 0
    changed_at: datetime = LONG_AGO

    def add(self, file: Stored) -> None:
        self.keys.append(file.key)
        self.size_bytes += file.size
        self.changed_at = max(self.changed_at, file.changed_at)


@dataclass(frozen=True)
class Missing:
    """A row whose file is not in storage. Told, and left alone: storage may only be away."""

    run_id: int | None
    dataset_id: int | None
    what: str
    key: str


class Rows:
    """Everything that owns files, as the database says it now; each part is read when it is needed."""

    @cached_property
    def runs(self) -> set[int]:
        return set(Run.objects.values_list("pk", flat=True))

    @cached_property
    def at_work(self) -> set[int]:
        """Runs with an attempt under way."""
        return set(Attempt.objects.filter(finished_at=None).values_list("run", flat=True))

    @cached_property
    def checkpoints(self) -> set[str]:
        return set(Checkpoint.objects.values_list("storage_prefix", flat=True))

    @cached_property
    def artifacts(self) -> set[str]:
        return set(Artifact.objects.values_list("storage_key", flat=True))

    @cached_property
    def datasets(self) -> dict[int, str]:
        return dict(Dataset.objects.values_list("pk", "status"))

    @cached_property
    def uploads(self) -> set[str]:
        return set(UploadedFile.objects.values_list("storage_key", flat=True))

    @cached_property
    def arriving(self) -> set[str]:
        """Storage prefixes of uploads that come piece by piece."""
        return {f"uploads/{pk}" for pk in Upload.objects.values_list("pk", flat=True)}

    @cached_property
    def versions(self) -> set[tuple[int, str]]:
        return set(DatasetVersion.objects.values_list("dataset", "content_hash"))

    @cached_property
    def models(self) -> set[str]:
        """Storage prefixes of models that lie in storage."""
        kept = BaseModel.objects.filter(source__in=[BaseModel.Source.RUN, BaseModel.Source.FOLDER])
        return {
            text.strip("/") for text in kept.values_list("reference", flat=True) if not text.startswith("/")
        }

    @cached_property
    def going(self) -> tuple[set[str], set[str]]:
        """(prefixes, keys) that the house-keeping thread is about to remove."""
        found = StorageRemoval.objects.values_list("prefix", "keys")
        return {prefix for prefix, keys in found if not keys}, {key for _, keys in found for key in keys}

    def is_model(self, key: str) -> bool:
        parts = key.split("/")
        return any("/".join(parts[:end]) in self.models for end in range(1, len(parts) + 1))

    def is_going(self, key: str) -> bool:
        prefixes, keys = self.going
        parts = key.split("/")
        return key in keys or any("/".join(parts[:end]) in prefixes for end in range(1, len(parts)))


def owner_of(key: str, rows: Rows) -> Orphan | None:
    """None for a file that somebody owns or is about to; else the group it is an orphan in, empty."""
    parts = key.split("/")
    top, number = parts[0], int(parts[1]) if len(parts) > 2 and parts[1].isdecimal() else None
    if rows.is_going(key) or rows.is_model(key):
        return None
    if top == "runs" and number is not None:
        if number not in rows.runs:
            return Orphan(f"runs/{number}", "Its run has been deleted.")
        return None if number in rows.at_work else _of_run(parts, key, rows)
    if top == "datasets" and number is not None:
        if number not in rows.datasets:
            return Orphan(f"datasets/{number}", "Its dataset has been deleted.")
        return None if rows.datasets[number] == Dataset.Status.INSPECTING else _of_dataset(parts, key, rows)
    if _is_partial(parts[-1]):
        return Orphan(key, "A file that was never written to its end.")
    if top == "uploads" and len(parts) > 2:
        prefix = "/".join(parts[:2])
        return None if prefix in rows.arriving else Orphan(prefix, "An upload that broke off.")
    if top == "incoming":
        return Orphan(key, "An upload that broke off.")
    if top == "models" and len(parts) > 2:
        return Orphan("/".join(parts[:2]), "No model of the catalogue lies there.")
    if top == "doctor":
        return Orphan(key, "Left by a `manage.py doctor` that was ended.")
    return Orphan(parts[0], "Tuneboard puts nothing there.", is_known=False)


def _is_partial(name: str) -> bool:
    return re.fullmatch(r"\..+\.[0-9a-f]{32}\.partial", name) is not None


def _of_run(parts: list[str], key: str, rows: Rows) -> Orphan | None:
    if _is_partial(parts[-1]):
        return Orphan(key, "A file that was never written to its end.")
    kind, folder = parts[2], "/".join(parts[:4])
    if kind == "checkpoints" and folder not in rows.checkpoints:
        return Orphan(folder, "A checkpoint that was never finished, or is no longer kept.")
    if kind == "artifacts" and key not in rows.artifacts:
        return Orphan(folder, "Model files of an attempt that did not get to its end.")
    return None  # its logs, and whatever else a run that exists keeps


def _of_dataset(parts: list[str], key: str, rows: Rows) -> Orphan | None:
    if _is_partial(parts[-1]):
        return Orphan(key, "A file that was never written to its end.")
    kind = parts[2]
    if kind == "uploads" and key not in rows.uploads:
        return Orphan(key, "An upload that its dataset does not know.")
    if kind in {"versions", "previews"} and len(parts) > 4 and (int(parts[1]), parts[3]) not in rows.versions:
        return Orphan("/".join(parts[:4]), "A version that its dataset does not know.")
    return None


def find_orphans(files: Iterable[Stored] | None = None, *, now: datetime | None = None) -> list[Orphan]:
    """What nobody owns and has not changed for ORPHAN_HOURS, largest first; reads, changes nothing."""
    listed = list(storage.listing() if files is None else files)  # before any row is read
    rows = Rows()
    groups: dict[str, Orphan] = {}
    for file in listed:
        found = owner_of(file.key, rows)
        if found is not None:
            groups.setdefault(found.prefix, found).add(file)
    oldest = (now or clock.now()) - timedelta(hours=settings.ORPHAN_HOURS)
    ended = _ended_lately(oldest)
    orphans = [
        group for group in groups.values() if group.changed_at < oldest and _run_of(group.prefix) not in ended
    ]
    return sorted(orphans, key=lambda orphan: (not orphan.is_known, -orphan.size_bytes, orphan.prefix))


def _ended_lately(oldest: datetime) -> set[int]:
    return set(Attempt.objects.filter(finished_at__gte=oldest).values_list("run", flat=True))


def _run_of(prefix: str) -> int | None:
    found = re.match(r"runs/(\d+)/", prefix + "/")
    return int(found[1]) if found else None


def check_database() -> None:
    """Raises WrongDatabase where there is not one run and dataset."""
    if not Run.objects.exists() and not Dataset.objects.exists():
        raise WrongDatabase(
            "This database knows no run and no dataset, so that everything in storage would go: is DATABASE_URL "
            "right, and was the database restored? Nothing was deleted."
        )


def delete_orphans(
    prefixes: Iterable[str], report: HousekeepingReport, *, now: datetime | None = None
) -> list[Orphan]:
    """Delete those of the named ones that are still orphans; returns what went. Raises WrongDatabase, OSError."""
    check_database()
    wanted, gone = set(prefixes), []
    for orphan in _again(wanted, now):
        if not orphan.is_known:
            continue
        for key in orphan.keys:
            storage.delete_file(key)
        if orphan.keys != [orphan.prefix]:
            storage.delete_empty_folders(orphan.prefix)
        gone.append(orphan)
        Removal.objects.create(
            report=report,
            workspace=None,
            kind=Removal.Kind.ORPHANS,
            run_name=orphan.prefix[:200],
            count=len(orphan.keys),
            size_bytes=orphan.size_bytes,
            reason=orphan.reason,
        )
    return gone


def _again(wanted: set[str], now: datetime | None) -> Iterator[Orphan]:
    """The orphans of these names as they are now: each is listed and looked up anew."""
    for prefix in sorted(wanted):
        files = list(storage.listing(prefix)) or list(_one_file(prefix))
        yield from (orphan for orphan in find_orphans(files, now=now) if orphan.prefix in wanted)


def _one_file(key: str) -> Iterator[Stored]:
    folder = key.rpartition("/")[0]
    return (file for file in storage.listing(folder) if file.key == key)


def find_missing(files: Iterable[Stored] | None = None) -> list[Missing]:
    """Rows whose files storage does not have; each is asked for once more, since it may be new."""
    there = {file.key for file in (storage.listing() if files is None else files)}
    found = []
    for run_id, key in Artifact.objects.values_list("run", "storage_key"):
        if key not in there and not storage.exists(key) and Artifact.objects.filter(storage_key=key).exists():
            found.append(Missing(run_id, None, "model file", key))
    for run_id, prefix in Checkpoint.objects.values_list("run", "storage_prefix"):
        key = f"{prefix}/{MANIFEST}"
        known = Checkpoint.objects.filter(storage_prefix=prefix)
        if key not in there and not storage.exists(key) and known.exists():
            found.append(Missing(run_id, None, "checkpoint", prefix))
    for dataset_id, key in UploadedFile.objects.values_list("dataset", "storage_key"):
        known_file = UploadedFile.objects.filter(storage_key=key)
        if key not in there and not storage.exists(key) and known_file.exists():
            found.append(Missing(None, dataset_id, "uploaded file", key))
    folders = {key.rpartition("/")[0] for key in there}
    for dataset_id, prefix in DatasetVersion.objects.values_list("dataset", "storage_prefix"):
        if prefix not in folders and next(storage.keys_under(prefix), None) is None:
            found.append(Missing(None, dataset_id, "rows of a dataset", prefix))
    return found
