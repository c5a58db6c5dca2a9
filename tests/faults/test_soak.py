"""A short soak; `make soak` takes 15 minutes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.soak import RUNS, soak

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_fifty_runs_succeed_whatever_dies(seed: int, homes: Callable[[], Path]) -> None:
    minutes = float(os.environ.get("TUNEBOARD_SOAK_MINUTES") or 1)
    figures = soak(minutes, seed, homes())
    print(figures)
    assert figures.runs == RUNS and figures.faults.total() > 5
