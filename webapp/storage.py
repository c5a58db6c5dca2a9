"""Files that outlive a process: datasets, checkpoints, weights. A folder or an S3 bucket (STORAGE_URL).

Keys are relative, with forward slashes. A file is written whole or not at all: a local one goes
through a temporary name, an S3 object appears when its upload is complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from django.core.files import File
from django.core.files.storage import FileSystemStorage, default_storage

CHUNK = 1 << 20


def local_path(key: str) -> Path | None:
    """Where the file lies on this host's disk, or None if storage is not a folder."""
    if isinstance(default_storage, FileSystemStorage):  # of the object behind the lazy one
        return Path(default_storage.path(key))
    return None


def existing_path(key: str) -> Path:
    """The same where storage is known to be a folder."""
    path = local_path(key)
    assert path is not None, "storage is a bucket"
    return path


def bucket_place(key: str) -> tuple[Any, dict[str, str]]:
    """The S3 client of a storage that is a bucket, and what names a key to it."""
    bucket: Any = default_storage
    base = bucket.location.strip("/")
    full = f"{base}/{key}" if base else key
    return bucket.connection.meta.client, {"Bucket": bucket.bucket_name, "Key": full}


def always() -> bool:
    """Nothing that would end a copy early."""
    return True


class Abandoned(InterruptedError):
    """A copy was given up between two pieces, because `go_on` said so; nothing of it is to be seen."""


class _Guarded(File):  # type: ignore[type-arg]
    """A file that is read no further once `go_on` says no."""

    def __init__(self, file: IO[bytes], go_on: Callable[[], bool]) -> None:
        super().__init__(file)
        self._source, self._go_on = file, go_on

    def read(self, *size: int) -> bytes:
        if not self._go_on():
            raise Abandoned(f"storing {self.name} was abandoned")
        data: bytes = self._source.read(*size)
        return data


def put(path: Path, key: str, *, move: bool = False, go_on: Callable[[], bool] = always) -> None:
    """Store a local file under a key, replacing what is there; `move` may spare the copy.

    `go_on` is asked before each piece: whoever may write no more stops there, with Abandoned.
    """
    target = local_path(key)
    if target is None:
        with path.open("rb") as source:
            default_storage.save(key, _Guarded(source, go_on))
        if move:
            path.unlink()
        return
    if not go_on():
        raise Abandoned(f"storing {path} was abandoned")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        if move and path.stat().st_dev == target.parent.stat().st_dev:
            path.rename(partial)
        else:
            with path.open("rb") as source, partial.open("wb") as copy:
                shutil.copyfileobj(_Guarded(source, go_on), copy, CHUNK)
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        if not go_on():
            raise Abandoned(f"storing {path} was abandoned")
        partial.replace(target)
        if move:
            path.unlink(missing_ok=True)
    finally:
        partial.unlink(missing_ok=True)


def copy(source: str, key: str) -> None:
    """Another name for a stored file that nobody writes to any more: a link, or a copy that the bucket makes."""
    target = local_path(key)
    if target is None:
        from boto3.s3.transfer import TransferConfig  # takes a while to import

        client, place = bucket_place(key)
        whole = TransferConfig(multipart_threshold=4 << 30, multipart_chunksize=512 << 20)
        client.copy(bucket_place(source)[1], place["Bucket"], place["Key"], Config=whole)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(existing_path(source), target)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        put(existing_path(source), key)  # a file system without links


def get(key: str, path: Path) -> None:
    """Copy a stored file to a local path, where it is whole or not at all; FileNotFoundError if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open_file(key) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target, CHUNK)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def open_file(key: str) -> IO[bytes]:
    """Open a stored file for reading; seekable."""
    opened: IO[bytes] = default_storage.open(key, "rb")
    return opened


def size(key: str) -> int:
    """Bytes of a stored file; FileNotFoundError if there is none."""
    if not default_storage.exists(key):
        raise FileNotFoundError(key)
    return int(default_storage.size(key))


def chunks(key: str) -> Iterator[bytes]:
    """A stored file from its beginning, a megabyte at a time: of an object in a bucket no more is ever here."""
    path = local_path(key)
    if path is None:
        client, place = bucket_place(key)
        yield from client.get_object(**place)["Body"].iter_chunks(CHUNK)
        return
    with path.open("rb") as source:
        while chunk := source.read(CHUNK):
            yield chunk


def exists(key: str) -> bool:
    return bool(default_storage.exists(key))


def keys_under(prefix: str) -> Iterator[str]:
    """Every key below a prefix, sorted within each folder; none if the prefix is not there."""
    try:
        folders, files = default_storage.listdir(prefix)
    except FileNotFoundError:
        return
    for name in sorted(files):
        yield f"{prefix}/{name}"
    for name in sorted(folders):
        yield from keys_under(f"{prefix}/{name}")


@dataclass(frozen=True)
class Stored:
    """A file as storage lists it. `changed_at` is when it came there, whatever time it carries itself."""

    key: str
    size: int
    changed_at: datetime


def listing(prefix: str = "") -> Iterator[Stored]:
    """Every file below a prefix with its size, sorted by key; those that are being written too.

    A file that goes meanwhile is left out; a folder that cannot be read raises OSError.
    """
    root = local_path("")
    if root is not None:
        start = local_path(prefix)
        yield from _files_below(start, root) if start is not None and start.is_dir() else ()
        return
    bucket: Any = default_storage  # listed without folders: one request a thousand files
    base = f"{bucket.location.strip('/')}/" if bucket.location.strip("/") else ""
    inside = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    for item in bucket.bucket.objects.filter(Prefix=base + inside):
        yield Stored(item.key.removeprefix(base), item.size, item.last_modified.astimezone(UTC))


def _files_below(folder: Path, root: Path) -> Iterator[Stored]:
    try:
        inside = sorted(folder.iterdir())
    except FileNotFoundError:
        return
    for path in inside:
        if path.is_dir() and not path.is_symlink():
            yield from _files_below(path, root)
            continue
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue
        # A moved file keeps the time it was written at; that of its inode says when it came here.
        changed = datetime.fromtimestamp(max(found.st_mtime, found.st_ctime), UTC)
        yield Stored(path.relative_to(root).as_posix(), found.st_size, changed)


def free_space() -> tuple[int, int] | None:
    """(bytes free, bytes in all) of the disk under storage; None where storage is not a folder."""
    folder = local_path("")
    if folder is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    usage = shutil.disk_usage(folder)
    return usage.free, usage.total


def delete_file(key: str) -> None:
    """Remove one file; fine if there is none. Its folder stays: somebody may be about to write there."""
    path = local_path(key)
    if path is None:
        default_storage.delete(key)
    else:
        path.unlink(missing_ok=True)


def delete_empty_folders(prefix: str) -> None:
    """Remove the folders at and below a prefix that nobody writes to any more, where they are empty."""
    folder = local_path(prefix)
    if folder is None or not folder.is_dir() or posixpath.normpath(f"/{prefix}") == "/":
        return
    for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        _remove_if_empty(path)
    _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()


def delete_under(prefix: str) -> None:
    """Remove every file below a prefix; fine if there is none."""
    if posixpath.normpath(f"/{prefix.strip('/')}") == "/":
        raise ValueError("refusing to delete the whole storage")
    folder = local_path(prefix)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
        return
    for key in list(keys_under(prefix)):
        default_storage.delete(key)


def sha256_of(path: Path) -> str:
    """Hex digest of a local file."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
