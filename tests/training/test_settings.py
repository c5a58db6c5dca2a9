"""Settings are checked once, by the same code on the web side and in the trainer."""

from __future__ import annotations

from typing import Any

import pytest

from runs.training.settings import SettingsError, check_settings
from runs.training.tasks import all_tasks, get_task

TASK = get_task("text-classification")


def test_what_is_left_out_or_empty_takes_the_default_of_the_method() -> None:
    full, lora = check_settings(TASK, "full", {}), check_settings(TASK, "lora", {"learning_rate": ""})
    assert (full["learning_rate"], lora["learning_rate"]) == (1e-4, 1e-3)
    assert "lora_r" in lora and "lora_r" not in full


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("learning_rate", "fast", "Type a number"),
        ("learning_rate", float("nan"), "Type a number"),
        ("learning_rate", 5, "at most 1"),
        ("per_device_train_batch_size", 2.5, "whole number"),
        ("per_device_train_batch_size", True, "whole number"),
        ("per_device_train_batch_size", 0, "at least 1"),
        ("lr_scheduler_type", "zigzag", "Choose one of"),
        ("last_layers", 2, "has no such setting"),
        ("colour", "red", "no such setting"),
    ],
)
def test_a_mistake_is_told_beside_its_field(name: str, value: Any, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_settings(TASK, "full", {name: value})
    assert list(caught.value.fields) == [name] and message in caught.value.fields[name]


def test_text_from_a_form_becomes_numbers() -> None:
    chosen = check_settings(TASK, "full", {"learning_rate": "3e-5", "num_train_epochs": "2"})
    assert (chosen["learning_rate"], chosen["num_train_epochs"]) == (3e-5, 2.0)


@pytest.mark.parametrize("task", all_tasks(), ids=lambda task: task.slug)
def test_every_default_keeps_to_its_own_limits_and_every_setting_is_explained(task: Any) -> None:
    for method in task.methods:
        defaults = {item.name: item.default_for(method.slug) for item in task.settings_for(method.slug)}
        assert check_settings(task, method.slug, defaults) == defaults
        for item in task.settings_for(method.slug):
            assert item.title and len(item.help) > 20
    assert task.metric(task.main_metric)
