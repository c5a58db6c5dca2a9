"""Training by gradient: what every task that uses transformers' Trainer (or TRL's) shares.

`arguments` turns settings into TrainingArguments, `Resumable` makes a Trainer whose resumed runs give
the numbers of one that was never stopped, `fit` runs it and leaves the best weights in the model.
"""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import Trainer, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_pt_utils import get_length_grouped_indices

from runs.training import distributed
from runs.training.callbacks import MEMORY_NAME, Memory, Pacing, Reporting
from runs.training.context import Context, Stopped
from runs.training.devices import device, use_bf16

KEPT_CHECKPOINTS = 2  # the newest and the best
FEWEST_EVALUATIONS = 4


def arguments(
    context: Context,
    rows: int,
    *,
    main_metric: str,
    higher_is_better: bool,
    kind: type[TrainingArguments] = TrainingArguments,
    model: Any = None,
    **changes: Any,
) -> TrainingArguments:
    """TrainingArguments out of the run's settings, for so many training rows; `changes` win.

    `model` decides how it is cut up where it is sharded over several processes.
    """
    chosen = context.settings
    total = total_steps(chosen, rows)
    values: dict[str, Any] = {
        "output_dir": str(context.checkpoints_dir),
        "num_train_epochs": chosen["num_train_epochs"],
        "max_steps": chosen["max_steps"] if chosen["max_steps"] > 0 else -1,
        "per_device_train_batch_size": chosen["per_device_train_batch_size"],
        "per_device_eval_batch_size": chosen["per_device_eval_batch_size"],
        "gradient_accumulation_steps": chosen["gradient_accumulation_steps"],
        "learning_rate": chosen["learning_rate"],
        "lr_scheduler_type": chosen["lr_scheduler_type"],
        "warmup_steps": math.ceil(total * chosen["warmup_ratio"]),
        "weight_decay": chosen["weight_decay"],
        "max_grad_norm": chosen["max_grad_norm"],
        "seed": chosen["seed"],
        "data_seed": chosen["seed"],
        "bf16": use_bf16(chosen["precision"]),
        "use_cpu": device().type == "cpu",
        "logging_steps": chosen["logging_steps"],
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps",
        "eval_steps": chosen["eval_steps"] or _evaluation_interval(chosen, rows, total),
        "save_strategy": "steps",
        "save_steps": chosen["save_steps"] or total + 1,  # Pacing decides on the others
        "save_total_limit": KEPT_CHECKPOINTS,
        # `fit` loads the best weights itself: transformers would tie saving to evaluating for it.
        "load_best_model_at_end": False,
        "metric_for_best_model": main_metric,
        "greater_is_better": higher_is_better,
        "dataloader_pin_memory": device().type == "cuda",
        "disable_tqdm": True,
        "report_to": "none",
        "log_level": "error",
        "push_to_hub": False,
        **distributed.arguments(context.spec, model),
    }
    return kind(**{**values, **changes})


def total_steps(settings: dict[str, Any], rows: int) -> int:
    """Optimiser steps that the settings come to."""
    if settings["max_steps"] > 0:
        return int(settings["max_steps"])
    return max(1, math.ceil(_steps_an_epoch(settings, rows) * float(settings["num_train_epochs"])))


def _steps_an_epoch(settings: dict[str, Any], rows: int) -> int:
    batches = math.ceil(rows / (int(settings["per_device_train_batch_size"]) * distributed.world()))
    return max(1, math.ceil(batches / int(settings["gradient_accumulation_steps"])))


def _evaluation_interval(settings: dict[str, Any], rows: int, total: int) -> int:
    return max(1, min(_steps_an_epoch(settings, rows), math.ceil(total / FEWEST_EVALUATIONS)))


class EpochSampler(Sampler[int]):  # type: ignore[misc]
    """The order of an epoch, from seed and epoch alone, so that a resumed run finds its place in it.

    With lengths (tokens a row), rows of like length share a batch: less padding, about 1.7 times as
    fast on short texts. Batches stay in random order.
    """

    def __init__(
        self, dataset: Any, seed: int, batch_size: int, lengths: Sequence[int] | None = None
    ) -> None:
        self.dataset, self.rows, self.seed, self.batch_size = dataset, len(dataset), seed, batch_size
        self.lengths = list(lengths) if lengths is not None else None
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if hasattr(self.dataset, "set_epoch"):  # accelerate forgets it where it skips batches
            self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        return self.rows

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        if self.lengths is None:
            return iter(torch.randperm(self.rows, generator=generator).tolist())
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=generator))


