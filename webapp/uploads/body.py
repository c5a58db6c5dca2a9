"""The body of a request in pieces, read ahead: the next comes in while the last is hashed and written."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Protocol

PIECE = 1 << 19  # a handover between threads costs more than what a cache would spare
AHEAD = 8  # pieces in memory, whatever the size of the body


class Readable(Protocol):
    def read(self, size: int = ..., /) -> bytes:
        """Up to `size` bytes; none at the end."""


def pieces(source: Readable, length: int) -> Iterator[bytes]:
    """Those of a body of `length` bytes, fewer if it ends early. An error of reading comes after what was read."""
    if length <= AHEAD * PIECE:
        while piece := source.read(PIECE):
            yield piece
        return
    waiting: queue.Queue[bytes | BaseException] = queue.Queue(AHEAD)
    stopped = threading.Event()

    def read() -> None:
        found: bytes | BaseException = b"-"
        while found and not isinstance(found, BaseException):
            try:
                found = source.read(PIECE)
            except BaseException as error:  # for the thread that waits
                found = error
            while not stopped.is_set():
                try:
                    waiting.put(found, timeout=1)
                    break
                except queue.Full:
                    continue
            else:
                return

    threading.Thread(target=read, name="upload", daemon=True).start()
    try:
        while True:
            found = waiting.get()
            if isinstance(found, BaseException):
                raise found
            if not found:
                return
            yield found
    finally:
        stopped.set()
