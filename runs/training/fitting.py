"""Training by gradient: what every task that uses transformers' Trainer (or TRL's) shares.

`arguments` turns settings into TrainingArguments, `Resumable` makes a Trainer whose resumed runs give
the numbers of one that was never stopped, `fit` runs it and leaves the best weights in the model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils.data import Sampler
from transformers import Trainer, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.trainer_pt_utils import get_length_grouped_indices

from runs.training import distributed
from runs.training.callbacks import Memory, Pacing, Reporting, look_up
from runs.training.context import Context, Stopped
from runs.training.devices import device, use_bf16
from runs.training.ema import Averages
from runs.training.events import TrainingFailure
from runs.training.manifest import is_whole
from runs.training.pieces import EVALUATION, Pieces
from runs.training.saving import Saver, carry_weights, folder_of
from runs.training.snapshot import EMA_NAME, random_state, room_for_copy, set_random_state, take

FEWEST_EVALUATIONS = 4
T = TypeVar("T")


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


class CutShort(Exception):
    """An evaluation has been left because the run is to stop."""


class Over(Exception):
    """The evaluation that a run went on with is the last thing that it did."""


class Resumable(distributed.AcrossRanks):
    """A mixin before transformers' Trainer or a subclass: exact resume, and checkpoints that are announced.

    Order in a class: `class TextTrainer(Resumable, Trainer)`. Give the Trainer no other callbacks for
    saving or early stopping.
    """

    def attach(self, pieces: Pieces, lengths: Sequence[int] | None = None) -> None:
        """Bind to a run, after construction. `lengths`: tokens of each training row."""
        trainer: Any = self
        self.pieces = pieces
        self.context = context = pieces.context
        self.memory = Memory()
        self.saver = Saver(context)
        self.lengths = lengths
        patience = int(context.settings.get("early_stopping_patience", 0))
        self.pacing = Pacing(context, self.memory, self.saver, patience)
        decay = float(context.settings.get("ema_decay", 0))
        if decay and trainer.is_fsdp_enabled:
            raise TrainingFailure(
                "bad_settings",
                "Averaged weights need the whole model on each device, and FSDP2 shares it out.",
                "Choose DDP, or no averaging.",
            )
        self.averages = Averages(trainer.model, decay) if decay else None
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(Reporting(context))
        trainer.add_callback(self.pacing)
        if self.averages:
            trainer.add_callback(self.averages)

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

    # -- evaluating --------------------------------------------------------------------------------
    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As the Trainer's; while training it is a phase of its own on the page.

        A run that is asked to stop does not wait for its end: nothing is returned then. What is saved in an evaluation
        is the state of before and the pieces that are done; who goes on from it does the others first.
        """
        trainer: Any = self
        if not trainer.is_in_train:
            return self._evaluated(*args, **kwargs)
        self.context.phase("evaluating")
        self._random_before = random_state()
        self.pieces.begin(EVALUATION)
        try:
            found = self._evaluated(*args, **kwargs)
        except CutShort:
            set_random_state(self._random_before)
            self.memory.evaluation_due = True
            trainer.control.should_evaluate = False  # or the Trainer would begin again at the end of its loop
            self.pacing.leave(trainer.control)
            return {}
        self.memory.evaluation_due = False
        self.pieces.drop(EVALUATION)
        self.context.phase("training")
        return found

    _random_before: dict[str, Any]  # as they were when the last evaluation began

    def _evaluated(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        with self.averages.in_place() if self.averages else nullcontext():
            found: dict[str, float] = super().evaluate(*args, **kwargs)  # type: ignore[misc]
        return found

    def prediction_step(self, *args: Any, **kwargs: Any) -> Any:
        step = super().prediction_step  # type: ignore[misc]
        return self.piece(lambda: step(*args, **kwargs))

    def piece(self, compute: Callable[[], T], /) -> T:
        """A `Piece` of an evaluation; raises CutShort where the run is to stop."""
        trainer: Any = self
        if not trainer.is_in_train:
            return compute()
        should_stop, is_due = look_up(self.context, self.saver, self.pacing.timer)
        if should_stop:
            raise CutShort
        if is_due:
            self._save_within_evaluation()
        return self.pieces.next(EVALUATION, compute, trainer.args.device)

    def _save_within_evaluation(self) -> None:
        trainer: Any = self
        self.memory.evaluation_due = True
        with self.averages.in_place() if self.averages else nullcontext():  # each where it was before
            self._save_checkpoint(trainer.model, None)
        self.memory.evaluation_due = False
        self.pacing.timer.restart()

    def _evaluate_late(self) -> None:
        """The evaluation in which the run was stopped, and what the loop does after one; raises Over."""
        trainer: Any = self
        if trainer.state.global_step >= trainer.state.max_steps:
            trainer.control.should_training_stop = True
        self._determine_best_metric(trainer._evaluate(None, None), None)
        trainer.control.should_save = True  # or it would be due again
        self._save_checkpoint(trainer.model, None)
        trainer.control = trainer.callback_handler.on_save(trainer.args, trainer.state, trainer.control)
        if trainer.control.should_training_stop:
            raise Over

    # -- early stopping and the best weights -------------------------------------------------------
    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        trainer: Any = self
        if self.memory.evaluation_due:
            return False  # it has been cut short
        improved: bool = super()._determine_best_metric(metrics, trial)  # type: ignore[misc]
        self.pacing.on_evaluated(improved, trainer.state, trainer.control)
        return improved

    # -- checkpoints -------------------------------------------------------------------------------
    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Copy the state and have it written while training goes on; instead of the Trainer's own."""
        trainer: Any = self
        trainer.store_flos()
        step, best_step = trainer.state.global_step, trainer.state.best_global_step
        within = self.memory.evaluation_due
        over = bool(trainer.control.should_training_stop) and (self.pacing.leaving or not within)
        self.saver.wait()
        self.memory.loss_sum = float(trainer._tr_loss.item())
        self.memory.loss_sums = distributed.of_each(self.memory.loss_sum)
        self.memory.last_logged_step = int(trainer._globalstep_last_logged)
        best = folder_of(self.context, best_step)
        if step == best_step:
            trainer.state.best_model_checkpoint = str(best)
        aside = not over and room_for_copy(trainer)
        averaged = self.averages.tensors if self.averages else None
        random_numbers = self._random_before if within else random_state()
        state = take(trainer, self.memory, averaged, random_numbers, keep_training=aside)
        pieces = self.pieces.files()
        if state is None:  # another process saves
            return
        state.torch_files |= pieces
        carried = best if step != best_step and self._must_carry(best, over) else None

        def write(folder: Path) -> None:
            state.write(folder)
            if carried is not None:
                carry_weights(carried, folder)

        self.saver.save(step, write, best_step=best_step)
        if not aside:
            self.saver.wait()

    def _must_carry(self, best: Path, over: bool) -> bool:
        """Whether the best weights have to go with a checkpoint: of a finished run the last one alone is kept."""
        finished = over and not self.pacing.leaving
        return best.is_dir() and (finished or not is_whole(best))

    def _init_training_state(self, max_steps: int, *args: Any) -> tuple[int, int]:
        trainer: Any = self
        found: tuple[int, int] = super()._init_training_state(max_steps, *args)  # type: ignore[misc]
        state = trainer.state
        state.compute_steps(trainer.args, max_steps)  # of a run that is longer now, they may differ
        best = folder_of(self.context, state.best_global_step)
        # On other hosts than the first only what training goes on from was fetched.
        is_there = distributed.agree(distributed.is_first() and best.is_dir())[0]
        state.best_model_checkpoint = str(best) if is_there else None
        if state.best_global_step and not is_there:
            self.context.message(
                f"The weights of step {state.best_global_step:,}, the best so far, are gone; "
                "the best of the steps from here on are kept."
            )
            state.best_global_step = state.best_metric = None
        return found

    def _prepare_for_training(self, max_steps: int, loader: Any, resume_from_checkpoint: Any) -> Any:
        trainer: Any = self
        found = super()._prepare_for_training(max_steps, loader, resume_from_checkpoint)  # type: ignore[misc]
        if resume_from_checkpoint is not None:
            self._resume_from = folder = Path(resume_from_checkpoint)
            vars(self.memory).update(vars(Memory.read(folder)))
            if len(self.memory.loss_sums) == distributed.world():
                self.memory.loss_sum = self.memory.loss_sums[distributed.rank()]
            if self.averages and (folder / EMA_NAME).is_file():
                self.averages.load(folder / EMA_NAME)
            if self.extends:
                follow_schedule(trainer.lr_scheduler, trainer.optimizer)
                if self.pacing.patience and self.memory.evaluations_without_gain >= self.pacing.patience:
                    self.memory.evaluations_without_gain = 0  # else it would stop at the next one
        return found

    extends = False  # the run goes on beyond what was its end
    _resume_from: Path | None = None

    def _finalize_training(self, *args: Any) -> Any:
        if self.memory.evaluation_due and not self.pacing.leaving:
            # It was stopped in the evaluation after the last step: the loop had nothing to do.
            self._load_rng_state(str(self._resume_from))
        return super()._finalize_training(*args)  # type: ignore[misc]

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Called once in a run that goes on, where the step after the checkpoint begins."""
        trainer: Any = self
        super()._load_rng_state(checkpoint)  # type: ignore[misc]
        if checkpoint is None:
            return
        # The loop has set these as for a fresh start.
        trainer._tr_loss += self.memory.loss_sum
        trainer._globalstep_last_logged = self.memory.last_logged_step
        if self.memory.evaluation_due:
            self._evaluate_late()


class PlainTrainer(Resumable, Trainer):  # type: ignore[misc]
    """transformers' Trainer, resumable."""


def fit(trainer: Any, context: Context) -> Any:
    """Train to the end, from the spec's checkpoint if it has one; returns the model with the best weights.

    Raises Stopped if the run was asked to leave (a checkpoint is saved), TrainingFailure if it diverged,
    and PartDone in every process but the first, which has the whole model.
    """
    skeleton = distributed.without_weights(trainer.model) if trainer.is_fsdp_enabled else None
    deterministic()
    resume = trainer.pieces.resume
    if resume is not None and not (resume / TRAINER_STATE_NAME).is_file():
        resume = None  # it is of the time before the first step
    if resume is None and distributed.agree(context.should_stop)[0]:
        raise Stopped(0)  # nothing is lost: it has not begun
    if resume is not None:
        state, total = _state_of(resume), _steps_of(trainer)
        trainer.extends = total > state.max_steps
        if trainer.extends:
            context.message(f"Training goes on from step {state.global_step:,} to step {total:,}.")
        elif _is_complete(state, Memory.read(resume), total, trainer.pacing.patience):
            # The Trainer would do one step too many.
            trainer.state = state
            best = folder_of(context, state.best_global_step)
            if distributed.is_first():
                _load_weights(trainer, best if best.is_dir() else resume)
            return distributed.brought_together(trainer.model, skeleton)
    try:
        with suppress(Over):
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        trainer.is_in_train = False
        trainer.saver.wait()
    finally:
        trainer.saver.close()
    if trainer.pacing.leaving:
        raise Stopped(trainer.state.global_step)
    if trainer.pacing.stopped_early:
        context.message(
            f"Stopped early at step {trainer.state.global_step:,}: the last "
            f"{trainer.memory.evaluations_without_gain} evaluations brought no improvement."
        )
    best_step = trainer.state.best_global_step
    another_is_best = trainer.state.best_model_checkpoint and best_step != trainer.state.global_step
    # Only the first process may have the best checkpoint on its disk, and only it needs its weights.
    if distributed.agree(distributed.is_first() and bool(another_is_best))[0]:
        context.message(f"The weights of step {best_step:,}, the best on the validation rows, are kept.")
        if distributed.is_first() or distributed.is_sharded(trainer.model):
            _load_weights(trainer, folder_of(context, best_step))
    elif trainer.averages:
        trainer.averages.into_model()
    return distributed.brought_together(trainer.model, skeleton)


def _load_weights(trainer: Any, folder: Path) -> None:
    """Put a checkpoint's weights into the model, averaged ones where it has them."""
    trainer.state.best_model_checkpoint = str(folder)
    trainer._load_best_model()
    if trainer.averages and (folder / EMA_NAME).is_file():
        trainer.averages.load(folder / EMA_NAME)
        trainer.averages.into_model()


def _state_of(checkpoint: Path) -> TrainerState:
    return TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))


def _steps_of(trainer: Any) -> int:
    """Optimiser steps that the whole run comes to, as the Trainer counts them."""
    return int(trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())[-1])


def _is_complete(state: TrainerState, memory: Memory, total: int, patience: int) -> bool:
    """Whether this checkpoint was the last of its training."""
    if memory.evaluation_due:
        return False
    return state.global_step >= total or bool(patience and memory.evaluations_without_gain >= patience)


def follow_schedule(scheduler: Any, optimizer: Any) -> None:
    """Set the learning rate that the schedule has at this step.

    The one that was saved is of the schedule as it was when the run was to be shorter: zero, at its end.
    """
    rates = [
        base * rate(scheduler.last_epoch)
        for base, rate in zip(scheduler.base_lrs, scheduler.lr_lambdas, strict=True)
    ]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    scheduler._last_lr = rates


def is_speed(name: str) -> bool:
    """Whether a number in the Trainer's metrics is about time, not about the model."""
    return name.endswith(("_runtime", "_per_second", "_model_preparation_time", "_time")) or name == "epoch"


def deterministic() -> None:
    """Have CUDA add up in the same order each time; a resumed run must give the same numbers."""
    if device().type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
