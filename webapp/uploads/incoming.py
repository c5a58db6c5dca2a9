"""Where files stand on this host while they arrive, and what they are called."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from django.conf import settings

from webapp import storage


def incoming_folder() -> Path:
    """On the storage's disk if it has one."""
    folder = storage.local_path("incoming") or settings.HOME / "incoming"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def clean_name(name: str) -> str:
    """A file's name as its owner calls it: no path, no control or direction marks, at most 200 characters."""
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    printable = "".join(c for c in base if c.isprintable()).strip()
    if len(printable) <= 200:
        return printable or "unnamed"
    suffix = PurePosixPath(printable).suffix[:20]
    return printable[: 200 - len(suffix)] + suffix
