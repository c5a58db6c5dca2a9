"""How much an upload may ask for before it is refused; the settings say it (docs/configuration.md)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Goes to the process that converts, which knows no settings."""

    archive_files: int = 200_000  # entries of any kind, folders too
    archive_bytes: int = 100 << 30  # of all files once they are inflated
    archive_ratio: int = 200  # inflated to packed; text packs 20 times, a bomb a thousand
    archive_depth: int = 16  # folders above a file
    archive_name_bytes: int = 255  # of the name of a file or a folder
    image_pixels: int = 200_000_000
