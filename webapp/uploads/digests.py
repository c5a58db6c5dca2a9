"""SHA-256 of uploads, counted as their bytes come.

Kept in this process from one request to the next, so that a file which comes in pieces is read once. After a
restart, or where the next piece goes to another process, the file is read again when it is whole.
"""

from __future__ import annotations

import hashlib
import queue
import threading
import uuid
from collections import OrderedDict
from typing import Any

from webapp import storage
from webapp.uploads.models import Upload

REMEMBERED = 1000
AHEAD = 4  # pieces that wait to be counted

_running: OrderedDict[uuid.UUID, tuple[int, Any]] = OrderedDict()
_lock = threading.Lock()


def take(upload: Upload, offset: int) -> Any | None:
    """The hash of the first `offset` bytes, to go on with; None if it is not known here."""
    if offset == 0:
        return hashlib.sha256()
    with _lock:
        known = _running.get(upload.pk)
    return known[1].copy() if known and known[0] == offset else None


def keep(upload: Upload, offset: int, running: Any) -> None:
    """Remember it for the next piece."""
    with _lock:
        _running[upload.pk] = (offset, running)
        _running.move_to_end(upload.pk)
        while len(_running) > REMEMBERED:
            _running.popitem(last=False)


class Beside:
    """Counts a hash in a thread of its own, while the same bytes are written."""

    def __init__(self, running: Any) -> None:
        self._running = running
        self._waiting: queue.Queue[bytes | None] = queue.Queue(AHEAD)
        self._thread = threading.Thread(target=self._work, name="digest", daemon=True)
        self._thread.start()

    def update(self, data: bytes) -> None:
        """Soon. Waits while too many pieces are not counted yet."""
        self._waiting.put(data)

    def end(self) -> Any:
        """The hash of all that it was given; nothing can be added."""
        self._waiting.put(None)
        self._thread.join()
        return self._running

    def _work(self) -> None:
        while (data := self._waiting.get()) is not None:
            self._running.update(data)


def forget(upload: Upload) -> None:
    with _lock:
        _running.pop(upload.pk, None)


def of_whole(upload: Upload) -> str:
    """Hex digest of an upload whose bytes are all here."""
    running = take(upload, upload.length)
    if running is not None:
        return str(running.hexdigest())
    hashed = hashlib.sha256()
    for chunk in storage.chunks(upload.key):
        hashed.update(chunk)
    return hashed.hexdigest()
