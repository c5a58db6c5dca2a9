"""A run that is asked to stop while it evaluates does not wait for that: it saves, and evaluates when it goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runs.training.spec import DatasetRef, ModelRef
from tests.training.resuming import Write, events_of, points, same, stored

from .conftest import EVALUATING, train_here
from .talking import language_model, questions, roles

STOPPED = 3


@pytest.fixture
def write(write_spec: Write, tiny_model: Callable[[str], ModelRef], texts: DatasetRef) -> Write:
    def made(name: str, *, settings: dict[str, Any] | None = None, method: str = "full", **more: Any) -> Path:
        return write_spec(
            tiny_model("bert"), texts, method, name, settings={**EVALUATING, **(settings or {})}, **more
        )

    return made


@pytest.fixture
def stopped_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int, int], int]:
    """Trains until the evaluation after a step has come to its n-th batch, counted from 1; the exit status."""
    from runs.training import fitting

    def stop(workdir: Path, step: int, batch: int) -> int:
        piece, seen = fitting.Resumable.piece, 0

        def watched(trainer: Any, compute: Callable[[], Any]) -> Any:
            nonlocal seen
            seen += trainer.is_in_train and trainer.state.global_step == step
            if seen == batch:
                trainer.context.stop()
            return piece(trainer, compute)

        with monkeypatch.context() as patched:
            patched.setattr(fitting.Resumable, "piece", watched)
            return train_here(workdir)

    return stop


@pytest.mark.parametrize(
    ("step", "batch", "settings", "method"),
    [
        (6, 1, {}, "full"),  # in the midst of an epoch
        (6, 4, {"ema_decay": 0.5}, "full"),
        (12, 2, {"ema_decay": 0.5}, "full"),  # at the end of one
        (24, 3, {"lora_dropout": 0.3}, "lora"),
        (36, 2, {"ema_decay": 0.5}, "full"),  # after the last step
        (20, 2, {"max_steps": 20, "eval_steps": 5}, "full"),  # and that in the midst of an epoch
        (
            18,
            2,
            {"save_steps": 6, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4},
            "full",
        ),
    ],
)
def test_it_leaves_at_once_and_comes_to_the_same(
    step: int,
    batch: int,
    settings: dict[str, Any],
    method: str,
    write: Write,
    tmp_path: Path,
    stopped_at: Callable[[Path, int, int], int],
) -> None:
    undisturbed = write("undisturbed", settings=settings, method=method)
    assert train_here(undisturbed) == 0
    first = write("first", settings=settings, method=method)
    assert stopped_at(first, step, batch) == STOPPED
    assert events_of(first)[-1]["type"] == "stopped"
    assert [event["step"] for event in events_of(first, "checkpoint")].count(step) == 1
    assert (step, "validation_accuracy") not in points(first), "it did not wait"
    found = stored(first, tmp_path / "stored")
    second = write("second", settings=settings, method=method, attempt=2, **found)
    assert train_here(second) == 0
    assert (step, "validation_accuracy") in points(second)
    same(undisturbed, first, second)
    told = [
        event["step"] for event in events_of(second, "metric") if "validation_accuracy" in event["values"]
    ]
    assert len(told) == len(set(told)), "each evaluation once"


def test_a_stop_before_an_evaluation_does_not_wait_for_it_either(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runs.training.callbacks import Reporting

    undisturbed = write("undisturbed")
    assert train_here(undisturbed) == 0
    first, on_step_end = write("first"), Reporting.on_step_end

    def stop(self: Any, args: Any, state: Any, *rest: Any, **more: Any) -> None:
        if state.global_step == 6:
            self.context.stop()
        on_step_end(self, args, state, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Reporting, "on_step_end", stop)
        assert train_here(first) == STOPPED
    assert (6, "validation_accuracy") not in points(first)
    second = write("second", attempt=2, **stored(first, tmp_path / "stored"))
    assert train_here(second) == 0
    same(undisturbed, first, second)


def test_stopped_again_in_the_evaluation_that_it_goes_on_with_it_has_lost_nothing(
    write: Write, tmp_path: Path, stopped_at: Callable[[Path, int, int], int]
) -> None:
    undisturbed = write("undisturbed")
    assert train_here(undisturbed) == 0
    attempts = [write("first")]
    assert stopped_at(attempts[0], 12, 2) == STOPPED
    found: dict[str, str | None] = {}
    for number in (2, 3):
        found |= stored(attempts[-1], tmp_path / f"stored-{number}")  # the best is of the first attempt
        attempts.append(write(f"attempt-{number}", attempt=number, **found))
        assert stopped_at(attempts[-1], 12, 3) == STOPPED
        assert not events_of(attempts[-1], "metric")
    last = write("last", attempt=4, **(found | stored(attempts[-1], tmp_path / "stored-last")))
    assert train_here(last) == 0
    same(undisturbed, *attempts, last)


def test_a_run_that_would_have_stopped_early_after_it_still_does(
    write: Write, tmp_path: Path, stopped_at: Callable[[Path, int, int], int]
) -> None:
    # So slow that no evaluation is better than the first.
    settings = {"early_stopping_patience": 1, "learning_rate": 1e-7}
    undisturbed = write("undisturbed", settings=settings)
    assert train_here(undisturbed) == 0
    last = max(step for step, _ in points(undisturbed))
    assert last == 12
    first = write("first", settings=settings)
    assert stopped_at(first, last, 2) == STOPPED
    second = write("second", settings=settings, attempt=2, **stored(first, tmp_path / "stored"))
    assert train_here(second) == 0
    same(undisturbed, first, second)
    assert any("Stopped early at step 12" in event["text"] for event in events_of(second, "message"))
    # It may be extended as any other.
    longer = {**settings, "num_train_epochs": 5}
    third = write("third", settings=longer, attempt=3, **stored(second, tmp_path / "stored-2"))
    assert train_here(third) == 0
    assert max(step for step, _ in points(third)) > last


def test_one_that_was_stopped_after_its_last_step_may_be_extended(
    write: Write, tmp_path: Path, stopped_at: Callable[[Path, int, int], int]
) -> None:
    """It evaluates first: the best so far may be of that step."""
    first = write("first")
    assert stopped_at(first, 36, 2) == STOPPED
    longer = write(
        "longer", settings={"num_train_epochs": 4}, attempt=2, **stored(first, tmp_path / "stored")
    )
    assert train_here(longer) == 0
    assert {step for step, name in points(longer) if name == "validation_loss"} == {36, 42, 48}


@pytest.mark.parametrize(("step", "batch"), [(4, 1), (4, 3), (8, 2)])
def test_language_models_leave_between_batches_and_answers(
    step: int,
    batch: int,
    write_spec: Write,
    tmp_path: Path,
    stopped_at: Callable[[Path, int, int], int],
) -> None:
    model, asked = language_model(tmp_path / "talker"), questions(tmp_path / "questions")
    settings = {**EVALUATING, "eval_steps": 4, "max_length": 64, "sample_max_new_tokens": 3, "packing": False}

    def write(name: str, **more: Any) -> Path:
        columns, task = roles("prompt"), "text-generation"
        return write_spec(model, asked, "full", name, task=task, columns=columns, settings=settings, **more)

    undisturbed = write("undisturbed")
    assert train_here(undisturbed) == 0
    first = write("first")
    assert stopped_at(first, step, batch) == STOPPED
    assert step not in [event["step"] for event in events_of(first, "answers")]
    second = write("second", attempt=2, **stored(first, tmp_path / "stored"))
    assert train_here(second) == 0
    same(undisturbed, first, second)
