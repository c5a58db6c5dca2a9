"""Exponential moving averages of the trained weights, which evaluations and the finished model use.

After each step every average moves towards its weight: a ← d·a + (1 − d)·w. In the first steps d is smaller,
min(decay, (1 + t) / (10 + t)) at step t, or the untrained weights would weigh for long (as TensorFlow's
ExponentialMovingAverage with num_updates does it). Statistics of batch norms are averaged alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Averages(TrainerCallback):  # type: ignore[misc]
    """The averages of one training; a callback of transformers' Trainer."""

    def __init__(self, model: Any, decay: float) -> None:
        self._model, self._decay = model, decay
        self._averages: dict[str, torch.Tensor] = {}

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """{name as in the model's state_dict: average}."""
        return self._averages

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not self._averages:
            self._averages = {name: weight.clone() for name, weight in self._weights().items()}

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        step = state.global_step + 1
        decay = min(self._decay, (1 + step) / (10 + step))
        weights = self._weights()
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self._averages.values()), [weights[name] for name in self._averages], 1 - decay
            )

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model holds the averages for a while."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def into_model(self) -> None:
        """The model holds the averages from now on."""
        weights = self._weights()
        with torch.no_grad():
            for name, average in self._averages.items():
                weights[name].copy_(average)

    def load(self, file: Path) -> None:
        """Take the averages of a checkpoint."""
        found, weights = load_file(str(file)), self._weights()
        self._averages = {name: found[name].to(weight.device) for name, weight in weights.items()}

    def _exchange(self) -> None:
        weights = self._weights()
        with torch.no_grad():
            for name, average in self._averages.items():
                held = weights[name].clone()
                weights[name].copy_(average)
                average.copy_(held)

    def _weights(self) -> dict[str, torch.Tensor]:
        """What is averaged: trained weights, and what a batch norm has measured; each once."""
        kept = set(self._model.state_dict().keys())
        trained = {
            name: parameter.detach()
            for name, parameter in self._model.named_parameters()
            if parameter.requires_grad
        }
        measured = {
            name: buffer
            for name, buffer in self._model.named_buffers()
            if name in kept and buffer.is_floating_point()
        }
        return trained | measured
