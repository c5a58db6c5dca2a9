"""What a task gets to do one run with: the spec, its folders, the events, the wish to stop."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runs.training.events import EventWriter
from runs.training.spec import RunSpec

log = logging.getLogger("runs.training")
SECONDS_BETWEEN_PROGRESS = 1.0
PHASES = ("preparing", "training", "evaluating", "packaging")


class Stopped(Exception):
    """The run was asked to stop, and everything needed to go on is saved as of this step."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped at step {step}")
        self.step = step


class Context:
    """One attempt of one run, from the inside."""

    def __init__(
        self, workdir: Path, spec: RunSpec, stop: threading.Event | None = None, *, silent: bool = False
    ) -> None:
        """`silent`: one of several processes, another of which tells what happens."""
        self.workdir = workdir
        self.spec = spec
        self.settings: dict[str, Any] = dict(spec.settings)
        self.events = EventWriter(Path(os.devnull) if silent else workdir / "events.jsonl")
        self._stop = stop or threading.Event()
        self._last_progress = 0.0

    # -- folders -----------------------------------------------------------------------------------
    @property
    def checkpoints_dir(self) -> Path:
        return self.workdir / "checkpoints"

    @property
    def artifacts_dir(self) -> Path:
        return self.workdir / "artifacts"

    @property
    def cache_dir(self) -> Path:
        """Shared by the runs of a host: whatever is put here appears whole or not at all."""
        return Path(self.spec.cache_dir)

    # -- stopping ----------------------------------------------------------------------------------
    @property
    def should_stop(self) -> bool:
        """Whether the run was asked to save and leave."""
        return self._stop.is_set()

    def stop(self) -> None:
        self._stop.set()

    # -- reporting ---------------------------------------------------------------------------------
    def phase(self, phase: str, message: str = "") -> None:
        """Where the attempt is: preparing, training, evaluating or packaging."""
        if phase not in PHASES:
            raise ValueError(f"unknown phase {phase!r}")
        log.info("%s%s", phase.capitalize(), f": {message}" if message else "")
        self.events.write("phase", phase=phase, message=message)

    def message(self, text: str) -> None:
        """A line of the run's story."""
        log.info("%s", text)
        self.events.write("message", text=text)

    def progress(
        self,
        step: int,
        total_steps: int,
        *,
        epoch: float = 0.0,
        rate: float | None = None,
        eta_seconds: float | None = None,
        force: bool = False,
    ) -> None:
        """How far it is; `rate` in examples a second. At most once a second but for the last step."""
        now = time.monotonic()
        if not force and step < total_steps and now - self._last_progress < SECONDS_BETWEEN_PROGRESS:
            return
        self._last_progress = now
        self.events.write(
            "progress", step=step, total_steps=total_steps, epoch=epoch, rate=rate, eta_seconds=eta_seconds
        )

    def metric(self, step: int, values: Mapping[str, float]) -> None:
        """Points of series at a step."""
        log.info(
            "step %d: %s", step, ", ".join(f"{name} {float(value):.4g}" for name, value in values.items())
        )
        self.events.write("metric", step=step, values=dict(values))

    def baseline(self, name: str, title: str, metrics: Mapping[str, float]) -> None:
        """What one gets without this run's training, on the same rows."""
        self.events.write("baseline", name=name, title=title, metrics=dict(metrics))

    def results(self, **values: Any) -> None:
        """What a page shows beside numbers; merged into the run."""
        self.events.write("results", values=values)

    def answers(self, step: int, items: list[dict[str, Any]]) -> None:
        """What the model answers to the sample prompts; step 0 is the base model."""
        self.events.write("answers", step=step, items=items)

    def checkpoint(self, step: int, folder: Path, *, is_best: bool, keep: list[int]) -> None:
        """A checkpoint is whole and on disk: from this event on it counts."""
        path = folder.relative_to(self.workdir).as_posix()
        log.info("Checkpoint at step %s%s.", f"{step:,}", " (best so far)" if is_best else "")
        self.events.write("checkpoint", step=step, path=path, is_best=is_best, keep=sorted(keep))
