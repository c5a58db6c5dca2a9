"""The whole state of a training at a step, copied to host memory so that it can be written meanwhile.

What is written are the files that transformers' Trainer writes and reads again: weights as safetensors
(an adapter alone where the model has one), optimiser, schedule, scaler and random numbers as torch files
that load with `weights_only`, the Trainer's own state as JSON; and what it forgets.
"""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from safetensors.torch import save_file
from transformers.trainer import (
    OPTIMIZER_NAME,
    SCALER_NAME,
    SCHEDULER_NAME,
    TRAINER_STATE_NAME,
)
from transformers.utils import SAFE_WEIGHTS_NAME

from runs.training import distributed
from runs.training.callbacks import Memory

ADAPTER_WEIGHTS_NAME = "adapter_model.safetensors"
EMA_NAME = "ema.safetensors"
PINNED_SHARE = 0.25  # of the free memory, at most: pinned pages are taken from everybody else


@dataclass
class Snapshot:
    """What `write` needs, none of which the training changes any more."""

    weights: dict[str, torch.Tensor]  # as in the model's state_dict, or its adapter's
    averaged: dict[str, torch.Tensor] | None  # exponential moving averages
    torch_files: dict[str, Any]  # {name: content}
    trainer_state: Any
    memory: Memory
    config: Any  # of the model, or of its adapter

    def write(self, folder: Path) -> None:
        name = ADAPTER_WEIGHTS_NAME if hasattr(self.config, "peft_type") else SAFE_WEIGHTS_NAME
        save_tensors(self.weights, folder / name)
        if self.averaged is not None:
            save_tensors(self.averaged, folder / EMA_NAME)
        for name, content in self.torch_files.items():
            torch.save(content, folder / name)
        self.trainer_state.save_to_json(str(folder / TRAINER_STATE_NAME))
        self.memory.write(folder)
        if self.config is not None:
            self.config.save_pretrained(str(folder))


def take(
    trainer: Any,
    memory: Memory,
    averaged: Mapping[str, torch.Tensor] | None,
    random_numbers: dict[str, Any],
    *,
    keep_training: bool,
) -> Snapshot | None:
    """The state as of now, with the `random_state` of this process; None in one of several that saves nothing itself.

    Without `keep_training` nothing is copied: the caller changes nothing until it is written.
    """
    of_each = distributed.gathered_by_first(random_numbers)
    model = trainer.accelerator.unwrap_model(trainer.model)
    # What is spread over the processes is brought together by all of them.
    shared = distributed.whole_state(model, trainer.optimizer) if distributed.is_sharded(model) else None
    if of_each is None:
        return None
    adapter = _adapter_of(model)
    state_dict, optimizer = shared or (model.state_dict(), trainer.optimizer.state_dict())
    weights, config = (
        (state_dict, getattr(model, "config", None))
        if adapter is None
        else _adapter(model, adapter, state_dict)
    )
    torch_files: dict[str, Any] = {
        OPTIMIZER_NAME: optimizer,
        SCHEDULER_NAME: trainer.lr_scheduler.state_dict(),
    }
    scaler = getattr(trainer.accelerator, "scaler", None)
    if scaler is not None:
        torch_files[SCALER_NAME] = scaler.state_dict()
    state = copy.copy(trainer.state)
    state.log_history = []  # they are events long since, and grow without end
    if keep_training and shared is None:  # that is a copy already
        copied = _Copier(model, (weights, averaged, torch_files))
        weights, averaged, torch_files = copied(weights), copied(averaged), copied(torch_files)
        copied.finish()
    return Snapshot(
        dict(weights),
        None if averaged is None else dict(averaged),
        torch_files | _random_files(of_each),
        state,
        copy.copy(memory),
        config,
    )


