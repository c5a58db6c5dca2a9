"""Uploaded files go straight to where they stay: onto the storage's own disk, hashed on the way.

Django's own handlers would write a file to a temporary folder, from where it had to be copied and read
again for its hash. Here the file that has arrived is renamed into place.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.files import File
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, StopUpload

from webapp.uploads import receiving
from webapp.uploads.incoming import incoming_folder
from webapp.uploads.models import Upload

ABANDONED_SECONDS = 24 * 3600


def clear_abandoned() -> None:
    """Remove what a web process left when it was killed in the middle of an upload, and uploads that expired."""
    receiving.remove_expired()
    for path in incoming_folder().iterdir():
        if path.is_file() and path.stat().st_mtime < time.time() - ABANDONED_SECONDS:
            path.unlink(missing_ok=True)


class IncomingFile(UploadedFile):  # type: ignore[type-arg]
    """A file that has arrived. Closing it removes it, unless it was moved away before."""

    def __init__(self, path: Path, name: str, content_type: str | None, size: int, sha256: str) -> None:
        opened: IO[bytes] = path.open("rb")
        super().__init__(opened, name, content_type, size)
        self.path = path
        self.sha256 = sha256

    def temporary_file_path(self) -> str:
        return str(self.path)

    def close(self) -> None:
        super().close()
        self.path.unlink(missing_ok=True)


class KeptFile(File):  # type: ignore[type-arg]
    """A file that storage has already, under `key`. Its bytes are not opened: storage names them anew."""

    def __init__(self, key: str, name: str, size: int, sha256: str) -> None:
        super().__init__(None, name)
        self.key, self.size, self.sha256 = key, size, sha256


class ArrivedFile(KeptFile):
    """An upload that came piece by piece and is whole; it counted against the quota before it came."""

    def __init__(self, upload: Upload) -> None:
        super().__init__(upload.key, upload.name, upload.length, upload.sha256)


class TooLarge(StopUpload):
    """More bytes than UPLOAD_MAX_BYTES: the connection is closed, since reading on would only cost."""


class IncomingUploadHandler(FileUploadHandler):
    """Writes and hashes chunks as they come. Only for people and tokens that are known: others get no disk."""

    chunk_size = 1 << 20

    def __init__(self, request: Any = None) -> None:
        super().__init__(request)
        self._total = 0
        self._path: Path | None = None
        self._target: IO[bytes] | None = None

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        request = self.request
        known = getattr(request, "auth", None) or getattr(
            getattr(request, "user", None), "is_authenticated", 0
        )
        if not known:
            raise StopUpload(connection_reset=True)
        self._drop()
        self._path = incoming_folder() / uuid.uuid4().hex
        self._target = self._path.open("wb")
        self._hash = hashlib.sha256()

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        assert self._target is not None
        self._total += len(raw_data)
        if self._total > settings.UPLOAD_MAX_BYTES:
            self._drop()
            if self.request is not None:
                self.request.upload_too_large = True  # type: ignore[attr-defined]
            raise TooLarge(connection_reset=True)
        self._target.write(raw_data)
        self._hash.update(raw_data)

    def file_complete(self, file_size: int) -> IncomingFile:
        assert self._target is not None and self._path is not None
        self._target.close()
        path, self._target, self._path = self._path, None, None
        return IncomingFile(path, self.file_name or "", self.content_type, file_size, self._hash.hexdigest())

    def upload_interrupted(self) -> None:
        self._drop()

    def _drop(self) -> None:
        if self._target is not None:
            self._target.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._path = self._target = None
