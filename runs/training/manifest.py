"""What a checkpoint folder holds: sizes and SHA-256 of its files, in a manifest that is written last.

A folder without its manifest was never finished and does not count. Trainer and worker read and write
the same form, so that a byte that changes anywhere between them is found. Free of torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

NAME = "manifest.json"


class Damaged(Exception):
    """A checkpoint is not what its manifest says, or has none; the message says what differs."""


@dataclass(frozen=True)
class File:
    """What a file must be."""

    size: int  # bytes
    sha256: str  # hex

    def matches(self, path: Path) -> bool:
        return path.stat().st_size == self.size and sha256_of(path) == self.sha256


def files_in(folder: Path) -> list[Path]:
    """Every file below a folder but its manifest, in a fixed order."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / NAME)


def finish(folder: Path) -> None:
    """Have each file of a folder on disk, then write its manifest: from then on it is whole."""
    to_disk(folder)
    listing = {}
    for path in files_in(folder):
        listing[path.relative_to(folder).as_posix()] = {
            "size": path.stat().st_size,
            "sha256": sha256_of(path),
        }
    partial = folder / f".{NAME}.partial"
    partial.write_text(json.dumps({"files": listing}, indent=1))
    _sync(partial)
    partial.rename(folder / NAME)
    _sync(folder)


def parse(text: str | bytes) -> dict[str, File]:
    """{path inside the folder: what it must be}; raises Damaged where that cannot be read."""
    try:
        listing = json.loads(text)["files"]
        found = {str(name): File(int(entry["size"]), str(entry["sha256"])) for name, entry in listing.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"its manifest cannot be read ({error})") from error
    if not found:
        raise Damaged("its manifest names no files")
    for name in found:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or name == NAME:
            raise Damaged(f"its manifest names {name!r}, which is no file of a checkpoint")
    return found


def read(folder: Path) -> dict[str, File]:
    """The manifest of a folder; raises Damaged."""
    try:
        return parse((folder / NAME).read_bytes())
    except FileNotFoundError:
        raise Damaged("it has no manifest") from None


def check(folder: Path) -> None:
    """Read every byte of a checkpoint folder; raises Damaged if one differs."""
    for name, expected in read(folder).items():
        path = folder / name
        if not path.is_file():
            raise Damaged(f"{name} is missing")
        if not expected.matches(path):
            raise Damaged(f"{name} is not what was saved")


def is_whole(folder: Path) -> bool:
    """Whether a folder was finished; its bytes are not read."""
    return (folder / NAME).is_file()


def to_disk(folder: Path) -> None:
    """fsync each file and the folder: what is announced must survive the host's power."""
    for path in [*folder.rglob("*"), folder, folder.parent]:
        _sync(path)


def sha256_of(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
