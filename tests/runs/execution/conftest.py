"""Runs that are supervised in this process, with a scripted trainer that speaks the real protocol."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runs import lifecycle
from runs.execution.supervise import Supervision
from runs.execution.trainer import Trainer
from runs.models import Attempt, Run, Worker
from webapp import storage

SCRIPTED = [sys.executable, str(Path(__file__).with_name("scripted_trainer.py"))]


def weights_of(seed: int, steps: int) -> str:
    """What an undisturbed scripted run ends with."""
    state = str(seed)
    for step in range(1, steps + 1):
        state = hashlib.sha256(f"{state}{step}".encode()).hexdigest()
    return state


def stored_weights(run: Run) -> str:
    with storage.open_file(run.artifacts.get(name="weights.txt").storage_key) as source:
        return source.read().decode()


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


class Supervised:
    """An attempt that is supervised in a thread of its own, as a slot does."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.stopping = threading.Event()
        self.trainer = Trainer()
        self.supervision = Supervision(attempt, self.trainer, self.stopping, {"tuneboard": "test"})
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        from django.db import connection

        self.supervision.run()
        connection.close()

    def join(self) -> None:
        """Until its end."""
        self._thread.join(60)
        assert not self._thread.is_alive(), "supervision does not end"

    def wait(self) -> Run:
        """Until its end; returns the run as it then stands."""
        self.join()
        run: Run = Run.objects.get(pk=self.attempt.run_id)
        return run


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