class Resumable(distributed.AcrossRanks):
    """A mixin before transformers' Trainer or a subclass: exact resume, and checkpoints that are announced.

    Order in a class: `class TextTrainer(Resumable, Trainer)`. Give the Trainer no other callbacks for
    saving or early stopping.
    """

    def attach(self, context: Context, lengths: Sequence[int] | None = None) -> None:
        """Bind to a run, after construction. `lengths`: tokens of each training row."""
        trainer: Any = self
        self.context = context
        self.memory = Memory()
        self.lengths = lengths
        self.pacing = Pacing(context, self.memory, int(context.settings.get("early_stopping_patience", 0)))
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(Reporting(context))
        trainer.add_callback(self.pacing)

    # -- order of rows -----------------------------------------------------------------------------
    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        trainer: Any = self
        dataset = train_dataset if train_dataset is not None else trainer.train_dataset
        args = trainer.args
        batch_size = args.train_batch_size * args.gradient_accumulation_steps * distributed.world()
        self._sampler = EpochSampler(dataset, args.seed, batch_size, self.lengths)
        return self._sampler

    def _run_epoch(self, model: Any, epoch: int, *args: Any, **kwargs: Any) -> Any:
        """accelerate does not reach the sampler where it both skips batches and shares them out."""
        self._sampler.set_epoch(epoch)
        return super()._run_epoch(model, epoch, *args, **kwargs)  # type: ignore[misc]

    # -- names of metrics --------------------------------------------------------------------------
    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        trainer: Any = self
        super().log(logs, start_time)  # type: ignore[misc]
        evaluated = {
            f"validation_{name.removeprefix('eval_')}": value
            for name, value in logs.items()
            if name.startswith("eval_") and not is_speed(name)
        }
        if evaluated and trainer.is_in_train:
            self.context.metric(trainer.state.global_step, evaluated)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As the Trainer's; while training it is a phase of its own on the page."""
        trainer: Any = self
        if trainer.is_in_train:
            self.context.phase("evaluating")
        found: dict[str, float] = super().evaluate(*args, **kwargs)  # type: ignore[misc]
        if trainer.is_in_train:
            self.context.phase("training")
        return found

    # -- early stopping and the best weights -------------------------------------------------------
    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        trainer: Any = self
        improved: bool = super()._determine_best_metric(metrics, trial)  # type: ignore[misc]
        self.pacing.on_evaluated(improved, trainer.state, trainer.control)
        return improved

    # -- checkpoints -------------------------------------------------------------------------------
    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Save what the Trainer saves and what it forgets, have it on disk, then announce it."""
        trainer: Any = self
        step = trainer.state.global_step
        self.memory.loss_sum = float(trainer._tr_loss.item())
        self.memory.last_logged_step = int(trainer._globalstep_last_logged)
        folder = self.context.checkpoints_dir / f"checkpoint-{step}"
        folder.mkdir(parents=True, exist_ok=True)
        if distributed.is_first():
            self.memory.write(folder)
        super()._save_checkpoint(model, trial)  # type: ignore[misc]
        if not distributed.is_first():
            return
        to_disk(folder)
        keep = [int(path.name.split("-")[1]) for path in checkpoints_in(self.context.checkpoints_dir)]
        self.context.checkpoint(step, folder, is_best=step == trainer.state.best_global_step, keep=keep)

    def _init_training_state(self, *args: Any) -> tuple[int, int]:
        """Where the best weights lie was written down as a path of another folder, or host."""
        trainer: Any = self
        found: tuple[int, int] = super()._init_training_state(*args)  # type: ignore[misc]
        best = self.context.checkpoints_dir / f"checkpoint-{trainer.state.best_global_step}"
        trainer.state.best_model_checkpoint = str(best) if best.is_dir() else None
        return found

    def _prepare_for_training(self, max_steps: int, loader: Any, resume_from_checkpoint: Any) -> Any:
        found = super()._prepare_for_training(max_steps, loader, resume_from_checkpoint)  # type: ignore[misc]
        if resume_from_checkpoint is not None and (Path(resume_from_checkpoint) / MEMORY_NAME).is_file():
            vars(self.memory).update(vars(Memory.read(Path(resume_from_checkpoint))))
            self.memory.loss_sum = distributed.unlogged_loss(
                Path(resume_from_checkpoint), self.memory.loss_sum
            )
            self._resumed = True
        return found

    _resumed = False

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        trainer: Any = self
        if self._resumed:  # the loop has just set these as for a fresh start
            self._resumed = False
            trainer._tr_loss += self.memory.loss_sum
            trainer._globalstep_last_logged = self.memory.last_logged_step
        return super().training_step(*args, **kwargs)  # type: ignore[misc]


class PlainTrainer(Resumable, Trainer):  # type: ignore[misc]
    """transformers' Trainer, resumable."""


