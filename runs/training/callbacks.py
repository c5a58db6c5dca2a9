"""What happens between the steps of a training: reports, checkpoints, early stopping, leaving.

These are callbacks of transformers' Trainer, so they serve whatever is built on it. What a resumed run
must remember beyond the Trainer's own state is in `Memory`, which travels with each checkpoint.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from runs.training import distributed
from runs.training.context import Context
from runs.training.events import TrainingFailure
from runs.training.saving import Saver, Timer

MEMORY_NAME = "tuneboard.json"
# Of the Trainer's logs, what is a series for people.
TRAIN_SERIES = ("loss", "learning_rate", "grad_norm")


@dataclass
class Memory:
    """What must survive a resume and the Trainer does not keep."""

    # The loss summed since the last point of the curve, and where that was: else the first point
    # after a resume would be a mean over other steps than in a run that was never stopped.
    loss_sum: float = 0.0
    loss_sums: list[float] = field(default_factory=list)  # of each process, where there are several
    last_logged_step: int = 0
    evaluations_without_gain: int = 0
    last_evaluated_step: int = -1
    evaluation_due: bool = False  # the run was stopped in the evaluation after this step, or before it

    def write(self, folder: Path) -> None:
        (folder / MEMORY_NAME).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Memory:
        return cls(**json.loads((folder / MEMORY_NAME).read_text()))


class Reporting(TrainerCallback):  # type: ignore[misc]
    """Turns the Trainer's logs into events, and a loss that is no number into a failure."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.started = 0.0
        self.first_step = 0
        self.seconds_elsewhere = 0.0  # evaluating and saving, which the rate leaves out
        self._left_at: float | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.context.phase("training")
        self.started, self.first_step = time.monotonic(), state.global_step
        self.context.progress(state.global_step, state.max_steps, epoch=state.epoch or 0.0, force=True)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._left_at is not None:
            self.seconds_elsewhere += time.monotonic() - self._left_at
            self._left_at = None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._left_at = now = time.monotonic()
        steps = state.global_step - self.first_step
        seconds = now - self.started
        training_seconds = max(seconds - self.seconds_elsewhere, 1e-9)
        rows = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        self.context.progress(
            state.global_step,
            state.max_steps,
            epoch=state.epoch or 0.0,
            rate=steps * rows / training_seconds,
            eta_seconds=(state.max_steps - state.global_step) * seconds / steps,
            force=self.context.should_stop,  # what is told last is the step that it can go on from
        )

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        logs = logs or {}
        if "loss" in logs:
            values = {name: float(logs[name]) for name in TRAIN_SERIES if name in logs}
            self.context.metric(state.global_step, values)
            if not math.isfinite(values["loss"]) or not math.isfinite(values.get("grad_norm", 0.0)):
                what = "loss" if not math.isfinite(values["loss"]) else "gradient"
                raise TrainingFailure(
                    "diverged",
                    f"The training diverged: at step {state.global_step:,} the {what} is not a finite number.",
                    f"Lower the learning rate (it is {args.learning_rate:g}; try {args.learning_rate / 10:g}), "
                    "lengthen the warm-up, or choose the precision float32.",
                )


def look_up(context: Context, saver: Saver, timer: Timer) -> list[bool]:
    """[whether the run is to stop, whether a checkpoint is due], the same in each of its processes.

    Of their clocks, the first one's counts. Raises what has gone wrong with the last checkpoint.
    """
    saver.check()
    return distributed.agree(context.should_stop, distributed.is_first() and timer.due())


class Pacing(TrainerCallback):  # type: ignore[misc]
    """Decides when to save, when to stop early, and when to leave because the run was asked to."""

    def __init__(self, context: Context, memory: Memory, saver: Saver, patience: int) -> None:
        self.context, self.memory, self.saver, self.patience = context, memory, saver, patience
        self.timer = Timer(60 * float(context.settings["save_minutes"]), saver)
        self.leaving = False
        self.stopped_early = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.timer.restart()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        should_stop, is_due = look_up(self.context, self.saver, self.timer)
        if is_due:
            control.should_save = True
        if should_stop and state.global_step < state.max_steps:
            self.leave(control)

    def leave(self, control: TrainerControl) -> None:
        """The run goes no further: it is saved as of this step."""
        self.leaving = True
        control.should_save = control.should_training_stop = True

    def on_evaluated(self, improved: bool, state: TrainerState, control: TrainerControl) -> None:
        """Called by the Trainer once it knows whether this evaluation was the best so far."""
        self.memory.last_evaluated_step = state.global_step
        self.memory.evaluations_without_gain = 0 if improved else self.memory.evaluations_without_gain + 1
        if improved:
            control.should_save = True  # the best weights are kept, whatever comes after
        if self.patience and self.memory.evaluations_without_gain >= self.patience:
            self.stopped_early = True
            control.should_save = control.should_training_stop = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.timer.restart()
