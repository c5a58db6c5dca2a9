"""A run that was stopped or killed goes on to the very numbers and weights of one that never was."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runs.training.spec import DatasetRef, ModelRef

from .conftest import QUICK, events_of, start, train_here

Make = Callable[[str], ModelRef]
# Logs every third step and saves every second: a resume falls between two points of the curve. Two
# micro-batches a step, dropout (of BERT) and the order of rows draw random numbers.
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


def points(*workdirs: Path) -> dict[tuple[int, str], float]:
    """{(step, series): value}, later attempts winning as they do in the database."""
    return {
        (event["step"], name): value
        for workdir in workdirs
        for event in events_of(workdir, "metric")
        for name, value in event["values"].items()
    }


def weights(workdir: Path) -> bytes:
    return (workdir / "artifacts" / "model.safetensors").read_bytes()


def keep_announced(workdir: Path, elsewhere: Path, until: int) -> tuple[Path, Path | None]:
    """What a worker would have stored when the trainer had announced `until`: (newest, best)."""
    announced = [event for event in events_of(workdir, "checkpoint") if event["step"] <= until]
    newest = announced[-1]
    best = next((event for event in reversed(announced) if event["is_best"]), None)
    folders = []
    for event in (newest, best):
        if event is None:
            folders.append(None)
            continue
        target = elsewhere / Path(event["path"]).name
        if not target.exists():
            shutil.copytree(workdir / event["path"], target)
        folders.append(target)
    assert folders[0] is not None
    return folders[0], folders[1]


def wait_for_checkpoint(workdir: Path, step: int, process: Any) -> None:
    for _ in range(3000):
        if (workdir / "events.jsonl").exists() and any(
            event["step"] >= step for event in whole_events(workdir) if event["type"] == "checkpoint"
        ):
            return
        assert process.poll() is None, process.stdout.read().decode()
        time.sleep(0.05)
    pytest.fail(f"no checkpoint of step {step}")


def whole_events(workdir: Path) -> list[dict[str, Any]]:
    try:
        return events_of(workdir)
    except ValueError:  # the last line is being written
        return []


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_killed_in_mid_step_and_resumed_elsewhere_ends_with_the_same_weights(
    method: str, tiny_model: Make, texts: DatasetRef, write_spec: Callable[..., Path], tmp_path: Path
) -> None:
    model = tiny_model("bert")
    undisturbed = write_spec(model, texts, method, "undisturbed", settings=SETTINGS)
    process = start(undisturbed)
    assert process.wait(300) == 0, process.stdout.read().decode()

    killed = write_spec(model, texts, method, "killed", settings=SETTINGS)
    process = start(killed)
    wait_for_checkpoint(killed, 16, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    steps = [event["step"] for event in events_of(killed, "checkpoint")]
    newest, best = keep_announced(killed, tmp_path / "stored", max(steps))

    resumed = write_spec(
        model,
        texts,
        method,
        "resumed",
        settings=SETTINGS,
        attempt=2,
        resume_from=str(newest),
        best_checkpoint=str(best) if best else None,
    )
    shutil.rmtree(killed / "checkpoints")
    process = start(resumed)
    assert process.wait(300) == 0, process.stdout.read().decode()

    assert points(killed, resumed) == points(undisturbed)
    assert weights(resumed) == weights(undisturbed)
    assert events_of(resumed, "done")[0]["metrics"] == events_of(undisturbed, "done")[0]["metrics"]


@pytest.mark.slow
def test_asked_to_stop_it_saves_leaves_and_goes_on_later(
    tiny_model: Make, texts: DatasetRef, write_spec: Callable[..., Path]
) -> None:
    model = tiny_model("bert")
    undisturbed = write_spec(model, texts, "full", "undisturbed", settings=SETTINGS)
    process = start(undisturbed)
    assert process.wait(300) == 0, process.stdout.read().decode()

    stopped = write_spec(model, texts, "full", "stopped", settings=SETTINGS)
    process = start(stopped)
    wait_for_checkpoint(stopped, 4, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 3
    last = events_of(stopped)[-1]
    assert last["type"] == "stopped"
    newest = stopped / events_of(stopped, "checkpoint")[-1]["path"]
    assert newest.name == f"checkpoint-{last['step']}"
    best = next((e for e in reversed(events_of(stopped, "checkpoint")) if e["is_best"]), None)

    resumed = write_spec(
        model,
        texts,
        "full",
        "resumed",
        settings=SETTINGS,
        attempt=2,
        resume_from=str(newest),
        best_checkpoint=str(stopped / best["path"]) if best else None,
    )
    process = start(resumed)
    assert process.wait(300) == 0, process.stdout.read().decode()
    assert points(stopped, resumed) == points(undisturbed)
    assert weights(resumed) == weights(undisturbed)


def test_a_run_resumed_from_its_last_checkpoint_only_scores_and_packages(
    tiny_model: Make, texts: DatasetRef, write_spec: Callable[..., Path]
) -> None:
    model = tiny_model("bert")
    first = write_spec(model, texts, "full", "first", settings=QUICK)
    assert train_here(first) == 0
    final = events_of(first, "checkpoint")[-1]
    best = next(event for event in reversed(events_of(first, "checkpoint")) if event["is_best"])
    again = write_spec(
        model,
        texts,
        "full",
        "again",
        settings=QUICK,
        resume_from=str(first / final["path"]),
        best_checkpoint=str(first / best["path"]),
    )
    assert train_here(again) == 0
    assert not [event for event in events_of(again, "metric") if "loss" in event["values"]]
    assert weights(again) == weights(first)
