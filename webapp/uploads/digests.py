"""SHA-256 of uploads, counted beside their coming and never in its way.

Kept in this process from one request to the next. In a folder what has been written is read again at once, from the
page cache; where bytes come faster than they can be counted (a disk's rate, over loopback), the rest is counted after
the answer. In a bucket the bytes are counted as they pass. After a restart, or where the next piece goes to another
process, a file is read from its beginning once it is whole.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
import uuid
from collections import OrderedDict
from pathlib import Path
from typing import Protocol

from webapp import storage
from webapp.uploads.models import Upload
from webapp.uploads.pages import Dropped

log = logging.getLogger(__name__)
REMEMBERED = 1000
AHEAD = 4  # pieces that wait to be counted on their way into a bucket
PIECE = 1 << 20
MOST_BEHIND = 32 << 20  # bytes; further behind, counting leaves the processors to what comes
SOON = MOST_BEHIND  # what is left of a whole upload is waited for, if it is no more
LOOK_SECONDS = 0.02  # how often a file is looked at that grows


class Counting(Protocol):
    """The hash of an upload's first bytes. Of one request at a time."""

    there: int  # how many of them it counts

    def begin(self) -> None:
        """More are coming."""

    def add(self, data: bytes) -> None:
        """These were kept."""

    def end(self, there: int) -> bool:
        """No more come for now, and so many were kept. Says whether it is still of use."""

    @property
    def left(self) -> int:
        """Bytes that are not counted yet, and will be."""

    def hexdigest(self) -> str | None:
        """Once all are counted; None if they could not be read. Not between `begin` and `end`."""

    def abandon(self) -> None:
        """Nobody wants it any more."""


class Following:
    """Counts what is in a file by reading it, in a thread of its own."""

    def __init__(self, path: Path, there: int = 0) -> None:
        self.there = there
        self._path = path
        self._hash = hashlib.sha256()
        self._counted = 0
        self._comes = self._failed = False
        self._lock = threading.Lock()  # of who counts
        self._thread: threading.Thread | None = None
        self._over = threading.Event()

    def begin(self) -> None:
        self._comes = True
        self._over.clear()
        self._count()

    def add(self, data: bytes) -> None:
        self.there += len(data)

    def end(self, there: int) -> bool:
        self._failed |= there < self._counted  # the disk has lost what it had
        self.there, self._comes = there, False
        self._over.set()
        self._count()
        return not self._failed

    @property
    def left(self) -> int:
        return 0 if self._failed else self.there - self._counted

    def hexdigest(self) -> str | None:
        while self.left > 0 and (thread := self._thread) is not None:
            thread.join()
        return None if self._failed or self.left else self._hash.hexdigest()

    def abandon(self) -> None:
        self._failed = True

    def _count(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="digest", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(self._counted)
                pages = Dropped(file.fileno(), self._counted)
                buffer = memoryview(bytearray(PIECE))
                while not self._is_done():
                    behind = self.there - self._counted
                    if behind == 0 or (self._comes and behind > MOST_BEHIND):
                        self._over.wait(LOOK_SECONDS)
                        continue
                    size = file.readinto(buffer[: min(behind, PIECE)])
                    if not size:
                        raise EOFError(f"{self._path} is shorter than it was")
                    self._hash.update(buffer[:size])
                    self._counted += size
                    if not self._comes:
                        pages.until(self._counted)
        except Exception:
            if not self._failed:  # or it was removed on purpose
                log.warning("An upload could not be read again to count its digest.", exc_info=True)
            self._failed = True
            with self._lock:
                self._thread = None

    def _is_done(self) -> bool:
        with self._lock:
            done = self._failed or not (self._comes or self._counted < self.there)
            if done:
                self._thread = None
            return done


class Passing:
    """Counts bytes as they pass, in a thread of its own; waits while too many are not counted yet."""

    def __init__(self) -> None:
        self.there = 0
        self.left = 0
        self._hash = hashlib.sha256()

    def begin(self) -> None:
        self._waiting: queue.Queue[bytes | None] = queue.Queue(AHEAD)
        self._thread = threading.Thread(target=self._work, name="digest", daemon=True)
        self._thread.start()

    def add(self, data: bytes) -> None:
        self.there += len(data)
        self._waiting.put(data)

    def end(self, there: int) -> bool:
        self._waiting.put(None)
        self._thread.join()
        return self.there == there  # else it has seen more, or less, than what was kept

    def hexdigest(self) -> str | None:
        return self._hash.hexdigest()

    def abandon(self) -> None:
        """It counts nothing by itself."""

    def _work(self) -> None:
        while (data := self._waiting.get()) is not None:
            self._hash.update(data)


_running: OrderedDict[uuid.UUID, Counting] = OrderedDict()
_lock = threading.Lock()


def begin(upload: Upload, offset: int) -> Counting | None:
    """What counts the bytes from an offset on; None if what stands before them is not known here."""
    with _lock:
        counting = _running.pop(upload.pk, None)  # of a request that sends the same at once it is not
    if counting is None or counting.there != offset:
        path = storage.local_path(upload.key)
        if path is not None:
            counting = Following(path, offset)
        elif offset == 0:
            counting = Passing()
        else:
            return None
    counting.begin()
    return counting


def end(upload: Upload, counting: Counting, there: int) -> None:
    """A request is over, after which so many bytes are here: kept for the next one."""
    if not counting.end(there):
        return
    with _lock:
        _running[upload.pk] = counting
        _running.move_to_end(upload.pk)
        while len(_running) > REMEMBERED:
            _running.popitem(last=False)


def forget(upload: Upload) -> None:
    with _lock:
        counting = _running.pop(upload.pk, None)
    if counting is not None:
        counting.abandon()


def left(upload: Upload) -> int:
    """Bytes of a whole upload that somebody is still counting here."""
    counting = _running.get(upload.pk)
    return counting.left if counting is not None and counting.there == upload.length else 0


def of_whole(upload: Upload) -> str:
    """Hex digest of an upload whose bytes are all here; waits for who counts them."""
    counting = _running.get(upload.pk)
    if counting is not None and counting.there == upload.length and (known := counting.hexdigest()):
        return known
    hashed = hashlib.sha256()
    for chunk in storage.chunks(upload.key):
        hashed.update(chunk)
    return hashed.hexdigest()
