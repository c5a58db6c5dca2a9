"""Scoring goes on where it was: what a kill costs is what came after the last checkpoint, in the midst of an evaluation too."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runs.training.pieces import BASE, EVALUATION, FINISHED, HEAD, Pieces
from runs.training.spec import DatasetRef, ModelRef
from tests.training.resuming import Write, events_of, points, same, stored

from .conftest import EVALUATING, start, train_here
from .talking import language_model, questions, roles

ROOT = Path(__file__).resolve().parents[2]
FAILED, STOPPED, LOST = 1, 3, 4


class Watch:
    """What is asked for in a run, and what of it is computed; it may be saved, stopped or broken at a piece."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch

    def train(
        self, workdir: Path, section: str = "", *, skip: int = 0, save: int = 0, stop: int = 0, crash: int = 0
    ) -> int:
        """The exit status. Pieces of the section are counted from 1, `skip` of them left out."""
        from runs.training import fitting, pieces, saving

        computed: list[tuple[str, int]] = []
        asked, due = 0, False
        following, stage, piece = pieces.Pieces.next, pieces.Stage.__call__, fitting.Resumable.piece

        def at(context: Any, name: str) -> None:
            nonlocal asked, due
            if name == section:
                asked += 1
                due = bool(save) and asked - skip == save
                if stop and asked - skip == stop:
                    context.stop()

        def in_a_stage(self: Any, compute: Any) -> Any:
            at(self._context, self._name)
            return stage(self, compute)

        def in_an_evaluation(self: Any, compute: Any) -> Any:
            if self.is_in_train:
                at(self.context, EVALUATION)
            return piece(self, compute)

        def counted(self: Any, name: str, compute: Any, device: Any = None) -> Any:
            def once() -> Any:
                if crash and name == section and asked - skip == crash:
                    raise RuntimeError("the lights went out")
                computed.append((name, asked))
                return compute()

            return following(self, name, once, device)

        with self._patch.context() as patched:
            patched.setattr(saving.Timer, "due", lambda timer: due)
            patched.setattr(pieces.Stage, "__call__", in_a_stage)
            patched.setattr(fitting.Resumable, "piece", in_an_evaluation)
            patched.setattr(pieces.Pieces, "next", counted)
            status = train_here(workdir)
        self.computed = {name: [n for each, n in computed if each == name] for name, _ in computed}
        return status


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(monkeypatch)


@pytest.fixture
def write(write_spec: Write, tiny_model: Callable[[str], ModelRef], texts: DatasetRef) -> Write:
    def made(name: str, *, settings: dict[str, Any] | None = None, method: str = "full", **more: Any) -> Path:
        chosen = {**(EVALUATING if method != "head" else {}), **(settings or {})}
        return write_spec(tiny_model("bert"), texts, method, name, settings=chosen, **more)

    return made


@pytest.fixture
def write_talk(write_spec: Write, tmp_path: Path) -> Write:
    model, asked = language_model(tmp_path / "talker"), questions(tmp_path / "questions")
    settings = {**EVALUATING, "eval_steps": 4, "max_length": 64, "sample_max_new_tokens": 3, "packing": False}
    settings["per_device_eval_batch_size"] = 2

    def made(name: str, **more: Any) -> Path:
        columns, task = roles("prompt"), "text-generation"
        return write_spec(model, asked, "full", name, task=task, columns=columns, settings=settings, **more)

    return made


def saved(workdir: Path) -> list[int]:
    return [event["step"] for event in events_of(workdir, "checkpoint")]


