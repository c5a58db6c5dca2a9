"""A folder of backups: what is in it, whether it is whole, and what may go."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from webapp import storage

FORMAT = 1
MANIFEST = "manifest.json"
CHUNK = 1 << 20


class BackupError(Exception):
    """The backup cannot be made, or is not whole; the message says what to do."""


@dataclass
class Manifest:
    """What a backup holds."""

    format: int
    made_at: str
    version: str  # of Tuneboard
    postgres: str
    migrations: list[list[str]]  # [app, name], all that were applied
    tables: dict[str, dict[str, Any]]  # {table: {file, columns, rows, size, sha256}}
    sequences: dict[str, int]
    files: dict[str, dict[str, Any]]  # {storage key: {size, sha256, changed_at}}
    missing: list[str] = field(default_factory=list)  # named by the database, and not in storage
    has_secret_key: bool = False

    @property
    def size_bytes(self) -> int:
        return sum(int(entry["size"]) for entry in self.files.values())


class Place:
    """TARGET."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.backups, self.files = self.folder / "backups", self.folder / "files"

    def make(self) -> None:
        for path in (self.folder, self.backups, self.files):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Raises BackupError while another backup is made or checked here."""
        with (self.folder / ".lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BackupError(f"Another backup to {self.folder} is under way.") from None
            yield

    def names(self) -> list[str]:
        """Whole backups, oldest first."""
        if not self.backups.is_dir():
            return []
        return sorted(path.name for path in self.backups.iterdir() if (path / MANIFEST).is_file())

    def halves(self) -> list[str]:
        """Backups that did not get to their end."""
        if not self.backups.is_dir():
            return []
        return sorted(path.name for path in self.backups.iterdir() if not (path / MANIFEST).is_file())

    def newest(self) -> str:
        """Raises BackupError if there is no whole one."""
        names = self.names()
        if not names:
            half = " The one that is there did not get to its end." if self.halves() else ""
            raise BackupError(f"There is no backup in {self.folder}.{half}")
        return names[-1]

    def content(self, digest: str) -> Path:
        return self.files / digest[:2] / digest

    def keep(self, source: IO[bytes]) -> tuple[int, str]:
        """Bring a file in, unless these bytes are there; returns (size, SHA-256)."""
        partial = self.folder / f".{uuid.uuid4().hex}.partial"
        hashed, size = hashlib.sha256(), 0
        try:
            with partial.open("wb") as target:
                while data := source.read(CHUNK):
                    hashed.update(data)
                    size += target.write(data)
                digest = hashed.hexdigest()
                kept = self.content(digest)
                if not (kept.is_file() and kept.stat().st_size == size):
                    target.flush()
                    os.fsync(target.fileno())
                    kept.parent.mkdir(exist_ok=True)
                    partial.replace(kept)
        finally:
            partial.unlink(missing_ok=True)
        return size, digest

    # -- manifests ---------------------------------------------------------------------------------
    def write_manifest(self, name: str, manifest: Manifest) -> None:
        """The last thing that is written: with it the backup is whole."""
        data = json.dumps(asdict(manifest), indent=1).encode()
        folder = self.backups / name
        (folder / f"{MANIFEST}.sha256").write_text(hashlib.sha256(data).hexdigest())
        partial = folder / f".{MANIFEST}.partial"
        with partial.open("wb") as target:
            target.write(data)
            target.flush()
            os.fsync(target.fileno())
        partial.replace(folder / MANIFEST)

    def manifest(self, name: str) -> Manifest:
        """Raises BackupError if there is none, or it is damaged or of another format."""
        folder = self.backups / name
        try:
            data = (folder / MANIFEST).read_bytes()
            expected = (folder / f"{MANIFEST}.sha256").read_text().strip()
        except FileNotFoundError:
            raise BackupError(
                f"The backup {name} in {self.folder} is not whole: it has no manifest."
            ) from None
        if hashlib.sha256(data).hexdigest() != expected:
            raise BackupError(f"The manifest of the backup {name} is damaged.")
        told: dict[str, Any] = json.loads(data)
        if told.get("format") != FORMAT:
            raise BackupError(
                f"The backup {name} is of format {told.get('format')}; this Tuneboard reads format {FORMAT}."
            )
        return Manifest(**told)

    def check(self, name: str, seen: dict[str, str] | None = None) -> Manifest:
        """Read every byte of a backup; raises BackupError that names the first file that is not right.

        `seen` remembers files that several backups share: {SHA-256: what is wrong, or nothing}.
        """
        manifest = self.manifest(name)
        for table, entry in manifest.tables.items():
            _check_file(self.backups / name / str(entry["file"]), entry, f"the table {table}", name)
        known = {} if seen is None else seen
        for key, entry in manifest.files.items():
            digest = str(entry["sha256"])
            if digest not in known:
                try:
                    _check_file(self.content(digest), entry, key, name)
                except BackupError as error:
                    known[digest] = str(error)
                else:
                    known[digest] = ""
            if known[digest]:
                raise BackupError(known[digest])
        return manifest

    # -- room ----------------------------------------------------------------------------------------
    def prune(self, keep: int, say: Callable[[str], None]) -> None:
        """Remove all but the newest backups, those that are half, and files that none of the others has."""
        for name in [*self.names()[:-keep], *self.halves()]:
            (self.backups / name / MANIFEST).unlink(missing_ok=True)  # half from here on
            shutil.rmtree(self.backups / name)
            say(f"Removed the backup {name}.")
        used = {str(entry["sha256"]) for name in self.names() for entry in self.manifest(name).files.values()}
        for path in self.files.glob("*/*"):
            if path.name not in used:
                path.unlink()


def _check_file(path: Path, entry: dict[str, Any], what: str, name: str) -> None:
    if not path.is_file():
        raise BackupError(f"The backup {name} is not whole: {what} is missing.")
    if path.stat().st_size != entry["size"] or storage.sha256_of(path) != entry["sha256"]:
        raise BackupError(f"The backup {name} is damaged: {what} has other bytes than were written.")
