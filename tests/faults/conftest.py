"""The seed of every schedule here: printed at the start and with every failure, repeated by TUNEBOARD_FAULT_SEED."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

MOMENTS = int(os.environ.get("TUNEBOARD_FAULT_MOMENTS") or 5)  # of each kind; `make faults` takes 20


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    chosen = int(os.environ.get("TUNEBOARD_FAULT_SEED") or random.SystemRandom().randrange(10**6))
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\nTUNEBOARD_FAULT_SEED={chosen}, {MOMENTS} moments of each kind", flush=True)
    return chosen


@pytest.fixture(scope="session")
def homes() -> Iterator[Callable[[], Path]]:
    """Makes homes of fleets. Not in pytest's own folder, which each pytest that starts on this host closes to
    other users again, and with that to a Postgres that root has started."""
    made: list[Path] = []

    def make() -> Path:
        made.append(Path(tempfile.mkdtemp(prefix="tuneboard-faults-")))
        return made[-1]

    yield make
    for home in made:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def chance(request: pytest.FixtureRequest, seed: int) -> Iterator[random.Random]:
    """This test's own schedule, which does not depend on what ran before."""
    print(f"TUNEBOARD_FAULT_SEED={seed}")  # shown with a failure
    yield random.Random(f"{seed} {request.node.name}")
