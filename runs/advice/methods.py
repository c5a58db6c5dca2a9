"""Which method suits: by how many rows there are to learn from, and whether a GPU is there.

The thresholds are plain experience with small models (docs of each task show figures): with few rows, or
without a GPU, training a small part of the model gives most of the result in a fraction of the time;
with many rows and a GPU, training more of it pays.
"""

from __future__ import annotations

from dataclasses import dataclass

from runs.training.tasks.common import Task

FEW_ROWS = 2_000


@dataclass(frozen=True)
class Advice:
    """The method to begin with, and why."""

    method: str
    reason: str


def suggested_method(task: Task, training_rows: int | None, has_gpu: bool) -> Advice:
    """The first of the preferred methods that the task allows; its own first one if it allows none of them."""
    if not has_gpu:
        order, reason = ("head", "lora", "last_layers", "full"), "the quickest one where there is no GPU"
    elif training_rows is not None and training_rows < FEW_ROWS:
        order, reason = (
            ("lora", "head", "last_layers", "full"),
            "with few rows it learns most and forgets least",
        )
    else:
        order, reason = (
            ("full", "lora", "last_layers", "head"),
            "with this many rows training everything pays",
        )
    allowed = [method.slug for method in task.methods]
    chosen = next((slug for slug in order if slug in allowed), allowed[0])
    if chosen != order[0]:
        reason = (
            "the lightest one that this task offers" if not has_gpu else "suits most datasets of this size"
        )
    return Advice(chosen, reason)


def optimiser_steps(rows: int, values: dict[str, object], processes: int = 1) -> int | None:
    """How many optimiser steps the settings come to, by TrainingArguments' names; None if they do not say.

    Each of so many processes takes a batch of its own.
    """
    limit = values.get("max_steps")
    if isinstance(limit, int) and limit > 0:
        return limit
    epochs, batch = values.get("num_train_epochs"), values.get("per_device_train_batch_size")
    if not isinstance(epochs, int | float) or not isinstance(batch, int) or batch < 1:
        return None
    accumulation = values.get("gradient_accumulation_steps")
    batch *= processes
    batch *= accumulation if isinstance(accumulation, int) and accumulation > 0 else 1
    return max(1, round(-(-rows // batch) * epochs))
