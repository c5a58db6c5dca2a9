"""Each kind of fault at random moments of runs that train: in the end every run is as if nothing had happened.

Its weights are equal, each step's metrics stand once, and no process, file or row is left without an owner
(tests/faults/settled.py). Which moments, the seed says (tests/faults/conftest.py).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import settled
from tests.faults.conftest import MOMENTS
from tests.faults.fleet import Fleet
from tests.faults.kinds import FAULTS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
CLOCKS = ("clock_of_a_worker_steps", "clock_of_the_dispatchers_steps")
ELSEWHERE = {"web_killed"}


@pytest.fixture(scope="module")
def fleets(homes: Callable[[], Path]) -> Iterator[Callable[[bool], Fleet]]:
    """The fleet of this module; a new one after a failure, which may have left anything."""
    found: list[Fleet] = []

    def give(fresh: bool) -> Fleet:
        if fresh and found:
            found.pop().stop()
        if not found:
            found.append(Fleet(homes()))
            found[0].begin()
        return found[0]

    yield give
    for fleet in found:
        fleet.stop()
        assert not fleet.ours(), "processes were left behind"


@pytest.fixture
def fleet(fleets: Callable[[bool], Fleet], request: pytest.FixtureRequest) -> Iterator[Fleet]:
    failed = request.session.testsfailed
    yield fleets(False)
    if request.session.testsfailed > failed:
        fleets(True)


@pytest.mark.parametrize("kind", [kind for kind in FAULTS if kind not in ELSEWHERE])
def test_a_storm_leaves_no_trace(fleet: Fleet, chance: random.Random, kind: str) -> None:
    if kind in CLOCKS and fleet.clocks is None:
        pytest.skip("shifting a process' clock takes a C compiler")
    for _ in range(MOMENTS):
        fleet.keep_busy(chance)
        time.sleep(chance.uniform(0, 2))
        FAULTS[kind](fleet, chance)
    settled.check(fleet)
