"""Every task by every method: stopped or killed at any moment, it goes on to the very numbers and bytes.

The moments are random; the seed is printed, and RESUME_SEED=<seed> repeats them.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runs.training.spec import DatasetRef, ModelRef
from runs.training.tasks import all_tasks
from tests.training.resuming import SEED, Write, interrupted, metrics, points, stored, train, weights

from .conftest import QUICK
from .talking import language_model, questions, roles

pytestmark = pytest.mark.slow
# Logs every third step and saves every fourth: a resume falls between two points of the curve. Two
# micro-batches a step, dropout and the order of rows draw random numbers.
SETTINGS = {
    **QUICK,
    "num_train_epochs": 3,
    "save_steps": 4,
    "eval_steps": 6,
    "logging_steps": 3,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3,
}


@dataclass(frozen=True)
class Case:
    task: str
    method: str
    family: str
    settings: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        extra = ",".join(f"{name}={value}" for name, value in self.settings.items())
        return "-".join(filter(None, (self.task, self.method, self.family, extra)))


HEAD = {"per_device_eval_batch_size": 1}  # many batches, to be stopped between
CASES = [
    Case("text-classification", "full", "bert", {"ema_decay": 0.9}),
    Case("text-classification", "last_layers", "bert", {"last_layers": 1, "early_stopping_patience": 2}),
    Case("text-classification", "lora", "bert", {"ema_decay": 0.9}),
    Case("text-classification", "lora", "modernbert", {"lora_dropout": 0.2}),
    Case("text-classification", "head", "bert", HEAD),
    Case("image-classification", "full", "resnet", {"num_train_epochs": 8, "horizontal_flip": True}),
    Case("image-classification", "full", "vit", {"num_train_epochs": 8, "ema_decay": 0.9}),
    Case("image-classification", "last_layers", "vit", {"num_train_epochs": 8, "last_layers": 1}),
    Case("image-classification", "head", "vit", HEAD),
    Case("text-generation", "full", "talker", {"packing": False}),
    Case("text-generation", "full", "talker", {"packing": True, "num_train_epochs": 24}),
    Case("text-generation", "lora", "talker", {"packing": False, "lora_dropout": 0.2}),
    Case("text-generation", "lora", "talker", {"packing": True, "num_train_epochs": 24}),
]


def test_every_task_and_method_is_among_the_cases() -> None:
    there_are = {(task.slug, method.slug) for task in all_tasks() for method in task.methods}
    assert {(case.task, case.method) for case in CASES} == there_are


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return language_model(tmp_path_factory.mktemp("talker"))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> DatasetRef:
    return questions(tmp_path_factory.mktemp("questions"))


@pytest.fixture
def write(
    request: pytest.FixtureRequest,
    write_spec: Write,
    tiny_model: Callable[[str], ModelRef],
    texts: DatasetRef,
    pictures: DatasetRef,
    talker: ModelRef,
    asked: DatasetRef,
) -> Write:
    """Makes a work folder for a case."""

    def made(case: Case, name: str, **changes: Any) -> Path:
        settings = case.settings if case.method == "head" else {**SETTINGS, **case.settings}
        if case.family == "talker":
            more = {"max_length": 64, "sample_max_new_tokens": 3}
            return write_spec(
                *(talker, asked, case.method, name),
                task=case.task,
                columns=roles("prompt"),
                settings={**settings, **more},
                **changes,
            )
        data = texts if case.task.startswith("text") else pictures
        return write_spec(tiny_model(case.family), data, case.method, name, settings=settings, **changes)

    return made


@pytest.mark.parametrize("case", CASES, ids=str)
def test_killed_or_stopped_at_any_moment_it_ends_as_one_that_never_was(
    case: Case, write: Write, tmp_path: Path
) -> None:
    chance = random.Random(f"{SEED}/{case}")
    print(f"RESUME_SEED={SEED}")
    undisturbed = train(write(case, "undisturbed"))
    for number in (signal.SIGKILL, signal.SIGTERM):
        first = interrupted(lambda name: write(case, name), number, undisturbed, chance)
        found = stored(first, tmp_path / f"stored-{number}")
        print(found)
        second = train(write(case, f"resumed-{number}", attempt=2, **found))
        assert points(first, second) == points(undisturbed)
        assert weights(second) == weights(undisturbed)
        assert metrics(second) == metrics(undisturbed)
