"""Uploads where storage is a folder: the file is what it will be, and as long as what has arrived."""

from __future__ import annotations

import fcntl
import os
import threading

from webapp import storage
from webapp.uploads.digests import MOST_BEHIND
from webapp.uploads.models import Upload
from webapp.uploads.pages import Dropped
from webapp.uploads.stores import Gone, Moved, Writer

SYNC_BYTES = 32 << 20
# Larger ones have Linux look for large pages. Where a virtual machine gives free memory back to its host, those are what
# it has to ask for again: 1.3 s a GB instead of 0.2 (measured on Linux 6.18, ext4).
WRITE_BYTES = 1 << 18


class Folder:
    """As stores.Store. What the file holds is the truth, whatever the row says."""

    def begin(self, upload: Upload) -> None:
        path = storage.existing_path(upload.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def offset(self, upload: Upload) -> int:
        try:
            with storage.existing_path(upload.key).open("rb") as file:
                os.fsync(file.fileno())
                return os.fstat(file.fileno()).st_size
        except FileNotFoundError as error:
            raise Gone from error

    def writer(self, upload: Upload, offset: int) -> Writer:
        return _FileWriter(upload, offset)

    def finish(self, upload: Upload) -> None:
        """The file is whole as it is."""

    def remove(self, upload: Upload) -> None:
        storage.delete_under(upload.prefix)


class _FileWriter:
    """Has the disk write while more comes in, so that little is left to wait for at the end."""

    def __init__(self, upload: Upload, offset: int) -> None:
        try:
            self._file = storage.existing_path(upload.key).open("r+b", buffering=0)
        except FileNotFoundError as error:
            raise Gone from error
        self.offset = self._begun = offset  # as far as the disk was told to write
        self._pages = Dropped(self._file.fileno(), offset)
        self._syncing: threading.Thread | None = None
        self._failed: OSError | None = None  # an error of the disk is told once, so it is kept

    def append(self, data: bytes) -> None:
        descriptor = self._file.fileno()
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            found = os.fstat(descriptor)
            if not found.st_nlink:
                raise Gone
            if found.st_size != self.offset:
                raise Moved
            view = memoryview(data)
            while view:
                written = os.pwrite(descriptor, view[:WRITE_BYTES], self.offset)
                self.offset += written
                view = view[written:]
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        if self.offset - self._begun >= SYNC_BYTES and not (self._syncing and self._syncing.is_alive()):
            self._begun = self.offset
            self._syncing = threading.Thread(target=self._sync, args=[self.offset], name="sync", daemon=True)
            self._syncing.start()

    def _sync(self, until: int) -> None:
        try:
            os.fdatasync(self._file.fileno())
            self._pages.until(until - MOST_BEHIND)  # who counts its digest reads the rest
        except OSError as error:
            self._failed = error

    def close(self) -> int:
        with self._file:
            if self._syncing is not None:
                self._syncing.join()
            if self._failed is not None:
                raise self._failed
            os.fsync(self._file.fileno())
        return self.offset
