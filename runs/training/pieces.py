"""What scoring has come to, piece by piece, so that a run which goes on does none of it twice.

A piece is a batch of rows, an answer, a fit: what takes seconds. Its outcome is kept in memory and goes with
each checkpoint, so a kill in an evaluation that takes hours costs no more than one between two steps does,
and who is asked to stop can leave at once. A part of a run names its pieces by what they belong to: the base
model's scores, an evaluation (emptied at its end), a head's fits, the finished model's scores.

Trainers call `Pieces` themselves, because a checkpoint in their midst is theirs (fitting.py). Before and after
a training `Stage` does it: what it saves is the newest checkpoint once more, with what has been scored since.
Pieces that were made with other settings, or by another number of processes, are made anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar

import torch
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_pt_utils import safe_globals

from runs.training import distributed, manifest
from runs.training.callbacks import look_up
from runs.training.context import Context, Stopped
from runs.training.saving import Saver, Timer, adopt_checkpoints, checkpoints_in, step_of
from runs.training.snapshot import random_state, set_random_state

SECTIONS = BASE, EVALUATION, HEAD, FINISHED = ("base", "evaluation", "head", "finished")
ALONE = FINISHED  # the first process does it when the others have left
ON_DEVICE = 16  # outcomes that may stay there: to fetch each would have the device wait
T = TypeVar("T")


class Piece(Protocol):
    """What does a piece of some work, or knows what it came to; may raise in between, where a run is to stop."""

    def __call__(self, compute: Callable[[], T], /) -> T: ...


def at_once(compute: Callable[[], T], /) -> T:
    """A `Piece` that keeps nothing."""
    return compute()


@dataclass
class _Section:
    outcomes: list[Any] = field(default_factory=list)
    random: dict[str, Any] | None = None  # after the last one, of this process
    place: int = 0  # of the next one to be asked for
    fetched: int = 0  # so many of the outcomes are in host memory

    def fetch(self) -> None:
        for number in range(self.fetched, len(self.outcomes)):
            self.outcomes[number] = _on(self.outcomes[number], torch.device("cpu"))
        self.fetched = len(self.outcomes)


class Pieces:
    """Those of one attempt; made and asked in the same order by each of its processes."""

    def __init__(self, context: Context) -> None:
        """Adopts the checkpoint that the attempt goes on from, and has what it holds. Raises TrainingFailure."""
        self.context = context
        self.changed = False  # since they were last saved
        self._sections: dict[str, _Section] = {}
        # Checked, in the work folder; None for an attempt that begins.
        self.resume = distributed.first_here_first(lambda: adopt_checkpoints(context))
        found = _read(self.resume) if self.resume is not None else {}
        for name in SECTIONS:
            held = found.get(name)
            mine = _of_this_process(name, held, context.settings) if held is not None else None
            # All or none: a part of the processes would wait for the others for ever.
            if distributed.agree(mine is None)[0] or mine is None:
                continue
            outcomes = list(mine["outcomes"])
            self._sections[name] = _Section(outcomes, mine["random"], fetched=len(outcomes))

    def begin(self, name: str) -> None:
        """The first one of them is asked for next."""
        self._sections.setdefault(name, _Section()).place = 0

    def next(self, name: str, compute: Callable[[], T], device: torch.device | None = None) -> T:
        """The next one's outcome: known, on `device`, or computed. Of tensors, numbers, texts and lists of them."""
        section = self._sections[name]
        section.place += 1
        if section.place <= len(section.outcomes):
            if section.place == len(section.outcomes) and section.random is not None:
                set_random_state(section.random)
            known: T = _on(section.outcomes[section.place - 1], device)
            return known
        outcome = compute()
        section.outcomes.append(_on(outcome, None))
        section.random = random_state()
        self.changed = True
        if len(section.outcomes) - section.fetched >= ON_DEVICE:
            section.fetch()
        return outcome

    def drop(self, name: str) -> None:
        """They are of no use any more."""
        self._sections.pop(name, None)

    def files(self) -> dict[str, Any]:
        """{name in a checkpoint: content for torch.save}, of all processes in the first one, which saves."""
        found = {}
        for name, section in self._sections.items():
            if not section.outcomes:
                continue
            section.fetch()
            mine = {"outcomes": list(section.outcomes), "random": section.random}
            of_each = [mine] if name == ALONE else distributed.gathered_by_first(mine)
            found[_file(name)] = {"settings": dict(self.context.settings), "processes": of_each}
        self.changed = False
        return found


class Stage:
    """Work before or after a training: saved by time and when the run is asked to stop. Used in a `with`, as a `Piece`."""

    def __init__(self, pieces: Pieces, name: str, saver: Saver | None = None) -> None:
        """`saver`: one that may still be writing."""
        self._pieces, self._name, self._context = pieces, name, pieces.context
        self._saver = saver or Saver(self._context)
        self._timer = Timer(60 * float(self._context.settings["save_minutes"]), self._saver)
        pieces.begin(name)

    def __call__(self, compute: Callable[[], T], /) -> T:
        should_stop, is_due = look_up(self._context, self._saver, self._timer)
        if should_stop or is_due:
            step = self._save()
            if should_stop:
                self._saver.wait()
                raise Stopped(step)
        return self._pieces.next(self._name, compute)

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._saver.wait()
        else:
            self._saver.close()

    def _save(self) -> int:
        """The newest checkpoint, or one of the time before the first step, with the pieces; returns its step."""
        self._saver.wait()
        self._timer.restart()
        newest = next(reversed(checkpoints_in(self._context.checkpoints_dir)), None)
        step = step_of(newest) if newest is not None else 0
        changed, files = self._pieces.changed, self._pieces.files()
        if not changed or not distributed.is_first():
            return step

        def write(folder: Path) -> None:
            if newest is not None:
                _link(newest, folder, without=files)
            for file, content in files.items():
                torch.save(content, folder / file)

        self._saver.save(step, write, best_step=_best_step(newest))
        return step


def _file(name: str) -> str:
    return f"pieces-{name}.pth"


def _link(source: Path, target: Path, without: Collection[str]) -> None:
    """Hard links to the files of a checkpoint, but for its manifest and some others."""
    for path in manifest.files_in(source):
        name = path.relative_to(source)
        if name.as_posix() not in without:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).hardlink_to(path)


def _best_step(checkpoint: Path | None) -> int | None:
    """As the training knew it then."""
    with suppress(OSError, ValueError):
        if checkpoint is not None:
            best: int | None = json.loads((checkpoint / TRAINER_STATE_NAME).read_text())["best_global_step"]
            return best
    return None


def _read(folder: Path) -> dict[str, Any]:
    """{section: content} of those that a checkpoint has."""
    found = {}
    for name in SECTIONS:
        if (folder / _file(name)).is_file():
            with safe_globals():
                found[name] = torch.load(folder / _file(name), map_location="cpu", weights_only=True)
    return found


def _of_this_process(name: str, held: Mapping[str, Any], settings: Mapping[str, Any]) -> Any | None:
    """None if they are of no use to it."""
    if dict(held["settings"]) != dict(settings):
        return None
    processes = held["processes"]
    if name == ALONE:
        return processes[0]
    return processes[distributed.rank()] if len(processes) == distributed.world() else None


def _on(value: Any, device: torch.device | None) -> Any:
    """The same with its tensors on a device; without one where they are, cut off from how they came to be."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
        return value if device is None else value.to(device)
    if isinstance(value, Mapping):
        return {key: _on(item, device) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_on(item, device) for item in value)
    return value
