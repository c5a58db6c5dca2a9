"""How long training stands still for a checkpoint, against a plain copy of the state and the Trainer's own save.

    OMP_NUM_THREADS=2 .venv/bin/python -m benchmarks.checkpoints [ROUNDS]

A BERT of random weights, about 45 million, with AdamW: some 540 MB of state. In every round, in turns at
the same step: all tensors of model and optimiser copied in memory, nothing else; transformers' own
_save_checkpoint, which does not even wait for the disk; and ours, which is then written (with fsync and
SHA-256) while training goes on. Limit: 1.5 times the plain copy.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback

from runs.training.context import Context
from runs.training.devices import keep_freed_memory
from runs.training.fitting import PlainTrainer, arguments, fit
from runs.training.pieces import Pieces
from runs.training.settings import check_settings
from runs.training.spec import DatasetRef, ModelRef, RunSpec
from runs.training.tasks import get_task

LIMIT = 1.5
STEPS_BETWEEN = 8
PLAIN, SYNCHRONOUS, OURS = "plain copy in memory", "transformers' Trainer", "in the background"


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        trainer = train(Path(folder), rounds)
    state = sum(tensor.nbytes for tensor in tensors(trainer)) / 1e6
    weights = sum(parameter.numel() for parameter in trainer.model.parameters()) / 1e6
    # Not the first, which warms up, nor the last: at the end of a run there is nothing to go on with.
    stalls = {name: min(found[1:-1]) for name, found in trainer.stalls.items()}
    print(f"{weights:.0f} M weights, {state:.0f} MB of state; quickest of {rounds} rounds, steps by median")
    print(f"{'training stands still for':32}{'seconds':>9}{'to a copy':>11}{'to the Trainer':>16}")
    for name, seconds in stalls.items():
        print(f"{name:32}{seconds:9.3f}{seconds / stalls[PLAIN]:11.2f}{seconds / stalls[SYNCHRONOUS]:16.2f}")
    alone, meanwhile = (statistics.median(trainer.clock.seconds[key]) for key in (False, True))
    print(f"{'written after':32}{statistics.median(trainer.written):9.3f}")
    print(f"{'a step by itself':32}{alone:9.3f}")
    print(f"{'a step while one is written':32}{meanwhile:9.3f}  ratio {meanwhile / alone:.2f}")
    ratio = stalls[OURS] / stalls[PLAIN]
    print(f"ratio {ratio:.2f} (limit {LIMIT})")
    sys.exit(ratio > LIMIT)


class Measured(PlainTrainer):
    """Saves in each of the ways at the same steps, and notes how long it stands still."""

    stalls: dict[str, list[float]]
    written: list[float]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.saver.wait()
        if self.saver.seconds:
            self.written.append(self.saver.seconds)
        os.sync()  # what the one before has left to the disk is not ours to wait for
        self._time(PLAIN, lambda: [tensor.clone() for tensor in tensors(self)])
        self._time(SYNCHRONOUS, lambda: Trainer._save_checkpoint(self, model, trial))
        os.sync()
        self._time(OURS, lambda: super(Measured, self)._save_checkpoint(model, trial))

    def _time(self, name: str, work: Any) -> None:
        started = time.perf_counter()
        work()
        self.stalls[name].append(time.perf_counter() - started)


class StepClock(TrainerCallback):
    """Seconds of steps, by whether a checkpoint was being written from begin to end."""

    def __init__(self, trainer: Measured) -> None:
        self._trainer = trainer
        self.seconds: dict[bool, list[float]] = {False: [], True: []}

    def _writing(self) -> bool:
        thread = self._trainer.saver._thread
        return thread is not None and thread.is_alive()

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._started, self._was_writing = time.perf_counter(), self._writing()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        if self._writing() == self._was_writing:
            self.seconds[self._was_writing].append(time.perf_counter() - self._started)


def train(folder: Path, rounds: int) -> Measured:
    chosen = {
        "max_steps": STEPS_BETWEEN * (rounds + 1) + STEPS_BETWEEN - 1,
        "save_steps": STEPS_BETWEEN,
        "per_device_train_batch_size": 4,
        "precision": "fp32",
    }
    settings = check_settings(get_task("text-classification"), "full", chosen)
    model = ModelRef("random", "text-encoder", "folder", str(folder))
    data = DatasetRef("random", str(folder), "0" * 64, {})
    spec = RunSpec("1", 1, "text-classification", "full", {}, model, data, settings, str(folder))
    context = Context(folder, spec, threading.Event())
    torch.manual_seed(0)
    config = BertConfig(hidden_size=512, num_hidden_layers=9, num_attention_heads=8, intermediate_size=2048)
    rows = [
        {"input_ids": torch.randint(0, 30_000, (64,)), "labels": torch.tensor(number % 2)}
        for number in range(400)
    ]
    trainer = Measured(
        model=BertForSequenceClassification(config),
        args=arguments(context, len(rows), main_metric="loss", higher_is_better=False, eval_strategy="no"),
        train_dataset=rows,
    )
    trainer.stalls, trainer.written = {PLAIN: [], SYNCHRONOUS: [], OURS: []}, []
    trainer.attach(Pieces(context))
    trainer.clock = StepClock(trainer)
    trainer.add_callback(trainer.clock)
    fit(trainer, context)
    return trainer


def tensors(trainer: Trainer) -> list[torch.Tensor]:
    states = trainer.optimizer.state_dict()["state"].values()
    moments = [value for state in states for value in state.values()]
    return [*trainer.model.state_dict().values(), *moments]


if __name__ == "__main__":
    main()
