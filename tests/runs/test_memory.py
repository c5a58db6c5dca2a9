"""The memory estimate: its parts follow the documented formula, and its size is what such trainings are known to need."""

from __future__ import annotations

import pytest

from runs.advice.memory import RUNTIME, estimate, memory_needed
from webapp.catalog.models import BaseModel

SETTINGS = {"per_device_train_batch_size": 16, "max_length": 128, "precision": "fp32"}


def model(parameters: float | None, kind: str = "text-encoder", **values: object) -> BaseModel:
    size = int(parameters) if parameters else None
    return BaseModel(parameters=size, kind=kind, context_length=512, **values)


def test_training_everything_takes_sixteen_bytes_a_weight_beside_activations() -> None:
    found = estimate(model(100e6), "full", SETTINGS)
    assert found is not None
    assert (found.weights, found.gradients, found.optimizer) == (400e6, 400e6, 800e6)
    assert found.total == pytest.approx(1.6e9 + found.activations + RUNTIME)


def test_adapters_take_hardly_more_than_the_weights() -> None:
    full, lora = estimate(model(7e9), "full", SETTINGS), estimate(model(7e9), "lora", SETTINGS)
    assert full and lora
    assert lora.gradients + lora.optimizer < 0.02 * (full.gradients + full.optimizer)
    assert lora.weights == full.weights


def test_a_head_keeps_no_gradients() -> None:
    found = estimate(model(100e6), "head", {"max_length": 128, "per_device_eval_batch_size": 64})
    assert found is not None and found.gradients == found.optimizer == 0


@pytest.mark.parametrize(
    ("name", "value", "factor"),
    [("per_device_train_batch_size", 32, 2), ("max_length", 256, 2), ("precision", "bf16", 0.5)],
)
def test_activations_follow_batch_length_and_precision(name: str, value: object, factor: float) -> None:
    before = estimate(model(100e6), "full", SETTINGS)
    after = estimate(model(100e6), "full", {**SETTINGS, name: value})
    assert before and after
    assert after.activations == pytest.approx(factor * before.activations)


def test_a_shape_that_is_known_is_used() -> None:
    bert = model(110e6, details={"num_hidden_layers": 12, "hidden_size": 768})
    found = estimate(bert, "full", SETTINGS)
    assert found is not None and found.activations == 16 * 128 * 12 * 768 * 68


def test_a_row_is_no_longer_than_the_model_reads() -> None:
    assert memory_needed(model(100e6), "full", {**SETTINGS, "max_length": 512}) == memory_needed(
        model(100e6), "full", {**SETTINGS, "max_length": 4096}
    )


def test_language_models_pay_for_their_vocabulary_and_less_with_checkpointing() -> None:
    reads = estimate(model(135e6), "full", SETTINGS)
    writes = estimate(model(135e6, "text-decoder"), "full", SETTINGS)
    saving = estimate(model(135e6, "text-decoder"), "full", {**SETTINGS, "gradient_checkpointing": True})
    assert reads and writes and saving
    assert reads.activations < writes.activations and saving.activations < writes.activations


def test_pictures_count_by_their_pixels() -> None:
    small = estimate(model(5e6, "image-encoder", image_size=224), "full", SETTINGS)
    large = estimate(model(5e6, "image-encoder", image_size=448), "full", SETTINGS)
    assert small and large and large.activations == pytest.approx(4 * small.activations)


def test_a_model_of_unknown_size_is_not_guessed() -> None:
    assert memory_needed(model(None), "full", SETTINGS) is None


@pytest.mark.parametrize(
    ("parameters", "method", "least", "most"),
    [(7e9, "full", 100, 170), (7e9, "lora", 25, 60), (110e6, "full", 2, 6), (22.7e6, "head", 0.6, 2)],
)
def test_well_known_sizes_come_out_about_right(
    parameters: float, method: str, least: float, most: float
) -> None:
    kind = "text-decoder" if parameters > 1e9 else "text-encoder"
    needed = memory_needed(model(parameters, kind), method, {**SETTINGS, "precision": "bf16"})
    assert needed is not None and least <= needed / 1e9 <= most
