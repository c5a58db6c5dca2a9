"""What must hold once a storm is over: every run as it would have been, and nothing left behind."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

from tests.faults.cluster import until
from tests.faults.fleet import Fleet

ENDS = ("lost", "succeeded", "failed", "released", "stopped", "paused")


def chain(seed: int, steps: int) -> list[str]:
    """The scripted trainer's state after each step; its weights are the last."""
    states, state = [], str(seed)
    for step in range(1, steps + 1):
        state = hashlib.sha256(f"{state}{step}".encode()).hexdigest()
        states.append(state)
    return states


def check(fleet: Fleet, read: Reader | None = None, seconds: float = 240) -> int:
    """Waits for the end of all runs, and asserts everything; returns how many runs there were."""
    read = read or Folder(fleet.home / "storage")
    over = "SELECT count(*) FROM runs_run WHERE status IN ('queued', 'running')"
    try:
        until(lambda: fleet.rows(over)[0][0] == 0, seconds)
        runs = all_succeeded(fleet)
        each_as_undisturbed(fleet, read)
        no_row_is_stuck(fleet)
        stories_are_in_order(fleet)
        until(lambda: not unowned(fleet, read), 60)
        until(lambda: not [path for host in fleet.hosts for path in (host.home / "work").glob("*")], 60)
        until(lambda: not fleet.orphans(), 30)
    except AssertionError as error:
        facts = f"unowned: {unowned(fleet, read)[:20]}, orphans: {fleet.orphans()}"
        raise AssertionError(f"{error}\n{facts}\n{fleet.story()}") from error
    return runs


def all_succeeded(fleet: Fleet) -> int:
    statuses = Counter(row[0] for row in fleet.rows("SELECT status FROM runs_run"))
    assert set(statuses) == {"succeeded"}, statuses
    return statuses["succeeded"]


def each_as_undisturbed(fleet: Fleet, read: Reader) -> None:
    """Weights equal, each step's metrics once and equal."""
    first: tuple[dict[str, bytes], list[object]] | None = None
    for run, settings in fleet.rows("SELECT id, settings FROM runs_run ORDER BY id"):
        keys = dict(
            fleet.rows(
                "SELECT name, storage_key FROM runs_artifact WHERE run_id = %s AND "
                "(name LIKE '%%.safetensors' OR name LIKE 'weights%%')",
                run,
            )
        )
        weights = {name: read(key) for name, key in keys.items()}
        assert weights, f"run {run} has no weights"
        points = fleet.rows(
            "SELECT series, step, value FROM runs_metric WHERE run_id = %s ORDER BY series, step", run
        )
        if not fleet.real:
            states = chain(settings["seed"], settings.get("steps", 10))
            assert weights == {"weights.txt": states[-1].encode()}, f"run {run} has other weights"
            expected = [("loss", step, float(int(state[:6], 16))) for step, state in enumerate(states, 1)]
            assert points == expected, f"run {run} has other points"
            continue
        # All real runs of a fleet are the same run; the first is the one that nothing happened to.
        timed = ("per_second", "runtime", "rate", "memory", "speed")
        told = [point for point in points if not any(word in point[0] for word in timed)]
        first = first or (weights, list(told))
        assert weights == first[0], f"run {run} has other weights"
        assert told == first[1], f"run {run} has other points"


def no_row_is_stuck(fleet: Fleet) -> None:
    assert not fleet.rows("SELECT id FROM runs_attempt WHERE finished_at IS NULL"), "an attempt is still open"
    attempts = fleet.rows("SELECT run_id, number, outcome FROM runs_attempt")
    assert all(outcome for _, _, outcome in attempts)
    ended = Counter(
        (run, number)
        for run, number in fleet.rows(
            "SELECT run_id, attempt FROM runs_event WHERE kind = ANY(%s)", list(ENDS)
        )
    )
    twice = {attempt: count for attempt, count in ended.items() if count != 1}
    assert not twice, f"attempts that did not end once: {twice}"
    assert len(ended) == len(attempts)
    wins = Counter(run for run, _, outcome in attempts if outcome == "succeeded")
    assert set(wins.values()) <= {1}, "a run has succeeded twice"


def stories_are_in_order(fleet: Fleet) -> None:
    """Whatever the clocks of hosts said: times rise as things happened, and no attempt begins before the last ended."""
    events = fleet.rows("SELECT run_id, attempt, kind, at FROM runs_event ORDER BY run_id, id")
    for before, after in pairwise(events):
        if before[0] == after[0]:
            assert before[3] <= after[3], f"{after} is told as earlier than {before}"
            assert before[1] <= after[1], (
                f"{after} is told in the chapter of an earlier attempt than {before}"
            )
    attempts = fleet.rows(
        "SELECT run_id, number, started_at, finished_at FROM runs_attempt ORDER BY run_id, number"
    )
    for run, number, started, finished in attempts:
        assert started <= finished, f"attempt {number} of run {run} ended before it began"
    for before, after in pairwise(attempts):
        if before[0] == after[0]:
            assert before[3] <= after[2], (
                f"attempt {after[1]} of run {after[0]} began before the last had ended"
            )
    points = fleet.rows(
        "SELECT run_id, step, at FROM runs_metric WHERE series = 'loss' ORDER BY run_id, step"
    )
    spans = {
        run: (queued, over)
        for run, queued, over in fleet.rows("SELECT id, created_at, finished_at FROM runs_run")
    }
    for before, after in pairwise(points):
        if before[0] == after[0]:
            assert before[2] <= after[2], (
                f"step {after[1]} of run {after[0]} is told as earlier than {before[1]}"
            )
    for run, step, at in points:
        assert spans[run][0] <= at <= spans[run][1], (
            f"step {step} of run {run} is told as of {at}: {spans[run]}"
        )


class Folder:
    """Reads a storage that is a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, key: str) -> bytes:
        return (self.folder / key).read_bytes()

    def everything(self) -> list[str]:
        return [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()]


Reader = Folder


def unowned(fleet: Fleet, read: Reader) -> list[str]:
    """Keys in storage that no row names."""
    datasets = tuple(row[0] for row in fleet.rows("SELECT storage_prefix FROM datasets_datasetversion"))
    artifacts = {row[0] for row in fleet.rows("SELECT storage_key FROM runs_artifact")}
    checkpoints = tuple(f"{row[0]}/" for row in fleet.rows("SELECT storage_prefix FROM runs_checkpoint"))
    attempts = set(fleet.rows("SELECT run_id, number FROM runs_attempt"))
    found = []
    for key in read.everything():
        log = re.fullmatch(r"runs/(\d+)/logs/attempt-(\d+)\.log", key)
        if log and (int(log[1]), int(log[2])) in attempts:
            continue
        if key not in artifacts and not key.startswith((*checkpoints, *datasets)):
            found.append(key)
    return found
