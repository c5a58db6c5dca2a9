"""Runs that are stopped in their midst, and what a worker would have them go on from."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runs.training.events import PREDICTIONS
from tests.training.forked import Training

Write = Callable[..., Path]
SEED = int(os.environ.get("RESUME_SEED") or random.randrange(2**32))  # of the moments; set it to repeat them


def events_of(workdir: Path, kind: str | None = None) -> list[dict[str, Any]]:
    """Whole lines alone, as a worker reads them: the last may have been cut by a kill."""
    path = workdir / "events.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    found = [json.loads(line) for line in lines]
    return [event for event in found if kind is None or event["type"] == kind]


def points(*workdirs: Path) -> dict[tuple[int, str], float]:
    """{(step, series): value}, later attempts winning as they do in the database."""
    return {
        (event["step"], name): value
        for workdir in workdirs
        for event in events_of(workdir, "metric")
        for name, value in event["values"].items()
    }


def weights(workdir: Path) -> dict[str, bytes]:
    """{file: bytes} of everything that people download and that holds weights."""
    folder = workdir / "artifacts"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.safetensors")}


def metrics(workdir: Path) -> dict[str, float]:
    found: dict[str, float] = events_of(workdir, "done")[0]["metrics"]
    return found


def answers(*workdirs: Path) -> dict[int, Any]:
    """{step: what a language model answered then}."""
    return {each["step"]: each["items"] for workdir in workdirs for each in events_of(workdir, "answers")}


def same(undisturbed: Path, *attempts: Path) -> None:
    """Together the attempts told, and the last one left, what one did that nothing happened to."""
    assert points(*attempts) == points(undisturbed)
    assert weights(attempts[-1]) == weights(undisturbed)
    assert metrics(attempts[-1]) == metrics(undisturbed)
    said = [(workdir / "artifacts" / PREDICTIONS).read_bytes() for workdir in (attempts[-1], undisturbed)]
    assert said[0] == said[1]
    assert answers(*attempts) == answers(undisturbed)


def train(workdir: Path) -> Path:
    """To the end."""
    training = Training(workdir)
    assert training.wait() == 0, training.log
    return workdir


def stored(workdir: Path, elsewhere: Path, until: int | None = None) -> dict[str, str | None]:
    """What of a trainer's checkpoints a worker has in storage: of the spec, where the newest and the best lie.

    Everything else that the trainer had on its disk is gone. `until`: as of this step.
    """
    announced = [
        event for event in events_of(workdir, "checkpoint") if until is None or event["step"] <= until
    ]
    newest = announced[-1:]
    best = [event for event in announced if event["is_best"]][-1:]
    for event in (*newest, *best):
        target = elsewhere / Path(event["path"]).name
        if not target.exists():
            shutil.copytree(workdir / event["path"], target)
    shutil.rmtree(workdir / "checkpoints", ignore_errors=True)
    return {
        name: str(elsewhere / Path(event["path"]).name)
        for name, found in (("resume_from", newest), ("best_checkpoint", best))
        for event in found
    }


def interrupted(write: Callable[[str], Path], number: int, undisturbed: Path, chance: random.Random) -> Path:
    """A training that got a signal at a random moment between its first step and its last."""
    seconds = span(undisturbed)
    share = chance.uniform(0.1, 0.9)
    for attempt in range(6):
        workdir = write(f"signal-{number}-{attempt}")
        training = Training(workdir)
        training.until(lambda workdir=workdir: begun(workdir))
        ended = training.until(_after(share * seconds))
        training.signal(number) if training.running else None
        status = training.wait()
        if status in {-signal.SIGKILL, 3}:
            print(f"signal {number} after {share:.2f} of {seconds:.2f} s; exit status {status}; {ended}")
            return workdir
        assert status == 0, training.log
        share /= 2  # this time it was quicker than the undisturbed one
    raise AssertionError("it ends before it can be stopped")


def _after(seconds: float) -> Callable[[], bool]:
    import time

    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def begun(workdir: Path) -> bool:
    return any(event["phase"] == "training" for event in events_of(workdir, "phase"))


def span(workdir: Path) -> float:
    """Seconds from the begin of training to its last metric."""
    start = next(e["at"] for e in events_of(workdir, "phase") if e["phase"] == "training")
    return float(events_of(workdir, "metric")[-1]["at"] - start)
