"""The Parquet files of a version, on this host's disk.

Where storage is a folder they are read where they lie. Out of a bucket they are copied once to BROWSE_DIR, which keeps
at most BROWSE_MAX_BYTES; with each new copy, those go that were not used for a day. A copy that is read is locked (flock: the
kernel frees it with its reader) and stays; a file that is opened stays readable even when its name goes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from webapp import storage
from webapp.datasets.models import DatasetVersion

KEPT_SECONDS = 24 * 3600


class NotHere(Exception):
    """The rows cannot be read here; the message is for the person who asked."""


@dataclass(frozen=True)
class Shard:
    """One stored file. `size` and `sha256` are known of versions that noted them when they were made."""

    key: str
    split: str
    size: int | None = None
    sha256: str = ""

    @property
    def name(self) -> str:
        return self.key.rsplit("/", 1)[-1]


def shards_of(version: DatasetVersion, split: str = "") -> list[Shard]:
    """All files of a version, or those of a split, in the order of their rows."""
    noted = (version.details or {}).get("stored") or {}
    found = []
    for key in storage.keys_under(version.storage_prefix):
        name = key.rsplit("/", 1)[-1]
        if not name.endswith(".parquet"):
            continue
        shard = Shard(
            key,
            name.rsplit("-", 3)[0],
            noted.get(name, {}).get("size"),
            noted.get(name, {}).get("sha256", ""),
        )
        if split in ("", shard.split):
            found.append(shard)
    order = {name: place for place, name in enumerate(("train", "validation", "test"))}
    return sorted(found, key=lambda shard: (order.get(shard.split, 9), shard.name))


@contextmanager
def on_disk(shards: list[Shard]) -> Iterator[list[Path]]:
    """Local paths of the shards, which stay until the end of the block; raises NotHere."""
    with ExitStack() as held:
        yield [held.enter_context(_one_on_disk(shard)) for shard in shards]


@contextmanager
def _one_on_disk(shard: Shard) -> Iterator[Path]:
    local = storage.local_path(shard.key)
    if local is not None:
        if not local.is_file():
            raise NotHere(f"{shard.name} is missing from storage. Upload the dataset again.")
        yield local
        return
    folder = settings.BROWSE_DIR
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # people's data: closed to others here
    path = folder / f"{hashlib.sha256(shard.key.encode()).hexdigest()[:40]}.parquet"
    with path.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        while not path.exists():  # again if it went between the two locks
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                _copy(shard, path)
            fcntl.flock(lock, fcntl.LOCK_SH)
        os.utime(path)
        yield path


def _copy(shard: Shard, path: Path) -> None:
    """Fetch it under another name; it counts once it is whole."""
    try:
        needed = storage.size(shard.key)
    except FileNotFoundError:
        raise NotHere(f"{shard.name} is missing from storage. Upload the dataset again.") from None
    if needed > settings.BROWSE_MAX_BYTES:
        raise NotHere(
            f"{shard.name} is larger than what this server keeps to browse (TUNEBOARD_BROWSE_MAX_BYTES). "
            "Download it as Parquet instead."
        )
    _make_room(path.parent, needed)
    partial = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.partial")
    try:
        storage.get(shard.key, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _make_room(folder: Path, needed: int) -> None:
    """Remove what is old, then what was not used for longest, but nothing that is being read."""
    copies = []
    for path in folder.glob("*.parquet"):
        try:
            found = path.stat()
        except FileNotFoundError:
            continue
        copies.append((found.st_mtime, found.st_size, path))
    total = sum(size for _, size, _ in copies)
    for used, size, path in sorted(copies):
        if total + needed <= settings.BROWSE_MAX_BYTES and time.time() - used < KEPT_SECONDS:
            break
        if _remove_unless_read(path):
            total -= size
    for path in folder.glob("*.partial"):  # of a server that was killed
        if time.time() - path.stat().st_mtime > KEPT_SECONDS:
            path.unlink(missing_ok=True)


def _remove_unless_read(path: Path) -> bool:
    with path.with_suffix(".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        path.unlink(missing_ok=True)
        return True
