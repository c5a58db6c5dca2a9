"""Where the bytes of an upload go while they arrive: a growing file in a folder, or parts of an object in a bucket.

Several requests may send the same upload at once: a connection that was cut can still have bytes under way when
its client has already asked how far it got and gone on. So nothing is locked for as long as a request lasts. Each
append is locked, and appends only where the upload still ends where this writer left it (`Moved` otherwise).
"""

from __future__ import annotations

from typing import Protocol

from webapp import storage
from webapp.uploads.models import Upload


class Moved(Exception):
    """Another request has appended meanwhile."""


class Gone(Exception):
    """The upload was removed, or storage has lost it."""


class Writer(Protocol):
    """Appends to one upload."""

    offset: int

    def append(self, data: bytes) -> None:
        """Raises Moved, Gone, or the storage's own error; then some of `data` may have been kept."""

    def close(self) -> int:
        """Make what arrived durable and return where the upload now ends."""


class Store(Protocol):
    """What a kind of storage does for uploads."""

    def begin(self, upload: Upload) -> None:
        """Make room for a new one; its row is saved already."""

    def offset(self, upload: Upload) -> int:
        """How many bytes are here and stay here if the power goes; raises Gone."""

    def writer(self, upload: Upload, offset: int) -> Writer:
        """For bytes from an offset on; raises Gone."""

    def finish(self, upload: Upload) -> None:
        """All bytes are here: make them one file at `upload.key`. Fine if it was done before."""

    def remove(self, upload: Upload) -> None:
        """Nothing is left of it, finished or not; fine if there is nothing."""


def store() -> Store:
    """That of this installation."""
    if storage.local_path("") is not None:
        from webapp.uploads.folder import Folder

        return Folder()
    from webapp.uploads.bucket import Bucket  # S3's client takes a while to import

    return Bucket()
