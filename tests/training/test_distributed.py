"""Several processes train one run together: the result counts once, and none of them outlives another."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runs.training.spec import DatasetRef, ModelRef
from tests.training.resuming import points, stored, weights

from .conftest import QUICK, events_of, start, train_here
from .talking import language_model, questions, roles

pytestmark = pytest.mark.slow
Make = Callable[[str], ModelRef]
Write = Callable[..., Path]
# Two micro-batches a step; logs and saves so that a resume falls between two points of the curve.
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
TWO = {"processes": 2, "strategy": "ddp"}
STRATEGIES = pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])


def finished(workdir: Path, status: int = 0) -> str:
    """Do the run in this folder; returns what it printed."""
    process = start(workdir)
    output, _ = process.communicate(timeout=400)
    text = output.decode(errors="replace")
    assert process.returncode == status, text
    return text


def wait_for_checkpoint(workdir: Path, step: int, process: Any) -> None:
    for _ in range(3000):
        try:
            told = events_of(workdir, "checkpoint")
        except (FileNotFoundError, ValueError):  # none yet, or the last line is being written
            told = []
        if any(event["step"] >= step for event in told):
            return
        assert process.poll() is None, process.stdout.read().decode()
        time.sleep(0.05)
    pytest.fail(f"no checkpoint of step {step}")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ranks_of(pid: int) -> list[int]:
    """The processes that this one has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def sober(tiny_model: Make, tmp_path: Path) -> ModelRef:
    """A BERT without dropout: what it learns does not hang on who drew which random number."""
    given = tiny_model("bert")
    folder = tmp_path / "sober"
    shutil.copytree(given.reference, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return dataclasses.replace(given, reference=str(folder))


@STRATEGIES
@pytest.mark.parametrize("method", ["full", "lora", "last_layers"])
def test_two_processes_with_half_the_batch_take_the_steps_of_one(
    strategy: str, method: str, sober: ModelRef, texts: DatasetRef, write_spec: Write
) -> None:
    from transformers import AutoModelForSequenceClassification

    settings = {**QUICK, "num_train_epochs": 2, "learning_rate": 5e-3, "logging_steps": 1, "eval_steps": 6}
    settings |= {"lora_dropout": 0.0} if method == "lora" else {}
    alone = write_spec(sober, texts, method, "alone", settings=settings)
    assert train_here(alone) == 0
    settings["per_device_train_batch_size"] = QUICK["per_device_train_batch_size"] // 2
    together = write_spec(sober, texts, method, "together", settings=settings, processes=2, strategy=strategy)
    finished(together)
    told = [(event["step"], name) for event in events_of(together, "metric") for name in event["values"]]
    assert len(told) == len(set(told))  # once, not once a process
    ours, theirs = points(together), points(alone)
    assert ours.keys() == theirs.keys()
    # The 90 rows are eleven batches of eight and a rest, of which each process gets as much.
    for step in range(1, 12):
        assert ours[step, "loss"] == pytest.approx(theirs[step, "loss"], rel=1e-3)
    assert ours[6, "validation_loss"] == pytest.approx(theirs[6, "validation_loss"], rel=1e-3)
    # What was packaged is the model that was scored, whole.
    done, one = events_of(together, "done"), events_of(alone, "done")
    assert len(done) == 1
    assert done[0]["metrics"].keys() == one[0]["metrics"].keys()
    model = AutoModelForSequenceClassification.from_pretrained(together / "artifacts")
    assert loss_on(texts, model) == pytest.approx(done[0]["metrics"]["loss"], abs=1e-4)


def loss_on(texts: DatasetRef, model: Any) -> float:
    """Of the test rows, computed as a user of the model would."""
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(model.name_or_path)
    rows = Dataset.from_parquet(f"{texts.folder}/test-00000-of-00001.parquet")
    batch = words(list(rows["text"]), padding=True, return_tensors="pt")
    with torch.inference_mode():
        logits = model.eval()(**batch).logits
    return float(torch.nn.functional.cross_entropy(logits, torch.tensor(list(rows["label"]))))


@STRATEGIES
def test_a_language_model_learns_in_two_processes(strategy: str, write_spec: Write, tmp_path: Path) -> None:
    model, data = language_model(tmp_path / "talker"), questions(tmp_path / "questions", repeats=8)
    settings = {**QUICK, "learning_rate": 1e-2, "sample_max_new_tokens": 8, "max_length": 96}
    workdir = write_spec(
        model,
        data,
        "full",
        task="text-generation",
        columns=roles("prompt"),
        settings={**settings, "num_train_epochs": 8, "per_device_train_batch_size": 4},
        processes=2,
        strategy=strategy,
    )
    finished(workdir)
    (baseline,) = events_of(workdir, "baseline")
    (done,) = events_of(workdir, "done")
    assert done["metrics"]["loss"] < baseline["metrics"]["loss"] / 2
    answers = [
        (event["step"], item["number"]) for event in events_of(workdir, "answers") for item in event["items"]
    ]
    assert len(answers) == len(set(answers))


@STRATEGIES
def test_a_rank_that_dies_ends_all_and_the_next_attempt_comes_to_the_same_weights(
    strategy: str, tiny_model: Make, texts: DatasetRef, write_spec: Write, tmp_path: Path
) -> None:
    model, settings = tiny_model("bert"), {**SETTINGS, "num_train_epochs": 5}
    both: dict[str, Any] = {"processes": 2, "strategy": strategy}
    undisturbed = write_spec(model, texts, "full", "undisturbed", settings=settings, **both)
    finished(undisturbed)
    killed = write_spec(model, texts, "full", "killed", settings=settings, **both)
    process = start(killed)
    wait_for_checkpoint(killed, 8, process)  # six steps are an epoch
    ranks = ranks_of(process.pid)
    assert len(ranks) >= 2
    victim = next(pid for pid in ranks if f"{killed}/log-rank1.txt" in files_of(pid))
    os.kill(victim, signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 4, output.decode(errors="replace")
    lost = events_of(killed)[-1]
    assert (lost["type"], lost["message"]) == ("lost", "Process 2 of 2 was ended by SIGKILL.")
    assert not [pid for pid in ranks if alive(pid)]
    # From a checkpoint in the middle of an epoch, as from any.
    resume(killed, undisturbed, tmp_path, write_spec, model, texts, settings, both, until=mid_epoch(killed))


def mid_epoch(workdir: Path) -> int:
    """The newest checkpoint there that is not of an epoch's last step, which is every sixth."""
    kept = [int(path.name.split("-")[1]) for path in (workdir / "checkpoints").iterdir()]
    return max(step for step in kept if step % 6)


def files_of(pid: int) -> set[str]:
    """What this process has open."""
    return {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}


def resume(
    before: Path,
    undisturbed: Path,
    elsewhere: Path,
    write_spec: Write,
    model: ModelRef,
    texts: DatasetRef,
    settings: dict[str, Any],
    both: dict[str, Any],
    until: int = 0,
) -> None:
    """Go on from what a worker would have stored, and come to the same points and weights."""
    resumed = write_spec(
        model,
        texts,
        "full",
        "resumed",
        settings=settings,
        attempt=2,
        **stored(before, elsewhere / "stored", until or None),
        **both,
    )
    finished(resumed)
    assert points(before, resumed) == points(undisturbed)
    assert weights(resumed) == weights(undisturbed)


@STRATEGIES
@pytest.mark.parametrize("mostly", ["training", "evaluating"])
def test_asked_to_stop_all_leave_at_one_step_and_go_on_later(
    strategy: str, mostly: str, tiny_model: Make, texts: DatasetRef, write_spec: Write, tmp_path: Path
) -> None:
    model, settings = tiny_model("bert"), {**SETTINGS, "num_train_epochs": 5}
    if mostly == "evaluating":  # after each step, row by row
        settings |= {"eval_steps": 1, "per_device_eval_batch_size": 1, "early_stopping_patience": 0}
    both: dict[str, Any] = {"processes": 2, "strategy": strategy}
    undisturbed = write_spec(model, texts, "full", "undisturbed", settings=settings, **both)
    finished(undisturbed)
    stopped = write_spec(model, texts, "full", "stopped", settings=settings, **both)
    process = start(stopped)
    wait_for_checkpoint(stopped, 4, process)
    ranks = ranks_of(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 3
    assert not [pid for pid in ranks if alive(pid)]
    last = events_of(stopped)[-1]
    assert last["type"] == "stopped"
    assert events_of(stopped, "checkpoint")[-1]["step"] == last["step"]
    resume(stopped, undisturbed, tmp_path, write_spec, model, texts, settings, both)


def test_what_cannot_be_done_is_told_once_with_its_reason(texts: DatasetRef, write_spec: Write) -> None:
    missing = ModelRef("gone", "text-encoder", "folder", "/nowhere/to/be/found")
    workdir = write_spec(missing, texts, "full", **TWO)
    finished(workdir, 1)
    failed = events_of(workdir, "failed")
    assert [event["code"] for event in failed] == ["model_unavailable"]


def test_the_ranks_die_with_the_agent(tiny_model: Make, texts: DatasetRef, write_spec: Write) -> None:
    settings = {**SETTINGS, "num_train_epochs": 200}
    workdir = write_spec(tiny_model("bert"), texts, "full", settings=settings, **TWO)
    process = start(workdir)
    wait_for_checkpoint(workdir, 4, process)
    ranks = ranks_of(process.pid)
    assert len(ranks) >= 2
    process.kill()
    process.wait()
    end = time.monotonic() + 20
    while [pid for pid in ranks if alive(pid)]:
        assert time.monotonic() < end, "a rank outlives its agent"
        time.sleep(0.05)
