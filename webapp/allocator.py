"""What the C library does with memory that a request no longer needs."""

import contextlib
import ctypes

LARGEST = 4 << 20  # bytes of a block that is kept for the next use
KEPT = 16 << 20  # bytes that each pool keeps at its end


def keep_blocks() -> None:
    """Have blocks of some hundred KB reused instead of given back to the system each time.

    A body that comes in such pieces pays for fresh zeroed pages with each of them otherwise: an upload over
    loopback took 0.66–0.86 s a GB instead of 0.55–0.58 (benchmarks/upload.py, 2 CPU cores).
    """
    trim_threshold, mmap_threshold = -1, -3  # malloc.h of the GNU C library
    with contextlib.suppress(AttributeError, OSError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(mmap_threshold, LARGEST)
        library.mallopt(trim_threshold, KEPT)
