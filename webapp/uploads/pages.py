"""What of an upload stays in the page cache: so much of its beginning, for who reads it next."""

from __future__ import annotations

import os
from contextlib import suppress

KEPT_BYTES = 1 << 30
EACH = 32 << 20  # bytes; at least so many are dropped at once


class Dropped:
    """As far as the page cache was told to forget a file that is written or read from one end to the other.

    What comes next finds memory that was in use just before. Else a large file pushes out what others read again and
    again; and on a virtual machine that gives free memory back to its host, writing 4 GB took three times as long.
    """

    def __init__(self, descriptor: int, offset: int) -> None:
        """`offset`: from here on it is written or read."""
        self._descriptor = descriptor
        self._until = max(offset, KEPT_BYTES)

    def until(self, offset: int) -> None:
        """What stands before is on the disk, and is not needed again soon."""
        if (size := offset - self._until) >= EACH:
            with suppress(OSError):  # it is an advice
                os.posix_fadvise(self._descriptor, self._until, size, os.POSIX_FADV_DONTNEED)
            self._until = offset
