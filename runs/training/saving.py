"""Checkpoints are written behind the training's back: one at a time, each whole or not at all.

Training stops for the copy of its state (runs/training/snapshot.py) and no longer; a thread then writes
it under a hidden name, has it on disk, adds the manifest, gives it its name and announces it. Only then do
older ones go: at whatever moment the trainer is killed, the checkpoint announced last is there. One more of
a step therefore never takes the place of the first; it has a number in its name. What went wrong there is
raised in the training at its next step. Two saves that come faster than the disk takes them wait for each
other: a second copy of the state would cost memory that the training may need.
"""

from __future__ import annotations

import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from runs.training import manifest
from runs.training.context import Context
from runs.training.events import TrainingFailure

NEWEST_KEPT = 2  # beside the best
# From the second of a step on it has a number.
_NAME = re.compile(r"checkpoint-(?P<step>\d+)(?:\.(?P<number>\d+))?")
BEST = "best"  # below a checkpoint: the best weights, where they have no checkpoint of their own
# What of a checkpoint is the model, not the state of its training.
WEIGHT_FILES = (
    *("model.safetensors", "config.json"),
    *("adapter_model.safetensors", "adapter_config.json"),
    "ema.safetensors",
)
Write = Callable[[Path], None]


class Saver:
    """Writes the checkpoints of one run. Used by one thread, the training's."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self.seconds = 0.0  # that the last one took to be written

    def save(self, step: int, write: Write, *, best_step: int | None = None) -> None:
        """Have `write` fill a folder while training goes on. Waits for the one before, if that is not done.

        Raises what went wrong with the one before.
        """
        self.wait()
        self._thread = threading.Thread(
            target=self._work, args=(step, write, best_step), name=f"checkpoint-{step}", daemon=True
        )
        self._thread.start()

    def check(self) -> None:
        """Raise what has gone wrong meanwhile; does not wait."""
        if self._thread is None or not self._thread.is_alive():
            self.wait()

    def wait(self) -> None:
        """Until nothing is being written; raises what has gone wrong."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """As `wait`, where something else is to be raised already."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _work(self, step: int, write: Write, best_step: int | None) -> None:
        started = time.monotonic()
        folder = _next_of(self._context.checkpoints_dir, step)
        partial = folder.with_name(f".{folder.name}.partial")
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            write(partial)
            manifest.finish(partial)
            partial.rename(folder)
            manifest.to_disk(folder)
            keep, gone = _kept(self._context.checkpoints_dir, best_step)
            self.seconds = time.monotonic() - started
            self._context.checkpoint(step, folder, is_best=step == best_step, keep=keep)
            for old in gone:
                remove(old)
        except BaseException as error:
            # Room for the last words of the run, if the disk is full.
            shutil.rmtree(partial, ignore_errors=True)
            self._error = error


class Timer:
    """Says when a checkpoint is due, so that at most `limit` seconds of work are ever lost.

    Lost with a host is the work since the newest checkpoint that has arrived in storage was taken: the time
    between two, and until the later one is written and copied, for which as long again is reckoned.
    A checkpoint can be taken between two steps alone, so the longest gap between steps counts too.
    """

    def __init__(self, limit: float, saver: Saver) -> None:
        self._limit, self._saver = limit, saver
        self._taken_at = self._step_at = time.monotonic()
        self._longest_gap = 0.0

    def restart(self) -> None:
        """A checkpoint was taken just now, or training begins."""
        self._taken_at = self._step_at = time.monotonic()

    def due(self) -> bool:
        """Asked after every step."""
        now = time.monotonic()
        self._longest_gap = max(self._longest_gap, now - self._step_at)
        self._step_at = now
        return now - self._taken_at >= self._limit - self.margin

    @property
    def margin(self) -> float:
        """Seconds before the limit at which one is taken; never more than half of it."""
        needed = max(self._limit / 10, 2 * self._saver.seconds + self._longest_gap)
        return min(self._limit / 2, needed)


