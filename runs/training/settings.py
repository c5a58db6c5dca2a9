"""The settings that tasks share, and the one check of what a person has chosen.

Free of torch: the web side checks a launch with the same code that the trainer checks a spec with.
Names are those of transformers' TrainingArguments where it has the thing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from runs.training.tasks.common import Setting, Task


class SettingsError(ValueError):
    """Settings that cannot be used; `fields` has a message for each that is wrong."""

    def __init__(self, fields: dict[str, str]) -> None:
        super().__init__(" ".join(f"{name}: {message}" for name, message in fields.items()))
        self.fields = fields


def check_settings(task: Task, method: str, raw: Mapping[str, Any] | None) -> dict[str, Any]:
    """Every setting of this method with its value: what was chosen, else its default.

    Raises SettingsError with a message a field; also for names that the method does not have. None and
    the empty text stand for the default.
    """
    chosen = dict(raw or {})
    declared = {item.name: item for item in task.settings_for(method)}
    wrong = {
        name: _unknown(task, method, name) for name in chosen if name not in declared and chosen[name] != ""
    }
    values: dict[str, Any] = {}
    for name, item in declared.items():
        value = chosen.get(name)
        if value is None or value == "":
            values[name] = item.default_for(method)
            continue
        try:
            values[name] = _checked(item, value)
        except ValueError as error:
            wrong[name] = str(error)
    if wrong:
        raise SettingsError(wrong)
    return values


def _unknown(task: Task, method: str, name: str) -> str:
    if any(item.name == name for item in task.settings):
        return f"The method {method!r} has no such setting; leave it out."
    known = ", ".join(item.name for item in task.settings_for(method))
    return f"There is no such setting. There are: {known}."


def _checked(item: Setting, value: Any) -> Any:
    """The value in the setting's type and within its limits; raises ValueError saying what to type."""
    match item.type:
        case "bool":
            return _boolean(value)
        case "choice":
            if str(value) not in {choice for choice, _ in item.choices}:
                raise ValueError(f"Choose one of: {', '.join(choice for choice, _ in item.choices)}.")
            return str(value)
        case "text":
            if not isinstance(value, str):
                raise ValueError("Must be text.")
            return value
    number = _number(value, whole=item.type == "int")
    if item.minimum is not None and number < item.minimum:
        raise ValueError(f"Must be at least {item.minimum:g}.")
    if item.maximum is not None and number > item.maximum:
        raise ValueError(f"Must be at most {item.maximum:g}.")
    return number


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise ValueError("Must be true or false.")


def _number(value: Any, *, whole: bool) -> int | float:
    message = "Type a whole number, such as 8." if whole else "Type a number, such as 0.001 or 1e-3."
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(message)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(message) from None
    if not math.isfinite(number) or (whole and not number.is_integer()):
        raise ValueError(message)
    return int(number) if whole else number


def for_methods(item: Setting, *methods: str, **changes: Any) -> Setting:
    """The same setting, shown for these methods only, perhaps with other defaults or limits."""
    return replace(item, methods=methods, **changes)


# -- what is learnt, and for how long ---------------------------------------------------------------
LEARNING_RATE = Setting(
    "learning_rate",
    "Learning rate",
    "How far the weights move at each step. Too high and the loss jumps about or becomes infinite; too low and "
    "nothing is learnt.",
    "float",
    5e-5,
    minimum=1e-8,
    maximum=1.0,
    defaults_by_method=(("full", 1e-4), ("last_layers", 2e-4), ("lora", 1e-3)),
)
NUM_TRAIN_EPOCHS = Setting(
    "num_train_epochs",
    "Epochs",
    "How many times the training goes through all rows.",
    "float",
    3.0,
    minimum=0.01,
    maximum=1000,
)
MAX_STEPS = Setting(
    "max_steps",
    "Step limit",
    "Stop after this many steps, whatever the epochs say; −1: no limit.",
    "int",
    -1,
    minimum=-1,
    maximum=10_000_000,
    advanced=True,
)
BATCH_SIZE = Setting(
    "per_device_train_batch_size",
    "Batch size",
    "How many rows a device looks at before the weights move. Larger is steadier and needs more memory.",
    "int",
    16,
    minimum=1,
    maximum=4096,
    unit="rows",
)
EVAL_BATCH_SIZE = Setting(
    "per_device_eval_batch_size",
    "Batch size for evaluation",
    "How many rows a device looks at at once when it only predicts. Changes speed and memory, not results.",
    "int",
    64,
    minimum=1,
    maximum=4096,
    advanced=True,
    unit="rows",
)
GRADIENT_ACCUMULATION = Setting(
    "gradient_accumulation_steps",
    "Gradient accumulation",
    "Add up this many batches before the weights move: the effect of a larger batch in the memory of a small one.",
    "int",
    1,
    minimum=1,
    maximum=1024,
    advanced=True,
    unit="batches",
)
LR_SCHEDULER = Setting(
    "lr_scheduler_type",
    "Learning-rate schedule",
    "How the learning rate changes during training.",
    "choice",
    "linear",
    choices=(
        ("linear", "falls in a line to zero"),
        ("cosine", "falls along a cosine to zero"),
        ("constant_with_warmup", "stays the same"),
    ),
    advanced=True,
)
WARMUP_RATIO = Setting(
    "warmup_ratio",
    "Warm-up",
    "The share of all steps during which the learning rate rises from zero; keeps the first steps from doing harm.",
    "float",
    0.06,
    minimum=0,
    maximum=0.9,
    advanced=True,
)
WEIGHT_DECAY = Setting(
    "weight_decay",
    "Weight decay",
    "Pulls the weights a little towards zero; helps against learning the training rows by heart.",
    "float",
    0.01,
    minimum=0,
    maximum=1,
    advanced=True,
)
MAX_GRAD_NORM = Setting(
    "max_grad_norm",
    "Gradient clipping",
    "The largest step that a batch may ask for; protects against single odd rows.",
    "float",
    1.0,
    minimum=0.001,
    maximum=1000,
    advanced=True,
)
MAX_LENGTH = Setting(
    "max_length",
    "Longest text",
    "Texts are cut after this many tokens (a token is about three quarters of an English word).",
    "int",
    256,
    minimum=4,
    maximum=1_000_000,
    unit="tokens",
)
PATIENCE = Setting(
    "early_stopping_patience",
    "Early stopping",
    "Stop after this many evaluations in a row without an improvement on the validation rows; 0: never.",
    "int",
    3,
    minimum=0,
    maximum=1000,
    unit="evaluations",
)
SEED = Setting(
    "seed",
    "Seed",
    "The same seed with the same settings and data gives the same model.",
    "int",
    42,
    minimum=0,
    maximum=2**31 - 1,
    advanced=True,
)
PRECISION = Setting(
    "precision",
    "Precision",
    "bfloat16 is about twice as fast where the device has it; float32 is the most exact.",
    "choice",
    "auto",
    choices=(("auto", "bfloat16 where the device has it"), ("bf16", "bfloat16"), ("fp32", "float32")),
    # A head is fitted on features; the saved model must give the very same ones, whoever loads it.
    defaults_by_method=(("head", "fp32"),),
    advanced=True,
)

