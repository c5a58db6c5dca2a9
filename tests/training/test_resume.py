"""What a run can go on from: whole or absent, checked, and enough to come to the same end, or to a later one."""

from __future__ import annotations

import errno
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runs.training import manifest
from runs.training.saving import checkpoints_in, step_of
from runs.training.spec import DatasetRef, ModelRef
from tests.training.forked import Training
from tests.training.resuming import Write, events_of, points, stored, train, weights

from .conftest import QUICK, train_here

Make = Callable[[str], ModelRef]
SETTINGS = {**QUICK, "num_train_epochs": 3, "logging_steps": 1, "eval_steps": 6, "learning_rate": 1e-3}


@pytest.fixture
def write(write_spec: Write, tiny_model: Make, texts: DatasetRef) -> Write:
    """Makes a work folder for a small text classifier."""

    def made(name: str, method: str = "full", **changes: Any) -> Path:
        settings = {**({} if method == "head" else SETTINGS), **changes.pop("settings", {})}
        return write_spec(tiny_model("bert"), texts, method, name, settings=settings, **changes)

    return made


def saved(workdir: Path) -> dict[int, Path]:
    """{step: folder}, oldest first."""
    return {step_of(path): path for path in checkpoints_in(workdir / "checkpoints")}


def last_state(workdir: Path, elsewhere: Path) -> dict[str, str | None]:
    """What is kept of a run that has succeeded: its last checkpoint alone."""
    return {"resume_from": stored(workdir, elsewhere)["resume_from"]}