def fit(trainer: Any, context: Context) -> Any:
    """Train to the end, from the spec's checkpoint if it has one; returns the model with the best weights.

    Raises Stopped if the run was asked to leave (a checkpoint is saved), TrainingFailure if it diverged,
    and PartDone in every process but the first, which has the whole model.
    """
    if distributed.agree(context.should_stop)[0] and context.spec.resume_from is None:
        raise Stopped(0)  # nothing is lost: it has not begun
    skeleton = distributed.without_weights(trainer.model) if trainer.is_fsdp_enabled else None
    deterministic()
    resume = adopt_checkpoints(context)
    if resume is not None and _is_complete(resume, trainer.pacing.patience):
        # The Trainer would do one step too many.
        trainer.state = TrainerState.load_from_json(str(resume / TRAINER_STATE_NAME))
        best = context.checkpoints_dir / f"checkpoint-{trainer.state.best_global_step}"
        trainer._load_from_checkpoint(str(best if best.is_dir() else resume))
        return distributed.brought_together(trainer.model, skeleton)
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    if trainer.pacing.leaving:
        raise Stopped(trainer.state.global_step)
    if trainer.pacing.stopped_early:
        context.message(
            f"Stopped early at step {trainer.state.global_step}: the last "
            f"{trainer.memory.evaluations_without_gain} evaluations brought no improvement."
        )
    best_step = trainer.state.best_global_step
    another_is_best = trainer.state.best_model_checkpoint and best_step != trainer.state.global_step
    # Only the first process may have the best checkpoint on its disk, and only it needs its weights.
    if distributed.agree(distributed.is_first() and bool(another_is_best))[0]:
        context.message(f"The weights of step {best_step}, the best on the validation rows, are kept.")
        if distributed.is_first() or distributed.is_sharded(trainer.model):
            trainer._load_best_model()
    return distributed.brought_together(trainer.model, skeleton)


def _is_complete(checkpoint: Path, patience: int) -> bool:
    """Whether this checkpoint was the last of its training."""
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    memory = Memory.read(checkpoint)
    return state.global_step >= state.max_steps or bool(
        patience and memory.evaluations_without_gain >= patience
    )


def adopt_checkpoints(context: Context) -> Path | None:
    """Bring the spec's checkpoints into this work folder; returns the one to go on from."""
    if not distributed.is_first_here():
        distributed.wait_for_all()  # another process of this host does it
        found = context.spec.resume_from
        return context.checkpoints_dir / Path(found).name if found is not None else None
    adopted: list[Path | None] = []
    for given in (context.spec.resume_from, context.spec.best_checkpoint):
        if given is None:
            adopted.append(None)
            continue
        source = Path(given)
        target = context.checkpoints_dir / source.name
        if source.resolve() != target.resolve() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, target)
        adopted.append(target)
    distributed.wait_for_all()
    return adopted[0]


def checkpoints_in(folder: Path) -> list[Path]:
    return [path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]


def to_disk(folder: Path) -> None:
    """fsync each file and the folder: what is announced must survive the host's power."""
    for path in [*(item for item in folder.rglob("*") if item.is_file()), folder, folder.parent]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def is_speed(name: str) -> bool:
    """Whether a number in the Trainer's metrics is about time, not about the model."""
    return name.endswith(("_runtime", "_per_second", "_model_preparation_time", "_time")) or name == "epoch"


def deterministic() -> None:
    """Have CUDA add up in the same order each time; a resumed run must give the same numbers."""
    if device().type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
