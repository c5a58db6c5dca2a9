"""About how much memory a run needs on each of its devices, from what the catalogue knows of its model.

    weights      4 bytes a weight: models are trained in float32, under bfloat16 autocast where there is some
    gradients    4 bytes a weight that is trained
    optimizer    8 bytes a weight that is trained: the two moments of AdamW
    activations  by the transformer's shape: about 34 bytes a token, layer and unit of width in 16 bit, twice that in
                 float32 (Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models",
                 eq. 2 without the attention scores, which kernels of today do not keep); where weights are frozen
                 below, about half is kept; with gradient checkpointing 2 bytes and one layer's worth
    logits       batch × tokens × vocabulary × 10 bytes for a language model: once in 16 bit, twice in float32
    runtime      0.6 GB: the CUDA context, kernels and fragmentation

A shape that the catalogue does not know is guessed from the number of weights: 12 · layers · width² of them,
with a width of 64 times the number of layers. For images a position stands for 16 × 16 pixels. Such an estimate
is right to about a quarter for transformers and to a half for other networks, so it is shown as "about", and
runs/queueing/routing.py keeps a run only from devices that are clearly too small.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from webapp.catalog.models import BaseModel

RUNTIME = 600_000_000
VOCABULARY = 50_000
PATCH = 16  # pixels a side
TRAINED = {"full": 1.0, "last_layers": 0.3, "lora": 0.01, "qlora": 0.01, "dora": 0.01, "head": 0.0}


@dataclass(frozen=True)
class Memory:
    """The parts of an estimate, in bytes."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    runtime: float = RUNTIME

    @property
    def total(self) -> int:
        return round(self.weights + self.gradients + self.optimizer + self.activations + self.runtime)


def estimate(model: BaseModel, method: str, settings: Mapping[str, Any]) -> Memory | None:
    """What a run of this model with these settings needs on one device; None if its size is not known.

    `settings` as a run keeps them, by TrainingArguments' names, defaults filled in.
    """
    weights = model.parameters or (model.size_bytes // 4 if model.size_bytes else 0)
    if not weights:
        return None
    trained = _trained_share(method, settings) * weights
    return Memory(
        weights=4 * weights * (0.25 if method == "qlora" else 1),
        gradients=4 * trained,
        optimizer=8 * trained,
        activations=_activations(model, weights, method, settings),
    )


def memory_needed(model: BaseModel, method: str, settings: Mapping[str, Any]) -> int | None:
    """The total of `estimate` in bytes."""
    found = estimate(model, method, settings)
    return None if found is None else found.total


def _trained_share(method: str, settings: Mapping[str, Any]) -> float:
    rank = settings.get("lora_r")
    if method in {"lora", "qlora", "dora"} and isinstance(rank, int):
        return min(1.0, TRAINED[method] * rank / 16)
    return TRAINED.get(method, 1.0)


def _activations(model: BaseModel, weights: int, method: str, settings: Mapping[str, Any]) -> float:
    layers, width = _shape(model, weights)
    if method == "head":  # nothing is kept for a backward pass: two layers' worth at a time
        rows, layers, kept = _whole(settings.get("per_device_eval_batch_size"), 64), 2.0, 0.5
    else:
        rows, kept = _whole(settings.get("per_device_train_batch_size"), 16), 1.0 if method == "full" else 0.5
    positions = rows * _positions(model, settings)
    bytes_each = 34 if settings.get("precision") == "bf16" else 68
    if settings.get("gradient_checkpointing"):
        found = positions * width * (2 * layers + bytes_each)
    else:
        found = positions * width * layers * bytes_each * kept
    if model.kind == BaseModel.Kind.TEXT_DECODER and method != "head":
        found += positions * _whole(model.details.get("vocab_size"), VOCABULARY) * 10
    return found


def _shape(model: BaseModel, weights: int) -> tuple[float, float]:
    """(layers, width) of the model."""
    layers, width = model.details.get("num_hidden_layers"), model.details.get("hidden_size")
    if isinstance(layers, int) and isinstance(width, int) and layers > 0 and width > 0:
        return float(layers), float(width)
    guessed = (weights / (12 * 64**2)) ** (1 / 3)  # weights = 12 · layers · (64 · layers)²
    return max(1.0, guessed), max(64.0, 64 * guessed)


def _positions(model: BaseModel, settings: Mapping[str, Any]) -> float:
    """Tokens, or patches of an image, of a row."""
    if model.kind == BaseModel.Kind.IMAGE_ENCODER:
        return max(1.0, (_whole(settings.get("image_size") or model.image_size, 224) / PATCH) ** 2)
    longest = _whole(settings.get("max_length"), model.context_length or 512)
    return float(min(longest, model.context_length or longest))


def _whole(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default
