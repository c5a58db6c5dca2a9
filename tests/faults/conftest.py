"""The seed of every schedule here: printed at the start and with every failure, repeated by TUNEBOARD_FAULT_SEED."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

MOMENTS = int(os.environ.get("TUNEBOARD_FAULT_MOMENTS") or 5)  # of each kind; `make faults` takes 20


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    chosen = int(os.environ.get("TUNEBOARD_FAULT_SEED") or random.SystemRandom().randrange(10**6))
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\nTUNEBOARD_FAULT_SEED={chosen}, {MOMENTS} moments of each kind", flush=True)
    return chosen


@pytest.fixture
def chance(request: pytest.FixtureRequest, seed: int) -> Iterator[random.Random]:
    """This test's own schedule, which does not depend on what ran before."""
    print(f"TUNEBOARD_FAULT_SEED={seed}")  # shown with a failure
    yield random.Random(f"{seed} {request.node.name}")
