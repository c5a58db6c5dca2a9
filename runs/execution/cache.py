"""What this host keeps of storage: datasets and stored base models, named by their content, within a limit.

An entry is a folder that is there whole or not at all: it is fetched under another name, checked, and
renamed. File locks do the rest, and the kernel gives them back however their holder ends:

    .meta/<kind>-<key>.fetch     exclusive while the entry is fetched
    .meta/<kind>-<key>.lock      shared by each attempt that uses it, exclusive while it is removed
    .meta/<kind>-<key>.json      sizes, times and SHA-256 of its files; its own time is the last use
    .meta/attempt-<name>.lock    held by each attempt under way here; its time is when that began
    .meta/trim.lock              exclusive while room is made, shared while an attempt begins

So workers and slots that share a home share a fetch, too. What trainers keep beside it (converted base
models, Arrow tables, hub snapshots) counts in the limit and goes when it was last used before the
oldest attempt under way began: what a trainer opens now it has locked or used since.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from django.conf import settings

from webapp import storage

log = logging.getLogger(__name__)
DEFAULT_MAX_BYTES = 200 * 10**9
META, TRASH, PARTIAL = ".meta", ".trash", ".partial"
KINDS = ("datasets", "stored-models")  # what is fetched here; everything else is the trainers'


class DamagedEntry(Exception):
    """What was fetched is not what was stored; the message says what differs."""


@dataclass
class Leases:
    """What one attempt uses, held until `close` or the end of this process."""

    handles: list[IO[str]] = field(default_factory=list)
    closed: bool = False

    def add(self, handle: IO[str]) -> None:
        self.handles.append(handle)
        if self.closed:  # the attempt was given up while its files were still being fetched
            self.close()

    def close(self) -> None:
        self.closed = True
        while self.handles:
            self.handles.pop().close()


@dataclass
class Entry:
    """Something that could be removed to make room."""

    path: Path
    size: int
    used: float  # when last, seconds since 1970
    lock: Path | None = None  # to be had exclusively before it is removed
    manifest: Path | None = None
    is_trainers: bool = False


class Cache:
    """The cache in a folder. Any number of these, in any number of processes, may share it."""

    def __init__(self, root: Path | None = None, max_bytes: int | None = None) -> None:
        self.root = root or settings.CACHE_DIR
        self._max_bytes = max_bytes
        self.meta = self.root / META

    @property
    def max_bytes(self) -> int:
        if self._max_bytes or settings.CACHE_MAX_BYTES:
            return int(self._max_bytes or settings.CACHE_MAX_BYTES)
        self.root.mkdir(parents=True, exist_ok=True)
        return min(DEFAULT_MAX_BYTES, shutil.disk_usage(self.root).total // 2)

    # -- attempts ----------------------------------------------------------------------------------
    def begin(self, attempt: str) -> Leases:
        """Leases for an attempt of this name: what it uses stays until they are closed."""
        leases = Leases()
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)  # people's data: closed to others here
        with self._locked(self.meta / "trim.lock", fcntl.LOCK_SH):
            handle = self._lock(self.meta / f"attempt-{attempt}-{uuid.uuid4().hex}.lock", fcntl.LOCK_EX)
            os.utime(handle.fileno())
            leases.add(handle)
        return leases

    def _oldest_attempt(self) -> float | None:
        """When the oldest attempt under way here began; locks of those that are over are removed."""
        begun = []
        for path in self.meta.glob("attempt-*.lock"):
            self._forget_lock(path)
            with contextlib.suppress(FileNotFoundError):  # it is held
                begun.append(path.stat().st_mtime)
        return min(begun, default=None)

    # -- entries -----------------------------------------------------------------------------------
    def folder(
        self,
        kind: str,
        key: str,
        fetch: Callable[[Path], None],
        leases: Leases,
        *,
        check: Callable[[Path], None] | None = None,
        expected_bytes: int = 0,
    ) -> Path:
        """The entry's folder, leased; fetched if it is not there whole.

        `fetch` fills an empty folder; `check` raises DamagedEntry if that is not what it should be.
        """
        if kind not in KINDS or "/" in key or key.startswith("."):
            raise ValueError(f"no entry can be called {kind}/{key}")
        path, manifest = self.root / kind / key, self.meta / f"{kind}-{key}.json"
        use, fetching = self.meta / f"{kind}-{key}.lock", self.meta / f"{kind}-{key}.fetch"
        handle = self._lock(use, fcntl.LOCK_SH)
        if not self._is_whole(path, manifest):
            handle.close()  # who fetches it waits for nobody who may have to wait for a fetch
            with self._locked(fetching, fcntl.LOCK_EX):
                handle = self._lock(use, fcntl.LOCK_SH)  # from here on it is removed by nobody
                try:
                    if not self._is_whole(path, manifest):  # or else another was first
                        self.trim(reserve=expected_bytes)
                        self._fetch(kind, key, fetch, check)
                        self.trim()
                except BaseException:
                    handle.close()
                    raise
        os.utime(manifest)
        leases.add(handle)
        return path

    def _fetch(
        self, kind: str, key: str, fetch: Callable[[Path], None], check: Callable[[Path], None] | None
    ) -> None:
        path, manifest = self.root / kind / key, self.meta / f"{kind}-{key}.json"
        for old in (self.root / PARTIAL).glob(
            f"{kind}-{key}.*"
        ):  # its fetcher was killed: this one has its lock
            shutil.rmtree(old, ignore_errors=True)
        if path.is_dir():
            log.warning("The cached %s of %s is damaged; fetching it again.", kind, key)
            self._throw_away(path)
        partial = self.root / PARTIAL / f"{kind}-{key}.{uuid.uuid4().hex}"
        partial.mkdir(parents=True)
        try:
            fetch(partial)
            if check is not None:
                check(partial)
            files = {
                file.relative_to(partial).as_posix(): {**_stamp(file), "sha256": storage.sha256_of(file)}
                for file in _files(partial)
            }
            for file in _files(partial):
                with file.open("rb") as written:
                    os.fsync(written.fileno())
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(manifest, json.dumps({"files": files}))
            partial.rename(path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _is_whole(self, path: Path, manifest: Path) -> bool:
        """Whether its files are those that were fetched: by size and time, else by their bytes."""
        try:
            files: dict[str, Any] = json.loads(manifest.read_text())["files"]
        except (OSError, ValueError, KeyError):
            return False
        if not path.is_dir() or {file.relative_to(path).as_posix() for file in _files(path)} != set(files):
            return False
        for name, known in files.items():
            now = _stamp(path / name)
            if now["size"] != known["size"]:
                return False
            if now["mtime_ns"] != known["mtime_ns"] and storage.sha256_of(path / name) != known["sha256"]:
                return False
        return True

    # -- room --------------------------------------------------------------------------------------
    def used_bytes(self) -> int:
        """What everything in the cache takes, half-done fetches and the trainers' own included."""
        return _size(self.root)

    def trim(self, reserve: int = 0) -> int:
        """Remove what was used least recently and nobody uses, until `reserve` bytes more fit; bytes freed."""
        self.meta.mkdir(parents=True, exist_ok=True)
        thrown: list[Path] = []
        freed = 0
        with self._locked(self.meta / "trim.lock", fcntl.LOCK_EX):
            self._sweep()
            too_many = self.used_bytes() + reserve - self.max_bytes
            if too_many > 0:
                begun = self._oldest_attempt()
                for entry in sorted(self._entries(), key=lambda entry: entry.used):
                    if freed >= too_many:
                        break
                    if thrown_to := self._evict(entry, begun):
                        freed += entry.size
                        thrown.append(thrown_to)
        for path in thrown:  # renamed already: nobody waits for this
            shutil.rmtree(path, ignore_errors=True)
        if freed:
            log.info("Removed %s entries (%.1f MB) from the cache.", len(thrown), freed / 1e6)
        return freed

    def _entries(self) -> Iterator[Entry]:
        for kind in KINDS:
            for path in _children(self.root / kind):
                manifest = self.meta / f"{kind}-{path.name}.json"
                lock = self.meta / f"{kind}-{path.name}.lock"
                yield Entry(path, _size(path), _time(manifest) or _time(path), lock, manifest)
        for path in self._trainers_entries():
            lock = path.with_name(f"{path.name}.lock")  # as runs/training/base_models keeps one
            if lock.exists():
                yield Entry(path, _size(path), _time(lock), lock, is_trainers=True)
            else:
                yield Entry(path, _size(path), _last_read(path), is_trainers=True)

    def _trainers_entries(self) -> list[Path]:
        """Converted models, hub snapshots, Arrow tables, one each."""
        found: list[Path] = []
        for folder in _children(self.root):
            if folder.name == "arrow":  # arrow/parquet/default-…
                found += [table for kind in _children(folder) for table in _children(kind)]
            elif folder.name not in KINDS:
                found += _children(folder)
        return [path for path in found if path.suffix != ".lock"]

    def _evict(self, entry: Entry, begun: float | None) -> Path | None:
        """Where it was moved to; None if somebody uses it."""
        if entry.is_trainers and begun is not None and (entry.used >= begun or entry.lock is None):
            return None
        handle = self._lock_if_free(entry.lock) if entry.lock is not None else None
        if entry.lock is not None and handle is None:
            return None
        try:
            if entry.is_trainers and begun is not None and entry.lock and _time(entry.lock) >= begun:
                return None
            if entry.manifest is not None:
                entry.manifest.unlink(missing_ok=True)
            thrown = self._throw_away(entry.path)
            if entry.lock is not None and not entry.is_trainers:
                entry.lock.unlink(missing_ok=True)  # who waits for it looks whether it is still the one
                self._forget_lock(entry.lock.with_suffix(".fetch"))
            return thrown
        finally:
            if handle is not None:
                handle.close()

    def _throw_away(self, path: Path) -> Path:
        target = self.root / TRASH / uuid.uuid4().hex
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        return target

    def _sweep(self) -> None:
        """What was left by processes that were killed: half a fetch, half a removal."""
        for path in _children(self.root / TRASH):
            shutil.rmtree(path, ignore_errors=True)
        for path in _children(self.root / PARTIAL):
            lock = self.meta / f"{path.name.rpartition('.')[0]}.fetch"
            if (handle := self._lock_if_free(lock)) is not None:
                shutil.rmtree(path, ignore_errors=True)
                handle.close()

    # -- locks -------------------------------------------------------------------------------------
    def _lock(self, path: Path, how: int) -> IO[str]:
        """Wait for a lock on this file, as long as it is the one of that name."""
        while True:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = path.open("a")
            try:
                fcntl.flock(handle, how)
                if _is_still(handle, path):
                    return handle
            except BaseException:
                handle.close()
                raise
            handle.close()

    def _lock_if_free(self, path: Path) -> IO[str] | None:
        try:
            handle = path.open("a")
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            return None
        if _is_still(handle, path):
            return handle
        handle.close()
        return None

    def _forget_lock(self, path: Path) -> None:
        """Remove the file of a lock that nobody holds."""
        if (handle := self._lock_if_free(path)) is not None:
            path.unlink(missing_ok=True)
            handle.close()

    @contextlib.contextmanager
    def _locked(self, path: Path, how: int) -> Iterator[None]:
        with self._lock(path, how):
            yield


def _is_still(handle: IO[str], path: Path) -> bool:
    try:
        return path.stat().st_ino == os.fstat(handle.fileno()).st_ino
    except FileNotFoundError:
        return False


def _stamp(path: Path) -> dict[str, int]:
    found = path.stat()
    return {"size": found.st_size, "mtime_ns": found.st_mtime_ns}


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(each for each in path.rglob("*") if each.is_file())


def _children(folder: Path) -> list[Path]:
    """What lies in it, but for what is hidden."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _size(path: Path) -> int:
    """Bytes on the disk of what lies there; links count nothing."""
    total = 0
    for each in (path, *(path.rglob("*") if path.is_dir() else ())):
        with contextlib.suppress(OSError):  # gone meanwhile
            found = each.lstat()
            total += found.st_size if each.is_file() and not each.is_symlink() else 0
    return total


def _time(path: Path) -> float:
    """When it was last written; 0 if it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _last_read(path: Path) -> float:
    """When any file of it was last written or read, as far as the file system keeps account."""
    newest = 0.0
    for file in _files(path):
        with contextlib.suppress(OSError):
            found = file.stat()
            newest = max(newest, found.st_mtime, found.st_atime)
    return newest or _time(path)


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    partial.write_text(text)
    partial.replace(path)