def folder_of(context: Context, step: int | None) -> Path:
    """The newest checkpoint of a step, or its weights alone; where there is neither, a path that leads nowhere."""
    return next(reversed(_of_step(context.checkpoints_dir, step)), context.checkpoints_dir / _name_of(step))


def step_of(folder: Path) -> int:
    return _place_of(folder)[0]


def checkpoints_in(folder: Path) -> list[Path]:
    """The newest checkpoint of each step, oldest first; what was never finished is not among them."""
    whole = [path for path in _found_in(folder) if manifest.is_whole(path)]
    return list({step_of(path): path for path in whole}.values())


def _next_of(folder: Path, step: int) -> Path:
    """Where one more of a step belongs."""
    found = _of_step(folder, step)
    return folder / (f"{_name_of(step)}.{_place_of(found[-1])[1] + 1}" if found else _name_of(step))


def _name_of(step: int | None) -> str:
    return f"checkpoint-{step}"


def _place_of(folder: Path) -> tuple[int, int]:
    """(step, which of that step's it is)"""
    match = _NAME.fullmatch(folder.name)
    if match is None:
        raise ValueError(f"{folder} is no checkpoint")
    return int(match["step"]), int(match["number"] or 1)


def _found_in(folder: Path) -> list[Path]:
    """Whole or not, oldest first."""
    return sorted((path for path in folder.glob("checkpoint-*") if _NAME.fullmatch(path.name)), key=_place_of)


def _of_step(folder: Path, step: int | None) -> list[Path]:
    return [path for path in _found_in(folder) if step_of(path) == step]


def _kept(folder: Path, best_step: int | None) -> tuple[list[int], list[Path]]:
    """(steps of those that still count, folders of the others): the best and the newest two count."""
    whole = checkpoints_in(folder)
    keep = {step_of(path) for path in whole[-NEWEST_KEPT:]} | {best_step}
    kept = [path for path in whole if step_of(path) in keep]
    count = {*kept, *_of_step(folder, best_step)[-1:]}  # of the best there may be the weights alone
    return [step_of(path) for path in kept], [path for path in _found_in(folder) if path not in count]


def remove(folder: Path) -> None:
    """Its manifest first: a half-removed checkpoint does not count."""
    (folder / manifest.NAME).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def carry_weights(source: Path, folder: Path) -> None:
    """Put the weights of another checkpoint, the best, into a folder that is being written."""
    target = folder / BEST / _name_of(step_of(source))
    target.mkdir(parents=True)
    for name in WEIGHT_FILES:
        if (source / name).is_file():
            (target / name).hardlink_to(source / name)


def adopt_checkpoints(context: Context) -> Path | None:
    """Bring the spec's checkpoints into this work folder, checked; returns the one to go on from.

    Raises TrainingFailure if that one is damaged. A damaged best one is left out, and the story says so.
    """
    resume = context.spec.resume_from and Path(context.spec.resume_from)
    best = context.spec.best_checkpoint and Path(context.spec.best_checkpoint)
    if not resume:
        return None
    try:
        adopted = _adopt(context, resume)
    except manifest.Damaged as error:
        raise TrainingFailure(
            "crashed",
            f"The checkpoint to go on from is damaged: {resume.name}: {error}.",
            "Try the run again: it is fetched anew, or the one before is used.",
        ) from error
    if best and best != resume:
        try:
            _adopt(context, best)
        except manifest.Damaged as error:
            context.message(f"The best checkpoint, at step {step_of(best):,}, is damaged: {error}.")
    for carried in sorted((adopted / BEST).glob("checkpoint-*")):
        if not (context.checkpoints_dir / carried.name).exists():
            shutil.copytree(carried, context.checkpoints_dir / carried.name)
    return adopted


def _adopt(context: Context, source: Path) -> Path:
    target = context.checkpoints_dir / source.name
    if source.resolve() != target.resolve() and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target)
    try:
        manifest.check(target)
    except manifest.Damaged:
        remove(target)
        raise
    return target