def room_for_copy(trainer: Any) -> bool:
    """Whether the host's memory takes a copy of the state beside what it holds."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    weights = {} if _adapter_of(model) else model.state_dict()
    size: int = sum(tensor.nbytes for tensor in _tensors((weights, trainer.optimizer.state_dict())))
    return size < 0.9 * free_memory()


def free_memory() -> int:
    """Bytes that this process may still take: of the host, or of its control group if that has fewer."""
    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit != "max":
            used = int((group / "memory.current").read_text())
            files = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
            free = min(free, int(limit) - used + int(files.get("inactive_file", 0)))
    except (OSError, ValueError):
        pass  # no control groups here
    return free


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors as safetensors, those that are one and the same (tied weights) once."""
    seen: dict[Any, str] = {}
    distinct: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        key = _identity(tensor)
        if key is None or key not in seen:
            seen[key] = name
            distinct[name] = tensor.detach().to("cpu").contiguous()
    parts = Counter(tensor.untyped_storage().data_ptr() for tensor in distinct.values())
    for name, tensor in distinct.items():
        if parts[tensor.untyped_storage().data_ptr()] > 1:  # safetensors takes no views of one storage
            distinct[name] = tensor.clone()
    save_file(distinct, str(path), metadata={"format": "pt"})


def _adapter_of(model: Any) -> str | None:
    if not hasattr(model, "peft_config"):
        return None
    active = model.active_adapters
    return str(active[0])


def _adapter(
    model: Any, name: str, state_dict: dict[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], Any]:
    from peft import get_peft_model_state_dict

    found = get_peft_model_state_dict(model, state_dict=state_dict, adapter_name=name)
    return found, model.peft_config[name]


def random_state() -> dict[str, Any]:
    """Of every generator that a training in this process draws from, as the Trainer reads it again."""
    own: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # of the generator that libraries draw from
        "cpu": torch.random.get_rng_state(),
    }
    if torch.cuda.is_available():
        # One device's, or all that a process of several sees.
        several = distributed.world() > 1
        own["cuda"] = torch.cuda.random.get_rng_state_all() if several else torch.cuda.random.get_rng_state()
    return own


def set_random_state(state: dict[str, Any]) -> None:
    """Back to what `random_state` returned in this process."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.random.set_rng_state(state["cpu"])
    if "cuda" in state:
        if distributed.world() > 1:
            torch.cuda.random.set_rng_state_all(state["cuda"])
        else:
            torch.cuda.random.set_rng_state(state["cuda"])


def _random_files(of_each: list[dict[str, Any]]) -> dict[str, Any]:
    """{name that the Trainer knows: states of a process}."""
    if len(of_each) == 1:
        return {"rng_state.pth": of_each[0]}
    return {f"rng_state_{number}.pth": states for number, states in enumerate(of_each)}


class _Copier:
    """Copies nested states to host memory; what is one tensor stays one, what is frozen is not copied."""

    def __init__(self, model: Any, states: Any) -> None:
        self._copies: dict[Any, torch.Tensor] = {}
        for parameter in model.parameters():
            if not parameter.requires_grad:  # nobody writes to it
                self._copies[_identity(parameter)] = parameter.detach()
        on_device = sum(tensor.nbytes for tensor in _tensors(states) if tensor.is_cuda)
        self._pinned = 0 < on_device < PINNED_SHARE * free_memory()

    def __call__(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, Mapping):
            return {key: self(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self(item) for item in value)
        return copy.copy(value)

    def _tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        key = _identity(tensor)
        if key is None or key not in self._copies:
            if tensor.is_cuda and self._pinned:  # all at once, without waiting for each
                found = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=True)
                found.copy_(tensor.detach(), non_blocking=True)
            else:
                found = tensor.detach().to("cpu", copy=True)
            self._copies[key] = found
        return self._copies[key]

    def finish(self) -> None:
        """Wait for copies that are under way."""
        if self._pinned:
            torch.cuda.synchronize()


def _identity(tensor: torch.Tensor) -> Any:
    """Equal for tensors that are the same memory seen in the same way; None for those without any."""
    if tensor.numel() == 0:
        return None
    return (
        *(str(tensor.device), tensor.data_ptr(), tensor.dtype),
        *(tuple(tensor.shape), tuple(tensor.stride())),
    )


def _tensors(value: Any) -> Iterable[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
