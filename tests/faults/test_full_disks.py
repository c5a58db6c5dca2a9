"""Disks that are full for a while, under the work of a host or under the storage.

A run that meets one fails as `disk_full`, with all that it had until then; once there is room, "Try again" brings it
to where an undisturbed run comes to.
"""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import settled
from tests.faults.cluster import until
from tests.faults.conftest import MOMENTS
from tests.faults.fleet import Fleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
SIZE = 8 << 20  # bytes; more than NO_ROOM_BYTES of runs/execution/supervise.py while it is empty


def mount(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("a small disk takes the right to mount one")


@pytest.fixture(scope="module")
def fleet(homes: Callable[[], Path]) -> Iterator[Fleet]:
    made = Fleet(homes())
    disks = [made.home / "storage", *(host.home / "work" for host in made.hosts)]
    try:
        for disk in disks:
            mount(disk)
        made.begin()
        yield made
    finally:
        made.stop()
        for disk in disks:
            subprocess.run(["umount", "-l", str(disk)], capture_output=True)


def fill(folder: Path) -> Path:
    """To the last byte."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for piece in (1 << 16, 4096, 1):
            try:
                while True:
                    file.write(b"\0" * piece)
            except OSError:
                continue
    return ballast


@pytest.mark.parametrize("where", ["work", "storage"])
def test_a_full_disk_costs_no_work_that_was_done(fleet: Fleet, chance: random.Random, where: str) -> None:
    met = 0
    for _ in range(MOMENTS):
        fleet.keep_busy(chance)
        time.sleep(chance.uniform(0, 1.5))
        full = fleet.home / "storage" if where == "storage" else chance.choice(fleet.hosts).home / "work"
        ballast = fill(full)
        time.sleep(chance.uniform(0.5, 4))
        ballast.unlink()
        met += try_again(fleet)
    until(lambda: fleet.unfinished() == 0, 240)
    met += try_again(fleet)
    settled.check(fleet)
    assert met, "no run has met a full disk"


def try_again(fleet: Fleet) -> int:
    """Press the button of each run that has failed, for this reason alone; returns how many."""
    failed = fleet.rows("SELECT id, failure FROM runs_run WHERE status = 'failed'")
    for run, failure in failed:
        assert failure["code"] == "disk_full", f"{failure}\n{fleet.story()}"
        fleet.ask(retry=run)
    return len(failed)
