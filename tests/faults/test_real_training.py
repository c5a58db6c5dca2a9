"""A real model that is trained for real through the same storms: each run's weights equal those of the first one,
to which nothing happened, byte for byte."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import settled
from tests.faults.cluster import until
from tests.faults.conftest import MOMENTS
from tests.faults.fleet import Fleet
from tests.faults.kinds import FAULTS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def fleet(homes: Callable[[], Path]) -> Iterator[Fleet]:
    # A trainer takes seconds to import what it needs, and a storm restarts it all the time: one is enough.
    made = Fleet(homes(), hosts_wanted=1, real=True)
    try:
        made.begin()
        made.submit_real()
        until(lambda: made.unfinished() == 0, 300)
        assert settled.check(made) == 1
        yield made
    finally:
        made.stop()
    assert not made.ours(), "processes were left behind"


@pytest.mark.parametrize("kind", ["trainer_killed", "worker_killed", "postgres_killed"])
def test_weights_are_those_of_an_undisturbed_run(fleet: Fleet, chance: random.Random, kind: str) -> None:
    for _ in range((MOMENTS + 1) // 2):  # a run takes ten times as long as a scripted one
        fleet.keep_busy(chance)
        time.sleep(chance.uniform(0, 4))
        FAULTS[kind](fleet, chance)
    settled.check(fleet, seconds=600)