EMA_DECAY = Setting(
    "ema_decay",
    "Averaging of weights",
    "Evaluates and keeps a moving average of the weights, of which this share stays at each step: 0.99 averages over "
    "about the last hundred steps. Steadier with noisy data; takes the memory of one more copy; 0: off.",
    "float",
    0.0,
    minimum=0,
    maximum=0.99999,
    advanced=True,
)

# -- how often ---------------------------------------------------------------------------------------
LOGGING_STEPS = Setting(
    "logging_steps",
    "Steps between points of the loss curve",
    "Each point is the mean over that many steps.",
    "int",
    1,
    minimum=1,
    maximum=100_000,
    advanced=True,
    unit="steps",
)
EVAL_STEPS = Setting(
    "eval_steps",
    "Steps between evaluations",
    "How often the validation rows are scored; 0: once an epoch, and at least four times a run.",
    "int",
    0,
    minimum=0,
    maximum=10_000_000,
    advanced=True,
    unit="steps",
)
SAVE_STEPS = Setting(
    "save_steps",
    "Steps between checkpoints",
    "A checkpoint is saved anyway for the best result so far, and by time; 0: no others.",
    "int",
    0,
    minimum=0,
    maximum=10_000_000,
    advanced=True,
    unit="steps",
)
SAVE_MINUTES = Setting(
    "save_minutes",
    "Work lost at most",
    "Checkpoints are saved so often that no more than this is lost if a host dies, the time that saving takes included.",
    "float",
    10.0,
    minimum=0.1,
    maximum=10_080,
    advanced=True,
    unit="minutes",
)

# -- methods -----------------------------------------------------------------------------------------
LAST_LAYERS = Setting(
    "last_layers",
    "Layers to train",
    "How many of the last layers are trained; those before keep what they know.",
    "int",
    2,
    minimum=1,
    maximum=1000,
    methods=("last_layers",),
    unit="layers",
)
LORA_R = Setting(
    "lora_r",
    "LoRA rank",
    "How much an adapter can learn: 8 to 16 suit most data, 32 and more a lot of it.",
    "int",
    8,
    minimum=1,
    maximum=1024,
    methods=("lora",),
)
LORA_ALPHA = Setting(
    "lora_alpha",
    "LoRA alpha",
    "How strongly the adapters act; one to two times the rank is usual.",
    "float",
    16,
    minimum=0.01,
    maximum=4096,
    methods=("lora",),
    advanced=True,
)
LORA_DROPOUT = Setting(
    "lora_dropout",
    "LoRA dropout",
    "The share of an adapter's input that is left out at random; helps with few rows.",
    "float",
    0.05,
    minimum=0,
    maximum=0.9,
    methods=("lora",),
    advanced=True,
)

# Every method that trains by gradient shows these, in this order.
GRADIENT: tuple[Setting, ...] = (
    LEARNING_RATE,
    NUM_TRAIN_EPOCHS,
    BATCH_SIZE,
    PATIENCE,
    MAX_STEPS,
    GRADIENT_ACCUMULATION,
    LR_SCHEDULER,
    WARMUP_RATIO,
    WEIGHT_DECAY,
    MAX_GRAD_NORM,
    EMA_DECAY,
    LOGGING_STEPS,
    EVAL_STEPS,
    SAVE_STEPS,
)
# Every method, however it trains.
COMMON: tuple[Setting, ...] = (SAVE_MINUTES, EVAL_BATCH_SIZE, PRECISION, SEED)
LORA: tuple[Setting, ...] = (LORA_R, LORA_ALPHA, LORA_DROPOUT)
