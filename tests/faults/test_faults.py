"""`kill -9` of anything in mid-run: the run succeeds, each step's metrics stand once, and the weights
are, byte for byte, those of a run that nothing happened to."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults.cluster import Cluster, alive, until

pytestmark = pytest.mark.slow
SCRIPTED = Path(__file__).parents[1] / "runs" / "execution" / "scripted_trainer.py"


@dataclass
class Place:
    """A cluster, the settings of the run that is disturbed, and what it must come to."""

    cluster: Cluster
    kind: str
    settings: dict[str, Any]
    less: dict[str, Any]  # what makes it a short run
    weights: dict[str, bytes] = field(default_factory=dict)
    points: list[tuple[Any, ...]] = field(default_factory=list)
    worker: Any = None

    def begin(self) -> int:
        """Submit a run and wait until it has a checkpoint to resume from; most of it lies ahead."""
        run = self.cluster.submit(self.kind, **self.settings)
        self.cluster.wait_for_checkpoint(run)
        self.cluster.remember_children(self.worker.pid)
        return run

    def check(self, run: int) -> None:
        """It has come to what an undisturbed run comes to, and left nothing behind."""
        self.cluster.wait_for_success(run)
        assert self.cluster.weights(run) == self.weights
        assert comparable(self.cluster.points(run)) == comparable(self.points)
        until(lambda: not list((self.cluster.home / "work").iterdir()))
        present = self.cluster.remember_children(self.worker.pid)
        until(lambda: not [pid for pid in self.cluster.seen - present if alive(pid)])


@pytest.fixture(scope="module", params=["scripted", "real"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home = tmp_path_factory.mktemp("faults")
    if request.param == "scripted":
        command = shlex.join([sys.executable, str(SCRIPTED)])
        settings: dict[str, Any] = {"steps": 60, "delay": 0.1, "checkpoint_every": 10}
        found = Place(Cluster(home, command), "scripted", settings, {"steps": 3})
    else:
        settings = {
            "num_train_epochs": 16,
            "per_device_train_batch_size": 8,
            "precision": "fp32",
            "early_stopping_patience": 0,
            "save_steps": 50,
            "eval_steps": 120,
            "seed": 11,
        }
        found = Place(Cluster(home), "real", settings, {"num_train_epochs": 1})
    found.worker = found.cluster.start("worker")
    found.cluster.start("dispatcher")
    try:
        undisturbed = found.cluster.submit(found.kind, **found.settings)
        found.cluster.wait_for_success(undisturbed)
        found.weights = found.cluster.weights(undisturbed)
        found.points = found.cluster.points(undisturbed)
        yield found
    finally:
        found.cluster.stop()
    assert not [pid for pid in found.cluster.seen if alive(pid)], "processes were left behind"


def test_the_trainer_is_killed(place: Place) -> None:
    run = place.begin()
    (folder,) = (place.cluster.home / "work").iterdir()
    os.kill(json.loads((folder / "process.json").read_text())["pid"], signal.SIGKILL)
    place.check(run)
    assert outcomes(place, run) == ["lost", "succeeded"]
    assert resumed(place, run)


def test_the_worker_is_killed_and_started_again(place: Place) -> None:
    run = place.begin()
    place.worker.kill()
    place.worker.wait()
    place.worker = place.cluster.start("worker")
    place.check(run)
    assert outcomes(place, run) == ["lost", "succeeded"]
    assert resumed(place, run)


@pytest.mark.parametrize("place", ["scripted"], indirect=True, scope="module")
def test_the_worker_is_killed_and_another_takes_over(place: Place) -> None:
    run = place.begin()
    other = place.cluster.start("worker")
    query = "SELECT count(*) FROM runs_worker WHERE last_seen_at > now() - interval '5 s'"
    until(lambda: place.cluster.rows(query)[0][0] == 2)
    place.worker.kill()
    place.worker.wait()
    place.worker = other
    until(lambda: place.cluster.status(run) == "succeeded" or outcomes(place, run)[0] == "lost")
    until(lambda: place.cluster.status(run) == "succeeded", 120)
    assert place.cluster.weights(run) == place.weights
    assert outcomes(place, run) == ["lost", "succeeded"]
    # The dead worker's folder is cleared when a worker of its name starts.
    replacement = place.cluster.start("worker")
    until(lambda: not list((place.cluster.home / "work").iterdir()))
    place.check(run)
    place.cluster.remember_children(replacement.pid)
    replacement.terminate()
    replacement.wait(40)


def test_valkey_is_killed(place: Place) -> None:
    run = place.begin()
    place.cluster.kill_valkey()
    waiting = place.cluster.submit(
        place.kind, **place.settings | place.less
    )  # the broker is away: no message
    before = place.cluster.step(run)
    # Training goes on without it, or was at its end by then.
    until(lambda: place.cluster.step(run) > before or place.cluster.status(run) == "succeeded")
    place.cluster.valkey.start()
    place.check(run)
    assert outcomes(place, run) == ["succeeded"]
    place.cluster.wait_for_success(waiting)


def test_postgres_is_killed(place: Place) -> None:
    run = place.begin()
    place.cluster.kill_postgres()
    place.cluster.restart_postgres()
    place.check(run)
    assert outcomes(place, run) == ["succeeded"]


def test_everything_is_killed_at_once(place: Place) -> None:
    run = place.begin()
    for process in place.cluster.processes:
        if process.poll() is None:
            process.kill()
            process.wait()
    place.cluster.kill_valkey()
    place.cluster.kill_postgres()
    place.cluster.restart_postgres()
    place.cluster.valkey.start()
    place.worker = place.cluster.start("worker")
    place.cluster.start("dispatcher")
    place.check(run)
    assert resumed(place, run)


def outcomes(place: Place, run: int) -> list[str]:
    rows = place.cluster.rows("SELECT outcome FROM runs_attempt WHERE run_id = %s ORDER BY number", run)
    return [row[0] for row in rows]


def resumed(place: Place, run: int) -> bool:
    query = "SELECT max(resumed_from_step) FROM runs_attempt WHERE run_id = %s"
    return (place.cluster.rows(query, run)[0][0] or 0) > 0


TIMED = ("per_second", "runtime", "rate", "memory")


def comparable(points: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Those that follow from the training alone: how long it took differs."""
    return [point for point in points if not any(word in point[0] for word in TIMED)]