# -- written in the background ------------------------------------------------------------------------
def test_training_goes_on_while_a_checkpoint_is_written(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir, finish = write("work", settings={"save_steps": 10, "eval_steps": 100}), manifest.finish
    steps_meanwhile: list[int] = []

    def finish_late(folder: Path) -> None:
        def seen() -> int:
            return max((e["step"] for e in events_of(workdir, "metric") if "loss" in e["values"]), default=0)

        if folder.name == ".checkpoint-10.partial":
            for _ in range(3000):
                if seen() >= 15:
                    break
                threading.Event().wait(0.01)
            steps_meanwhile.append(seen())
        finish(folder)

    monkeypatch.setattr("runs.training.saving.manifest.finish", finish_late)
    assert train_here(workdir) == 0
    assert steps_meanwhile[0] >= 15
    announced = [event["step"] for event in events_of(workdir, "checkpoint")]
    assert announced[0] == 10
    # What was written late is the state of step 10 all the same.
    undisturbed = write("undisturbed", settings={"save_steps": 10, "eval_steps": 100})
    monkeypatch.setattr("runs.training.saving.manifest.finish", finish)
    assert train_here(undisturbed) == 0
    assert weights(workdir) == weights(undisturbed)


def test_a_checkpoint_holds_the_state_of_its_step_and_not_of_a_later_one(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps that are done while it is written do not get into it."""
    from runs.training import snapshot

    workdir, write_files = (
        write("work", settings={"save_steps": 10, "eval_steps": 100}),
        snapshot.Snapshot.write,
    )

    def late(self: Any, folder: Path) -> None:
        if folder.name == ".checkpoint-10.partial":
            for _ in range(3000):
                if any(event["step"] >= 15 for event in events_of(workdir, "metric")):
                    break
                threading.Event().wait(0.01)
        write_files(self, folder)
        if folder.name == ".checkpoint-10.partial":
            shutil.copytree(folder, tmp_path / "kept" / "checkpoint-10")

    monkeypatch.setattr(snapshot.Snapshot, "write", late)
    assert train_here(workdir) == 0
    manifest.finish(tmp_path / "kept" / "checkpoint-10")
    resumed = write(
        "resumed",
        settings={"save_steps": 10, "eval_steps": 100},
        resume_from=str(tmp_path / "kept" / "checkpoint-10"),
    )
    assert train_here(resumed) == 0
    assert points(workdir, resumed) == points(workdir)
    assert weights(resumed) == weights(workdir)


def test_the_best_checkpoint_and_the_last_two_are_kept(write: Write) -> None:
    workdir = write("work", settings={"save_steps": 5, "early_stopping_patience": 0, "num_train_epochs": 4})
    assert train_here(workdir) == 0
    events = events_of(workdir, "checkpoint")
    best = [event["step"] for event in events if event["is_best"]][-1]
    newest = [event["step"] for event in events][-2:]
    assert list(saved(workdir)) == sorted({best, *newest}) == events[-1]["keep"]
    for folder in (workdir / "checkpoints").iterdir():
        manifest.check(folder)


def test_nothing_in_a_checkpoint_needs_more_than_weights_only(write: Write) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers.trainer_pt_utils import safe_globals

    workdir = write("work", settings={"ema_decay": 0.9})
    assert train_here(workdir) == 0
    for path in manifest.files_in(workdir / "checkpoints"):
        match path.suffix:
            case ".safetensors":
                assert load_file(path)
            case ".pt" | ".pth":
                with safe_globals():
                    torch.load(path, weights_only=True)
            case other:
                assert other == ".json"


def test_a_full_disk_under_a_checkpoint_ends_the_run_with_that_reason(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("runs.training.snapshot.save_file", full)
    workdir = write("work", settings={"save_steps": 2})
    assert train_here(workdir) == 1
    assert events_of(workdir)[-1]["code"] == "disk_full"
    assert not events_of(workdir, "checkpoint")
    assert not list((workdir / "checkpoints").iterdir())  # what was half-written makes room


def test_a_host_without_memory_for_a_copy_saves_the_same_state(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    roomy = write("roomy", settings={"save_steps": 5})
    assert train_here(roomy) == 0
    monkeypatch.setattr("runs.training.snapshot.free_memory", lambda: 0)
    narrow = write("narrow", settings={"save_steps": 5})
    assert train_here(narrow) == 0
    assert list(saved(narrow)) == list(saved(roomy))
    for folder in (roomy / "checkpoints").iterdir():
        for name in ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "tuneboard.json"):
            assert (folder / name).read_bytes() == (
                narrow / "checkpoints" / folder.name / name
            ).read_bytes(), name


@pytest.mark.slow
def test_killed_while_a_checkpoint_is_written_it_goes_on_from_the_one_before(
    write: Write, tmp_path: Path
) -> None:
    undisturbed = train(write("undisturbed", settings={"save_steps": 1}))
    for attempt in range(20):
        killed = write(f"killed-{attempt}", settings={"save_steps": 1})
        training, folder = Training(killed), killed / "checkpoints"

        def half_written(folder: Path = folder) -> bool:
            return folder.is_dir() and any(
                path.name.startswith(".") and "-1." not in path.name for path in folder.iterdir()
            )

        training.until(half_written)
        training.signal(signal.SIGKILL)
        training.wait()
        partial = [path.name for path in folder.iterdir() if path.name.endswith(".partial")]
        if partial:
            break
    else:
        pytest.fail("no kill fell into the writing of a checkpoint")
    found = stored(killed, tmp_path / "stored")
    assert found["resume_from"] and Path(found["resume_from"]).name not in partial[0]
    resumed = train(write("resumed", settings={"save_steps": 1}, attempt=2, **found))
    assert points(killed, resumed) == points(undisturbed)
    assert weights(resumed) == weights(undisturbed)


# -- checked when it is read ----------------------------------------------------------------------------
def test_a_damaged_checkpoint_is_not_gone_on_from(write: Write, tmp_path: Path) -> None:
    first = write("first", settings={"save_steps": 5})
    assert train_here(first) == 0
    kept = Path(str(stored(first, tmp_path / "stored")["resume_from"]))
    path = kept / "optimizer.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    again = write("again", settings={"save_steps": 5, "num_train_epochs": 5}, resume_from=str(kept))
    assert train_here(again) == 1
    failed = events_of(again)[-1]
    assert "is damaged" in failed["message"] and "optimizer.pt" in failed["message"]
    (kept / manifest.NAME).unlink()
    once_more = write("once-more", settings={"num_train_epochs": 5}, resume_from=str(kept))
    assert train_here(once_more) == 1
    assert "it has no manifest" in events_of(once_more)[-1]["message"]


def test_without_its_best_checkpoint_a_run_says_so_and_looks_for_the_best_anew(
    write: Write, tmp_path: Path
) -> None:
    settings = {"save_steps": 5, "early_stopping_patience": 0}
    first = write("first", settings=settings)
    assert train_here(first) == 0
    folders = saved(first)
    best = [event["step"] for event in events_of(first, "checkpoint") if event["is_best"]][-1]
    newest = next(step for step in folders if step > best)
    assert newest < max(folders)
    (folders[best] / "model.safetensors").unlink()
    again = write(
        "again",
        settings=settings,
        resume_from=str(folders[newest]),
        best_checkpoint=str(folders[best]),
    )
    assert train_here(again) == 0
    told = " ".join(event["text"] for event in events_of(again, "message"))
    assert f"The best checkpoint, at step {best}, is damaged: model.safetensors is missing." in told
    assert f"The weights of step {best}, the best so far, are gone" in told
    assert any(event["is_best"] for event in events_of(again, "checkpoint"))


# -- the end, and beyond it ---------------------------------------------------------------------------
def test_a_run_resumed_from_its_last_checkpoint_only_scores_and_packages(
    write: Write, tmp_path: Path
) -> None:
    first = write("first", settings={"early_stopping_patience": 0})
    assert train_here(first) == 0
    again = write("again", settings={"early_stopping_patience": 0}, **last_state(first, tmp_path / "stored"))
    assert train_here(again) == 0
    assert not [event for event in events_of(again, "metric") if "loss" in event["values"]]
    assert weights(again) == weights(first)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_finished_run_goes_on_as_one_that_was_to_be_longer(
    method: str, write: Write, tmp_path: Path
) -> None:
    longer = {"num_train_epochs": 5, "early_stopping_patience": 0, "ema_decay": 0.5}
    first = write("first", method, settings={**longer, "num_train_epochs": 3})
    assert train_here(first) == 0
    kept = last_state(first, tmp_path / "stored")
    shutil.copytree(tmp_path / "stored", tmp_path / "copy")
    extended, copied, whole = (
        write("extended", method, settings=longer, attempt=2, **kept),
        write(
            "copied",
            method,
            settings=longer,
            resume_from=str(tmp_path / "copy" / Path(str(kept["resume_from"])).name),
        ),
        write("whole", method, settings=longer),
    )
    for workdir in (extended, copied, whole):
        assert train_here(workdir) == 0
    assert weights(extended) == weights(copied) and points(extended) == points(copied)
    last = max(step for step, _ in points(first))
    rates = {key: value for key, value in points(extended).items() if key[1] == "learning_rate"}
    assert min(step for step, _ in rates) == last + 1
    assert max(step for step, _ in rates) == max(step for step, _ in points(whole))
    assert rates == {
        key: value for key, value in points(whole).items() if key[1] == "learning_rate" and key[0] > last
    }
    assert f"Training goes on from step {last} to step" in " ".join(
        event["text"] for event in events_of(extended, "message")
    )


@pytest.mark.parametrize("method", ["full", "lora"])
def test_an_extended_run_that_gets_no_better_keeps_the_best_weights_it_had(
    method: str, write: Write, tmp_path: Path
) -> None:
    """Its best checkpoint is gone by then: the weights went with the last state, and go on with each."""
    # So slow that every evaluation sorts the rows alike: the first stays the best.
    settings = {"early_stopping_patience": 0, "save_steps": 5, "learning_rate": 1e-7, "eval_steps": 4}
    first = write("first", method, settings={**settings, "num_train_epochs": 6})
    assert train_here(first) == 0
    best = [event["step"] for event in events_of(first, "checkpoint") if event["is_best"]][-1]
    last = max(saved(first))
    name = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    assert best < last and len({(saved(first)[step] / name).read_bytes() for step in (best, last)}) == 2
    kept = last_state(first, tmp_path / "stored")
    longer = {**settings, "num_train_epochs": 8}
    second = write("second", method, settings=longer, attempt=2, **kept)
    assert train_here(second) == 0
    assert f"The weights of step {best}, the best on the validation rows, are kept." in {
        event["text"] for event in events_of(second, "message")
    }
    assert weights(second) == weights(first)
    # Stopped within the extension and resumed elsewhere, it still has them.
    newest = str(list(saved(second).values())[-2])
    third = write("third", method, settings=longer, attempt=3, resume_from=newest)
    assert train_here(third) == 0
    assert weights(third) == weights(first)


def test_a_run_that_stopped_early_may_go_on(write: Write, tmp_path: Path) -> None:
    settings = {"early_stopping_patience": 1, "learning_rate": 1e-7, "num_train_epochs": 4, "eval_steps": 3}
    first = write("first", settings=settings)
    assert train_here(first) == 0
    assert any("Stopped early" in event["text"] for event in events_of(first, "message"))
    kept = last_state(first, tmp_path / "stored")
    longer = {**settings, "num_train_epochs": 6}
    second = write("second", settings=longer, attempt=2, **kept)
    assert train_here(second) == 0
    last = max(step for step, _ in points(first))
    assert max(step for step, _ in points(second)) > last
    # But with the old number it is at its end.
    same = write("same", settings=settings, attempt=2, **kept)
    assert train_here(same) == 0
    assert not [event for event in events_of(same, "metric") if "loss" in event["values"]]
    assert weights(same) == weights(first)


# -- averages -----------------------------------------------------------------------------------------
def test_averaged_weights_are_what_is_evaluated_and_kept(write: Write) -> None:
    import torch
    from safetensors.torch import load_file

    plain, averaged = write("plain"), write("averaged", settings={"ema_decay": 0.9})
    assert train_here(plain) == 0
    assert train_here(averaged) == 0
    losses = {key: value for key, value in points(plain).items() if key[1] == "loss"}
    assert {key: value for key, value in points(averaged).items() if key in losses} == losses
    evaluations = {key for key in points(plain) if key[1] == "validation_loss"}
    assert all(points(plain)[key] != points(averaged)[key] for key in evaluations)
    done = events_of(averaged, "checkpoint")
    best = [event for event in done if event["is_best"]][-1]
    average = load_file(averaged / best["path"] / "ema.safetensors")
    raw = load_file(averaged / best["path"] / "model.safetensors")
    final = load_file(averaged / "artifacts" / "model.safetensors")
    assert all(torch.equal(final[name], average[name]) for name in average)
    assert not all(torch.equal(raw[name], average[name]) for name in average)


# -- the head on features -------------------------------------------------------------------------------
def test_a_head_is_fitted_again_from_the_stored_features_to_the_same_bytes(
    write: Write, tmp_path: Path
) -> None:
    first = write("first", "head")
    assert train_here(first) == 0
    again = write("again", "head", attempt=2, **last_state(first, tmp_path / "stored"))
    assert train_here(again) == 0
    assert weights(again) == weights(first)
    assert points(again) == points(first)
    fitted = min(step for step, _ in points(first))
    assert all(event["step"] >= fitted for event in events_of(again, "progress"))  # no row was read again