@pytest.mark.parametrize(
    ("step", "settings", "method"),
    [
        (6, {}, "full"),
        (12, {"ema_decay": 0.5}, "full"),  # at the end of an epoch
        (24, {"lora_dropout": 0.3, "ema_decay": 0.5}, "lora"),
        (36, {"ema_decay": 0.5}, "full"),  # after the last step
        (20, {"max_steps": 20, "eval_steps": 5}, "full"),  # and that in the midst of an epoch
    ],
)
def test_a_kill_in_an_evaluation_costs_what_came_after_the_checkpoint_within_it(
    step: int, settings: dict[str, Any], method: str, write: Write, watch: Watch, tmp_path: Path
) -> None:
    undisturbed, first = (write(name, settings=settings, method=method) for name in ("undisturbed", "first"))
    assert watch.train(undisturbed) == 0
    every = {**EVALUATING, **settings}["eval_steps"]
    before = 4 * (step // every - 1)
    assert watch.train(first, EVALUATION, skip=before, save=3, crash=4) == FAILED
    assert saved(first)[-1] == step
    again = {"settings": settings, "method": method}
    second = write("second", attempt=2, **again, **stored(first, tmp_path / "stored"))
    assert watch.train(second, EVALUATION) == 0
    assert watch.computed[EVALUATION][:2] == [3, 4], "the first two are known"
    same(undisturbed, first, second)


def test_saved_again_and_again_in_one_evaluation_it_goes_on_each_time(
    write: Write, watch: Watch, tmp_path: Path
) -> None:
    undisturbed, attempts = write("undisturbed"), [write("first")]
    assert watch.train(undisturbed) == 0
    assert watch.train(attempts[0], EVALUATION, skip=4, save=2, crash=2) == FAILED
    found: dict[str, str | None] = {}
    for number in (2, 3):  # each does one piece more: the first of the others is its own
        found |= stored(attempts[-1], tmp_path / f"stored-{number}")
        attempts.append(write(f"attempt-{number}", attempt=number, **found))
        assert watch.train(attempts[-1], EVALUATION, save=number + 1, crash=number + 1) == FAILED
        assert watch.computed[EVALUATION] == [number]
        assert saved(attempts[-1]) == [12]
    found |= stored(attempts[-1], tmp_path / "stored-last")
    last = write("last", attempt=4, **found)
    assert watch.train(last, EVALUATION) == 0
    assert watch.computed[EVALUATION][0] == 4
    same(undisturbed, *attempts, last)


def test_one_that_would_have_stopped_early_after_it_still_does(
    write: Write, watch: Watch, tmp_path: Path
) -> None:
    settings = {"early_stopping_patience": 1, "learning_rate": 1e-7}  # none is better than the first
    undisturbed, first = (write(name, settings=settings) for name in ("undisturbed", "first"))
    assert watch.train(undisturbed) == 0
    assert watch.train(first, EVALUATION, skip=4, save=3, crash=4) == FAILED
    second = write("second", settings=settings, attempt=2, **stored(first, tmp_path / "stored"))
    assert watch.train(second, EVALUATION) == 0
    assert max(step for step, _ in points(second)) == 12
    same(undisturbed, first, second)


def test_pieces_of_other_settings_are_made_anew(write: Write, watch: Watch, tmp_path: Path) -> None:
    first = write("first")
    assert watch.train(first, EVALUATION, skip=4, save=3, crash=4) == FAILED
    smaller = {"per_device_eval_batch_size": 5}
    second = write("second", settings=smaller, attempt=2, **stored(first, tmp_path / "stored"))
    assert watch.train(second, EVALUATION) == 0
    assert watch.computed[EVALUATION][:6] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("how", ["stop", "crash"])
def test_what_the_finished_model_says_is_not_computed_twice(
    how: str, write: Write, watch: Watch, tmp_path: Path
) -> None:
    settings = {"learning_rate": 5e-2}  # so fast that an evaluation before the last is the best
    undisturbed, first = (write(name, settings=settings) for name in ("undisturbed", "first"))
    assert watch.train(undisturbed) == 0
    assert any(
        "the best on the validation rows, are kept" in e["text"] for e in events_of(undisturbed, "message")
    )
    if how == "stop":
        assert watch.train(first, FINISHED, stop=7) == STOPPED
        assert events_of(first)[-1]["step"] == 36
    else:
        assert watch.train(first, FINISHED, save=7, crash=8) == FAILED
    assert saved(first)[-2:] == [36, 36]
    second = write("second", settings=settings, attempt=2, **stored(first, tmp_path / "stored"))
    assert watch.train(second, FINISHED) == 0
    assert watch.computed == {FINISHED: [7, 8]}
    same(undisturbed, first, second)
    # It may be extended as any other.
    longer = {**settings, "num_train_epochs": 4}
    third = write("third", settings=longer, attempt=3, **stored(second, tmp_path / "more"))
    assert watch.train(third, FINISHED) == 0
    assert watch.computed[FINISHED] == list(range(1, 9))


@pytest.mark.parametrize("how", ["stop", "crash"])
def test_fits_of_a_head_are_kept(how: str, write: Write, watch: Watch, tmp_path: Path) -> None:
    undisturbed, first = (write(name, method="head") for name in ("undisturbed", "first"))
    assert watch.train(undisturbed) == 0
    tries = len(watch.computed[HEAD])
    assert tries > 3
    if how == "stop":
        assert watch.train(first, HEAD, stop=3) == STOPPED
    else:
        assert watch.train(first, HEAD, save=3, crash=4) == FAILED
    second = write("second", method="head", attempt=2, **stored(first, tmp_path / "stored"))
    assert watch.train(second, HEAD) == 0
    assert watch.computed[HEAD] == list(range(3, tries + 1))
    same(undisturbed, first, second)


@pytest.mark.parametrize("how", ["stop", "crash"])
def test_what_the_base_model_says_is_computed_once_a_run(
    how: str, write_talk: Write, watch: Watch, tmp_path: Path
) -> None:
    undisturbed, first = write_talk("undisturbed"), write_talk("first")
    assert watch.train(undisturbed) == 0
    pieces = len(watch.computed[BASE])
    if how == "stop":
        assert watch.train(first, BASE, stop=pieces) == STOPPED
    else:
        assert watch.train(first, BASE, save=pieces - 1, crash=pieces) == FAILED
    assert saved(first) == [0]
    second = write_talk("second", attempt=2, **stored(first, tmp_path / "stored"))
    assert watch.train(second, EVALUATION, save=3, crash=4) == FAILED
    assert watch.computed[BASE] == [0] * (1 if how == "stop" else 2)
    assert saved(second) == [4]
    third = write_talk("third", attempt=3, **stored(second, tmp_path / "more"))
    assert watch.train(third, FINISHED, stop=3) == STOPPED
    assert BASE not in watch.computed
    last = write_talk("last", attempt=4, **stored(third, tmp_path / "last-state"))
    assert watch.train(last, FINISHED) == 0
    assert set(watch.computed) == {FINISHED}
    assert watch.computed[FINISHED][0] == 3
    same(undisturbed, first, second, third, last)
    baselines = [[event["metrics"] for event in events_of(each, "baseline")] for each in (undisturbed, last)]
    assert baselines[0] == baselines[1]


def test_asked_to_stop_before_anything_is_done_nothing_is_saved(write_talk: Write, watch: Watch) -> None:
    first = write_talk("first")
    assert watch.train(first, BASE, stop=1) == STOPPED
    assert events_of(first)[-1]["step"] == 0
    assert not saved(first)


def test_a_part_of_them_that_is_missing_is_no_reason_to_fail(
    write: Write, watch: Watch, tmp_path: Path
) -> None:
    """A checkpoint of an earlier version has none."""
    from runs.training import manifest

    undisturbed, first = write("undisturbed"), write("first")
    assert watch.train(undisturbed) == 0
    assert watch.train(first, EVALUATION, skip=4, save=3, crash=4) == FAILED
    found = stored(first, tmp_path / "stored")
    folder = Path(str(found["resume_from"]))
    (folder / f"pieces-{EVALUATION}.pth").unlink()
    manifest.finish(folder)
    second = write("second", attempt=2, **found)
    assert watch.train(second, EVALUATION) == 0
    assert watch.computed[EVALUATION][0] == 1
    same(undisturbed, first, second)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
@pytest.mark.parametrize(("task", "step", "dies_at"), [("classes", 6, 6 + 4), ("talk", 4, 8 + 4 + 5)])
def test_two_processes_keep_their_pieces_together(
    task: str, step: int, dies_at: int, strategy: str, write: Write, write_talk: Write, tmp_path: Path
) -> None:
    """With a clock by which a checkpoint is always due; killed at the fourth piece of an evaluation or later."""
    both: dict[str, Any] = {"processes": 2, "strategy": strategy}

    def made(name: str, **more: Any) -> Path:
        if task == "talk":
            return write_talk(name, **both, **more)
        return write(name, settings={"per_device_eval_batch_size": 4}, **both, **more)

    due = {"PYTHONPATH": f"{Path(__file__).parent / 'always_due'}{os.pathsep}{ROOT}"}
    undisturbed = made("undisturbed")
    assert start(undisturbed).wait(300) == 0
    first = made("first")
    assert start(first, more={**due, "TUNEBOARD_TEST_DIES_AT": str(dies_at)}).wait(300) == LOST
    assert saved(first)[-1] == step
    assert (step, "validation_loss") not in points(first)
    found = stored(first, tmp_path / "stored")
    assert (Path(str(found["resume_from"])) / f"pieces-{EVALUATION}.pth").exists()
    second = made("second", attempt=2, **found)
    assert start(second, more=due).wait(300) == 0
    same(undisturbed, first, second)


def test_a_known_piece_is_where_it_is_asked_for(write: Write) -> None:
    import torch

    from runs.training.context import Context
    from runs.training.spec import RunSpec

    workdir = write("work")
    pieces = Pieces(Context(workdir, RunSpec.read(workdir)))
    pieces.begin(EVALUATION)
    outcome = (torch.ones(2, requires_grad=True), [1.5, "a"], {"b": None})
    assert pieces.next(EVALUATION, lambda: outcome) is outcome
    pieces.begin(EVALUATION)
    known = pieces.next(EVALUATION, lambda: pytest.fail("it is known"), torch.device("meta"))
    assert known[0].device.type == "meta"
    assert not known[0].requires_grad
    assert known[1:] == outcome[1:]
