"""What is advised: which models, datasets, tasks and columns go together, what is in the way, and how to begin."""

from __future__ import annotations

from typing import Any

import pytest

from runs.advice.fitting import (
    candidates,
    columns_for,
    fitting_tasks,
    tasks_of_model,
    why_not_dataset,
    why_not_model,
)
from runs.advice.methods import FEW_ROWS, optimiser_steps, suggested_method
from runs.training.tasks import all_tasks, get_task
from runs.training.tasks.common import Task
from webapp.catalog.models import BaseModel
from webapp.datasets.models import DatasetVersion

TEXTS = get_task("text-classification")
PICTURES = get_task("image-classification")
ANSWERS = get_task("text-generation")


def columns(**kinds: str) -> list[dict[str, Any]]:
    return [{"name": name, "kind": kind} for name, kind in kinds.items()]


def version(**kinds: str) -> DatasetVersion:
    return DatasetVersion(columns=columns(**kinds))


def model(kind: str, **details: str) -> BaseModel:
    return BaseModel(name="M", kind=kind, details=details)


def slugs(tasks: list[Task]) -> set[str]:
    return {task.slug for task in tasks}


# -- which columns ----------------------------------------------------------------------------------
def test_columns_of_a_fitting_kind_are_offered_those_with_usual_names_first() -> None:
    text = next(role for role in TEXTS.roles if role.name == "text")
    assert candidates(text, columns(title="text", notes="text", stars="label", Text="text")) == [
        "Text",
        "title",
        "notes",
    ]


def test_among_unusual_names_the_kind_that_suits_better_comes_first() -> None:
    label = next(role for role in TEXTS.roles if role.name == "label")
    assert candidates(label, columns(a="integer", b="label", c="float", d="boolean")) == ["b", "d", "a"]


def test_one_column_never_plays_two_roles() -> None:
    assert columns_for(ANSWERS, columns(question="text", reply="text")) == {
        "prompt": "question",
        "completion": "reply",
    }
    only = columns_for(ANSWERS, columns(question="text"))
    assert only == {"text": "question"}, "a prompt without an answer is a text"
    assert columns_for(TEXTS, columns(stars="label", review="text")) == {"text": "review", "label": "stars"}


@pytest.mark.parametrize("task", all_tasks(), ids=lambda task: task.slug)
def test_without_any_column_no_task_fits(task: Task) -> None:
    assert columns_for(task, []) is None
    assert columns_for(task, columns(price="float")) is None


# -- what goes together -----------------------------------------------------------------------------
def test_a_model_and_a_dataset_meet_in_the_tasks_that_suit_both() -> None:
    reviews, photos = version(review="text", stars="label"), version(photo="image", kind="label")
    assert slugs(fitting_tasks(model("text-encoder"), reviews)) == {"text-classification"}
    assert slugs(fitting_tasks(model("text-decoder"), reviews)) == {"text-classification", "text-generation"}
    assert slugs(fitting_tasks(model("image-encoder"), photos)) == {"image-classification"}
    assert fitting_tasks(model("image-encoder"), reviews) == []
    assert slugs(fitting_tasks(None, photos)) == {"image-classification"}
    assert fitting_tasks(None, None) == list(all_tasks())


def test_what_is_in_the_way_is_said() -> None:
    reviews, photos, prices = (
        version(review="text", stars="label"),
        version(photo="image", kind="label"),
        version(price="float"),
    )
    assert why_not_dataset(reviews, [TEXTS]) == ""
    assert why_not_dataset(photos, [TEXTS]) == "the model needs a column of text and a column of labels"
    assert why_not_dataset(prices, [PICTURES]) == "the model needs a column of images and a column of labels"
    assert " or " in why_not_dataset(prices, [TEXTS, ANSWERS])
    assert why_not_dataset(photos, []) == "the model cannot be trained here yet"
    assert why_not_model(model("text-encoder"), [TEXTS]) == ""
    assert why_not_model(model("text-encoder"), [PICTURES]) == (
        "it learns text classification, and the dataset has no columns for that"
    )
    assert "text classification and text generation" in why_not_model(model("text-decoder"), [PICTURES])
    assert why_not_model(model("word-vectors"), all_tasks()) == "nothing here trains word vectors yet"


def test_a_model_that_is_not_installed_learns_nothing_until_it_is() -> None:
    away = model("text-encoder", missing="Install the package x on every worker.")
    assert tasks_of_model(away) == [] and fitting_tasks(away, version(review="text", stars="label")) == []
    assert why_not_model(away, all_tasks()) == "it is not installed: install the package x on every worker"


# -- which method -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("task", "rows", "has_gpu", "method", "because"),
    [
        (TEXTS, 100, False, "head", "the quickest one where there is no GPU"),
        (TEXTS, 1_000_000, False, "head", "the quickest one where there is no GPU"),
        (PICTURES, None, False, "head", "the quickest one where there is no GPU"),
        (ANSWERS, 100, False, "lora", "the lightest one that this task offers"),
        (TEXTS, FEW_ROWS - 1, True, "lora", "with few rows it learns most and forgets least"),
        (TEXTS, FEW_ROWS, True, "full", "with this many rows training everything pays"),
        (PICTURES, 100, True, "head", "suits most datasets of this size"),
        (PICTURES, 50_000, True, "full", "with this many rows training everything pays"),
        (ANSWERS, 50_000, True, "full", "with this many rows training everything pays"),
    ],
    ids=lambda value: getattr(value, "slug", None),
)
def test_the_method_to_begin_with_follows_from_the_rows_and_the_gpu(
    task: Task, rows: int | None, has_gpu: bool, method: str, because: str
) -> None:
    advice = suggested_method(task, rows, has_gpu)
    assert (advice.method, advice.reason) == (method, because)


@pytest.mark.parametrize("task", all_tasks(), ids=lambda task: task.slug)
@pytest.mark.parametrize("rows", [None, 1, FEW_ROWS, 10**9])
@pytest.mark.parametrize("has_gpu", [True, False])
def test_whatever_is_advised_the_task_allows(task: Task, rows: int | None, has_gpu: bool) -> None:
    assert task.method(suggested_method(task, rows, has_gpu).method)


# -- how many steps ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rows", "values", "steps"),
    [
        (100, {"num_train_epochs": 3.0, "per_device_train_batch_size": 10}, 30),
        (101, {"num_train_epochs": 1, "per_device_train_batch_size": 10}, 11),
        (100, {"num_train_epochs": 0.5, "per_device_train_batch_size": 10}, 5),
        (3, {"num_train_epochs": 0.1, "per_device_train_batch_size": 8}, 1),
        (
            100,
            {"num_train_epochs": 1, "per_device_train_batch_size": 5, "gradient_accumulation_steps": 4},
            5,
        ),
        (100, {"max_steps": 7, "num_train_epochs": 3, "per_device_train_batch_size": 10}, 7),
        (100, {"max_steps": -1, "num_train_epochs": 1, "per_device_train_batch_size": 10}, 10),
        (100, {"seed": 42}, None),
        (100, {"num_train_epochs": 1, "per_device_train_batch_size": 0}, None),
    ],
)
def test_steps_follow_from_rows_epochs_and_batches(
    rows: int, values: dict[str, object], steps: int | None
) -> None:
    assert optimiser_steps(rows, values) == steps
