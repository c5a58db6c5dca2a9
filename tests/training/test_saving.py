"""When checkpoints are taken, which are kept, and what one that cannot be written leads to."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from runs.training import manifest, saving
from runs.training.context import Context
from runs.training.saving import Saver, Timer, checkpoints_in, folder_of
from runs.training.spec import DatasetRef, ModelRef, RunSpec

from .conftest import events_of


@pytest.fixture
def context(tmp_path: Path) -> Context:
    model, data = ModelRef("m", "text-encoder", "folder", "/m"), DatasetRef("d", "/d", "0" * 64, {})
    spec = RunSpec("7", 1, "text-classification", "full", {}, model, data, {}, str(tmp_path / "cache"))
    return Context(tmp_path, spec)


def content(text: str) -> Any:
    return lambda folder: (folder / "state.json").write_text(text)


class Clock:
    """The time as the test says it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(saving.time, "monotonic", lambda: self.now)

    def steps_until_due(self, timer: Timer, seconds_each: float) -> float:
        """Seconds from now until a checkpoint is asked for."""
        start = self.now
        while True:
            self.now += seconds_each
            if timer.due():
                return self.now - start


@pytest.mark.parametrize("writing", [0.0, 5.0, 60.0, 200.0])
@pytest.mark.parametrize("step", [0.1, 7.0, 50.0, 100.0])
def test_never_more_than_ten_minutes_of_work_are_at_stake(
    writing: float, step: float, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, saver = Clock(monkeypatch), Saver(context)
    timer = Timer(600, saver)
    saver.seconds = writing
    clock.steps_until_due(timer, step)  # the first one teaches it how long a step takes
    timer.restart()
    between = clock.steps_until_due(timer, step)
    if writing <= 100:  # else saving itself, done twice, is most of the limit
        assert between + 2 * writing <= 600
    assert between >= 300 - step


def test_a_checkpoint_is_taken_no_earlier_than_needed(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    assert clock.steps_until_due(Timer(600, Saver(context)), 1) == 540


def test_the_best_and_the_newest_two_stay(context: Context) -> None:
    saver = Saver(context)
    for step in range(1, 7):
        saver.save(step, content(str(step)), best_step=2 if step >= 2 else None)
    saver.wait()
    assert [path.name for path in checkpoints_in(context.checkpoints_dir)] == [
        "checkpoint-2",
        "checkpoint-5",
        "checkpoint-6",
    ]
    told = events_of(context.workdir, "checkpoint")
    assert [event["step"] for event in told] == [1, 2, 3, 4, 5, 6]
    assert told[-1]["keep"] == [2, 5, 6] and [event["is_best"] for event in told].index(True) == 1


def test_the_newest_of_a_step_stays(context: Context) -> None:
    saver = Saver(context)
    for step, text in [(1, "a"), (1, "b"), (2, "a"), (3, "a"), (4, "a"), (4, "b"), (4, "c")]:
        saver.save(step, content(text), best_step=1)
        saver.wait()
    folders = ["checkpoint-1.2", "checkpoint-3", "checkpoint-4.3"]
    assert sorted(path.name for path in context.checkpoints_dir.iterdir()) == folders
    assert checkpoints_in(context.checkpoints_dir) == [folder_of(context, step) for step in (1, 3, 4)]
    assert (folder_of(context, 4) / "state.json").read_text() == "c"
    told = events_of(context.workdir, "checkpoint")[-1]
    assert (told["path"], told["keep"]) == ("checkpoints/checkpoint-4.3", [1, 3, 4])


def test_what_was_announced_last_is_there_at_whatever_moment_the_trainer_is_killed(context: Context) -> None:
    saver = Saver(context)
    saver.save(1, content("1"))
    saver.wait()
    moments = []

    def look(frame: Any, event: str, argument: Any) -> Any:
        told = events_of(context.workdir, "checkpoint")[-1]
        moments.append((told["step"], manifest.is_whole(context.workdir / told["path"])))
        return look

    threading.settrace(look)  # called before each line and at each call of the thread that writes
    try:
        for step in (1, 1, 2, 3, 4, 4):
            saver.save(step, content("more"))
            saver.wait()
    finally:
        threading.settrace(None)  # type: ignore[arg-type]
    assert {step for step, _ in moments} == {1, 2, 3, 4}
    assert all(there for _, there in moments)


def test_what_was_never_finished_does_not_count(context: Context) -> None:
    saver = Saver(context)
    saver.save(1, content("1"))
    saver.wait()
    half = folder_of(context, 2)
    half.mkdir()
    (half / "state.json").write_text("2")
    (context.checkpoints_dir / ".checkpoint-3.partial").mkdir()
    assert checkpoints_in(context.checkpoints_dir) == [folder_of(context, 1)]
    with pytest.raises(manifest.Damaged, match="it has no manifest"):
        manifest.check(half)


def test_one_is_written_at_a_time_and_each_has_its_own_content(context: Context) -> None:
    free, saver = threading.Event(), Saver(context)
    writing: list[int] = []

    def slowly(folder: Path) -> None:
        writing.append(1)
        free.wait(30)
        (folder / "state.json").write_text("slow")

    saver.save(1, slowly)
    saver.check()  # does not wait
    second = threading.Thread(target=lambda: (saver.save(2, content("quick")), saver.wait()))
    second.start()
    assert not folder_of(context, 2).exists()
    free.set()
    second.join(30)
    texts = [(path / "state.json").read_text() for path in checkpoints_in(context.checkpoints_dir)]
    assert texts == ["slow", "quick"]


def test_what_goes_wrong_while_writing_is_raised_in_the_training(context: Context) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError(28, "No space left on device")

    saver = Saver(context)
    saver.save(1, content("1"))
    saver.save(2, fail)
    with pytest.raises(OSError, match="No space left"):
        saver.wait()
    saver.wait()  # once
    assert [path.name for path in context.checkpoints_dir.iterdir()] == ["checkpoint-1"]
    assert [event["step"] for event in events_of(context.workdir, "checkpoint")] == [1]


@pytest.mark.parametrize("change", ["flip", "cut", "missing", "no manifest", "garbled"])
def test_every_kind_of_damage_is_found(change: str, context: Context) -> None:
    saver = Saver(context)
    saver.save(1, content("some state"))
    saver.wait()
    folder = folder_of(context, 1)
    manifest.check(folder)
    path = folder / "state.json"
    match change:
        case "flip":
            path.write_text("some stat\x64")
        case "cut":
            path.write_text("some stat")
        case "missing":
            path.unlink()
        case "no manifest":
            (folder / manifest.NAME).unlink()
        case "garbled":
            (folder / manifest.NAME).write_text("{")
    with pytest.raises(manifest.Damaged):
        manifest.check(folder)
