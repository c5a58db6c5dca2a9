"""Runs that are supervised in this process, with a scripted trainer that speaks the real protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runs import lifecycle
from runs.models import Attempt, Run, Worker
from tests.runs.execution.supervised import SCRIPTED, Supervised
from webapp import storage


@pytest.fixture
def world(transactional_db: None, make_world: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    values = make_world()
    folder = storage.local_path(values["dataset_version"].storage_prefix)
    assert folder is not None
    folder.mkdir(parents=True, exist_ok=True)
    return values


@pytest.fixture
def scripted(settings: Any, tmp_path: Path) -> None:
    settings.TRAINER_COMMAND = SCRIPTED
    settings.WORK_DIR = tmp_path / "work"
    settings.CACHE_DIR = tmp_path / "cache"
    settings.STOP_GRACE_SECONDS = 1.0


@pytest.fixture
def submit(new_run: Callable[..., Run], scripted: None) -> Callable[..., Run]:
    """Submits a run with these settings for the scripted trainer."""
    return lambda **script: lifecycle.submit(new_run(settings={"seed": 7, **script}), None)


@pytest.fixture
def claim(worker: Worker) -> Callable[[], Attempt]:
    def take() -> Attempt:
        attempt = lifecycle.claim(worker, ["cpu"])
        assert attempt is not None
        return attempt

    return take


@pytest.fixture
def supervise() -> Iterator[Callable[[Attempt], Supervised]]:
    begun: list[Supervised] = []

    def begin(attempt: Attempt) -> Supervised:
        begun.append(Supervised(attempt))
        return begun[-1]

    yield begin
    for each in begun:
        each.trainer.kill()
        each.join()
