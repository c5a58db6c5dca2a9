"""Makes a backup while everything runs: the database first, then the files that it names."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from runs.backup import database
from runs.backup.place import FORMAT, BackupError, Manifest, Place
from runs.execution.checkpoints import MANIFEST as CHECKPOINT_MANIFEST
from runs.models import Artifact, Checkpoint, Run
from webapp import storage
from webapp.catalog.models import BaseModel
from webapp.datasets.models import Dataset, DatasetVersion, UploadedFile
from webapp.storage import Stored

MOST_SAID = 20
ROUNDS = 3  # a file that goes while it is to be copied has gone from the database too: look again
Say = Callable[[str], None]


@dataclass
class Named:
    """What the database names in storage, at the moment of the snapshot."""

    runs: set[int]
    datasets: set[int]
    keys: dict[str, str] = field(default_factory=dict)  # {key: SHA-256, as its row says}
    checkpoints: set[str] = field(default_factory=set)  # prefixes
    folders: set[str] = field(default_factory=set)  # prefixes of dataset versions and models

    @classmethod
    def now(cls) -> Named:
        named = cls(
            set(Run.objects.values_list("pk", flat=True)), set(Dataset.objects.values_list("pk", flat=True))
        )
        named.keys |= dict(Artifact.objects.values_list("storage_key", "sha256"))
        named.keys |= dict(UploadedFile.objects.values_list("storage_key", "sha256"))
        named.checkpoints |= set(Checkpoint.objects.values_list("storage_prefix", flat=True))
        named.folders |= set(DatasetVersion.objects.values_list("storage_prefix", flat=True))
        stored = BaseModel.objects.filter(source__in=[BaseModel.Source.RUN, BaseModel.Source.FOLDER])
        named.folders |= {
            text.strip("/") for text in stored.values_list("reference", flat=True) if not text.startswith("/")
        }
        return named

    def wants(self, key: str) -> bool:
        """Whether a stored file belongs into the backup: not what is only being written, or nobody's."""
        parts = key.split("/")
        if key in self.keys or any("/".join(parts[:end]) in self.folders for end in range(1, len(parts))):
            return True
        if len(parts) < 3 or not parts[1].isdecimal() or parts[-1].endswith(".partial"):
            return False
        if parts[0] == "runs" and int(parts[1]) in self.runs:
            if parts[2] == "checkpoints":
                return "/".join(parts[:4]) in self.checkpoints
            return parts[2] != "artifacts"
        return parts[0] == "datasets" and int(parts[1]) in self.datasets

    def missing(self, files: dict[str, dict[str, Any]], place: Place) -> list[str]:
        """Keys and prefixes that are named and not among the files; a checkpoint has to be whole."""
        gone = [key for key in self.keys if key not in files]
        for prefix in self.checkpoints:
            listed = files.get(f"{prefix}/{CHECKPOINT_MANIFEST}")
            if listed is None or not all(
                f"{prefix}/{name}" in files for name in _names(place.content(str(listed["sha256"])))
            ):
                gone.append(prefix)
        below = {
            "/".join(parts[:end]) for key in files for parts in [key.split("/")] for end in range(len(parts))
        }
        return sorted(gone + [prefix for prefix in self.folders if prefix not in below])


def _names(path: Path) -> list[str]:
    """The files that a checkpoint's manifest names."""
    try:
        return list(json.loads(path.read_bytes()).get("files", {}))
    except ValueError:
        return []


def make_backup(target: Path, say: Say, *, secret_key: bool = True) -> tuple[str, Manifest]:
    """Returns the name of the new backup and what it holds; raises BackupError, OSError."""
    place = Place(target)
    kept_in = storage.local_path("")
    if kept_in is not None and place.folder.is_relative_to(kept_in.resolve()):
        raise BackupError("TARGET lies in storage itself: choose a folder elsewhere, best on another disk.")
    place.make()
    with place.locked():
        return _make(place, say, secret_key)


def _make(place: Place, say: Say, secret_key: bool) -> tuple[str, Manifest]:
    names = place.names()
    known: dict[str, dict[str, Any]] = place.manifest(names[-1]).files if names else {}
    made_at = timezone.now()
    name = f"{made_at:%Y%m%dT%H%M%S.%fZ}"
    folder = place.backups / name
    folder.mkdir(mode=0o700)
    before: list[str] | None = None
    for number in range(ROUNDS):
        with database.snapshot():
            parts = database.dump(folder / "database")
            named = Named.now()
        if number == 0:
            say(f"The database is copied: {sum(entry['rows'] for entry in parts['tables'].values()):,} rows.")
        files = _copy_files(place, named, known, say)
        missing = named.missing(files, place)
        if not missing or missing == before:  # gone for good, not only between two looks
            break
        before, known = missing, {**known, **files}
    if secret_key:
        path = folder / "secret_key"
        path.touch(mode=0o600)
        path.write_text(settings.SECRET_KEY)
    manifest = Manifest(
        format=FORMAT,
        made_at=made_at.isoformat(),
        version=_version(),
        files=files,
        missing=missing,
        has_secret_key=secret_key,
        **parts,
    )
    place.write_manifest(name, manifest)
    return name, manifest


def _copy_files(
    place: Place, named: Named, known: dict[str, dict[str, Any]], say: Say
) -> dict[str, dict[str, Any]]:
    """Bring in what is wanted and not there yet; a file that goes meanwhile is left out."""
    files: dict[str, dict[str, Any]] = {}
    copied, copied_bytes = 0, 0
    changed: list[str] = []
    for file in storage.listing():
        if not named.wants(file.key):
            continue
        entry = known.get(file.key)
        if entry is None or not _is_there(place, file, entry):
            try:
                with storage.open_file(file.key) as source:
                    size, digest = place.keep(source)
            except FileNotFoundError:
                continue
            entry = {"size": size, "sha256": digest, "changed_at": file.changed_at.isoformat()}
            copied, copied_bytes = copied + 1, copied_bytes + size
        expected = named.keys.get(file.key)
        if expected and expected != entry["sha256"]:
            changed.append(file.key)
        files[file.key] = entry
    for key in changed[:MOST_SAID]:
        say(f"Careful: {key} in storage is not what it was when it was stored.")
    if more := len(changed[MOST_SAID:]):
        say(f"… and {more:,} more.")
    say(f"{copied:,} of {len(files):,} files were new: {copied_bytes:,} bytes copied.")
    return files


def _is_there(place: Place, file: Stored, entry: dict[str, Any]) -> bool:
    """Whether an earlier backup has this file: the same key, size and time, and its bytes are kept."""
    same = entry["size"] == file.size and entry["changed_at"] == file.changed_at.isoformat()
    kept = place.content(str(entry["sha256"]))
    return same and kept.is_file() and kept.stat().st_size == file.size


def _version() -> str:
    try:
        return importlib.metadata.version("tuneboard")
    except importlib.metadata.PackageNotFoundError:
        import tomllib

        told = tomllib.loads((settings.ROOT / "pyproject.toml").read_text())
        return str(told["project"]["version"])
