"""Datasets and stored base models on this host's disk: where storage lies, or checked copies in the cache."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from django.core.files.storage import default_storage
from pyarrow import ArrowException

from runs.execution.cache import Cache, DamagedEntry, Leases
from runs.models import Artifact
from runs.training.events import TrainingFailure
from webapp import storage
from webapp.catalog.models import BaseModel
from webapp.datasets.canonical import content_hash_of
from webapp.datasets.models import DatasetVersion

log = logging.getLogger(__name__)
_held: dict[Path, Leases] = {}  # by work folder
_lock = threading.Lock()


def leases_of(workdir: Path) -> Leases:
    """What the attempt in this work folder uses of the cache, until `release`."""
    with _lock:
        if workdir not in _held:
            _held[workdir] = Cache().begin(workdir.name)
        return _held[workdir]


def release(workdir: Path) -> None:
    """The attempt is over: what it used may go, and does if the cache is too large."""
    with _lock:
        leases = _held.pop(workdir, None)
    if leases is None:
        return
    leases.close()
    try:
        Cache().trim()
    except OSError:  # the next attempt tries again
        log.warning("Room could not be made in the cache.", exc_info=True)


def dataset_folder(version: DatasetVersion, leases: Leases) -> Path:
    """The Parquet files of a version, whose rows are those of its content hash."""

    def check(folder: Path) -> None:
        try:
            found = content_hash_of(folder)
        except (ArrowException, OSError, KeyError) as error:
            raise DamagedEntry(f"its files cannot be read ({error})") from error
        if found != version.content_hash:
            raise DamagedEntry("its rows are not those that were stored")

    prefix = version.storage_prefix
    if (folder := _in_place(prefix)) is not None:
        return folder
    what = f"The dataset in {prefix}"
    fetch = partial(_fetch, prefix)
    return _twice(
        what,
        lambda: Cache().folder(
            "datasets",
            version.content_hash,
            fetch,
            leases,
            check=check,
            expected_bytes=version.size_bytes,
        ),
    )


def digests_of(base: BaseModel) -> dict[str, str]:
    """{file name: SHA-256} of a base model in storage that a run has made; empty if nobody has noted them."""
    if not _is_stored(base):
        return {}
    prefix = f"{base.reference.rstrip('/')}/"
    files = Artifact.objects.filter(storage_key__startswith=prefix).values_list("storage_key", "sha256")
    return {key.removeprefix(prefix): digest for key, digest in files}


def model_folder(base: BaseModel, digests: dict[str, str], leases: Leases) -> str:
    """A folder on this host as it is; one in storage as a local folder; else a package or Hub name."""
    if not _is_stored(base):
        return base.reference
    if (folder := _in_place(base.reference)) is not None:
        return str(folder)

    def check(folder: Path) -> None:
        found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        for name, size in sizes.items():
            if name not in found or found[name].stat().st_size != size:
                raise DamagedEntry(f"{name} is not as long as what was stored")
        for name, digest in digests.items():
            if name not in found or storage.sha256_of(found[name]) != digest:
                raise DamagedEntry(f"{name} is not what was stored")

    prefix = base.reference
    sizes = {
        key.removeprefix(f"{prefix}/"): int(default_storage.size(key)) for key in storage.keys_under(prefix)
    }
    # What nobody has noted digests of goes by its place and sizes: what is stored there is never changed.
    named = digests or {"": prefix, **{name: str(size) for name, size in sizes.items()}}
    key = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
    fetch = partial(_fetch, prefix)
    total = sum(sizes.values())
    entry = partial(Cache().folder, "stored-models", key, fetch, leases, check=check, expected_bytes=total)
    return str(_twice(f"The model in {prefix}", entry))


def _is_stored(base: BaseModel) -> bool:
    kinds = {BaseModel.Source.FOLDER, BaseModel.Source.RUN}
    return base.source in kinds and not Path(base.reference).is_absolute()


def _in_place(prefix: str) -> Path | None:
    """Where it lies, if storage is a folder; raises TrainingFailure if it is not there."""
    folder = storage.local_path(prefix)
    if folder is not None and not folder.is_dir():
        raise TrainingFailure("bad_data", f"{prefix} is missing from storage.", "Upload it again.")
    return folder


def _fetch(prefix: str, folder: Path) -> None:
    keys = list(storage.keys_under(prefix))
    if not keys:
        raise TrainingFailure("bad_data", f"{prefix} is missing from storage.", "Upload it again.")
    for key in keys:
        storage.get(key, folder / key.removeprefix(f"{prefix}/"))


def _twice(what: str, entry: Callable[[], Path]) -> Path:
    """What comes damaged over the network comes whole the second time; what lies there damaged does not."""
    try:
        return entry()
    except DamagedEntry:
        try:
            return entry()
        except DamagedEntry as error:
            raise TrainingFailure(
                "bad_data",
                f"{what} is damaged: {error}.",
                "Upload it again, or restore storage from a backup.",
            ) from error
