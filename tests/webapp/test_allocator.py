"""Large blocks are used again: a body that comes in pieces does not pay for fresh pages with each of them."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, threading
if sys.argv[1] == "kept":
    from webapp.allocator import keep_blocks
    keep_blocks()

def pieces():
    for number in range(50):
        waiting = [bytes([number]) * (1 << 19) for _ in range(8)]
        waiting.clear()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

before = faults()
thread = threading.Thread(target=pieces)
thread.start()
thread.join()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of the GNU C library")
def test_large_blocks_are_used_again() -> None:
    def faults(way: str) -> int:
        command = [sys.executable, "-c", PROGRAM, way]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert faults("kept") * 4 < faults("plain")
