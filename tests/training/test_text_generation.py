"""A language model is taught to answer, and what comes out loads with plain libraries and scores as reported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from runs.training.spec import DatasetRef, ModelRef

from .conftest import QUICK, events_of, train_here
from .talking import language_model, questions, roles

Write = Callable[..., Path]
SETTINGS = {**QUICK, "learning_rate": 5e-3, "sample_max_new_tokens": 8, "max_length": 96}


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    return language_model(tmp_path_factory.mktemp("talker"))


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> DatasetRef:
    return questions(tmp_path_factory.mktemp("questions"))


@pytest.fixture
def write(write_spec: Write) -> Write:
    def made(
        model: ModelRef, data: DatasetRef, method: str = "full", kind: str = "prompt", **changes: Any
    ) -> Path:
        settings = {**SETTINGS, **changes.pop("settings", {})}
        return write_spec(
            model, data, method, task="text-generation", columns=roles(kind), settings=settings, **changes
        )

    return made


def loss_of(model: Any, folder: Path, split: str = "test") -> float:
    """What a user would compute: the mean over the tokens of the answers."""
    from datasets import Dataset

    words = AutoTokenizer.from_pretrained(folder)
    total, count = 0.0, 0
    for row in Dataset.from_parquet(f"{split}"):
        turns = [{"role": "user", "content": row["prompt"]}]
        prompt = words.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        start = len(words(prompt, add_special_tokens=False).input_ids)
        ids = words(
            prompt + row["completion"] + "<|im_end|>", add_special_tokens=False, return_tensors="pt"
        ).input_ids
        with torch.inference_mode():
            logits = model.eval()(ids).logits[0, start - 1 : -1]
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, start:], reduction="sum"))
        count += ids.shape[1] - start
    return total / count


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_ends_in_a_folder_that_answers_and_scores_as_reported(
    method: str, talker: ModelRef, asked: DatasetRef, write: Write
) -> None:
    workdir = write(talker, asked, method)
    assert train_here(workdir) == 0, (workdir / "events.jsonl").read_text()
    folder = workdir / "artifacts"
    metrics = events_of(workdir, "done")[0]["metrics"]
    baseline = events_of(workdir, "baseline")[0]["metrics"]
    rows = f"{asked.folder}/test-00000-of-00001.parquet"
    finished = AutoModelForCausalLM.from_pretrained(folder)
    assert loss_of(finished, folder, rows) == pytest.approx(metrics["loss"], abs=1e-4)
    assert loss_of(AutoModelForCausalLM.from_pretrained(talker.reference), folder, rows) == pytest.approx(
        baseline["loss"], abs=1e-4
    )
    assert metrics["loss"] < baseline["loss"]
    assert metrics["validation_loss"] < baseline["validation_loss"]
    assert metrics["perplexity"] == pytest.approx(2.718281828 ** metrics["loss"], rel=1e-4)


def test_an_adapter_by_itself_answers_as_the_merged_model(
    talker: ModelRef, asked: DatasetRef, write: Write
) -> None:
    from peft import PeftModel

    workdir = write(talker, asked, "lora")
    assert train_here(workdir) == 0
    folder = workdir / "artifacts"
    adapted = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(talker.reference), folder / "adapter"
    ).eval()
    merged = AutoModelForCausalLM.from_pretrained(folder).eval()
    base = AutoModelForCausalLM.from_pretrained(talker.reference).eval()
    ids = torch.arange(5, 40)[None]
    with torch.inference_mode():
        said, expected, before = (model(input_ids=ids).logits for model in (adapted, merged, base))
    assert torch.allclose(said, expected, atol=1e-5)
    assert not torch.allclose(said, before, atol=1e-3)


@pytest.mark.parametrize("kind", ["messages", "json", "text"])
def test_conversations_and_plain_texts_are_learnt_too(
    kind: str, talker: ModelRef, tmp_path: Path, write: Write
) -> None:
    data = questions(tmp_path / "rows", kind)
    workdir = write(talker, data, kind=kind)
    assert train_here(workdir) == 0, (workdir / "events.jsonl").read_text()
    metrics = events_of(workdir, "done")[0]["metrics"]
    assert metrics["loss"] < events_of(workdir, "baseline")[0]["metrics"]["loss"]
    card = (workdir / "artifacts" / "README.md").read_text()
    assert ("How your text begins" in card) is (kind == "text")
    assert '"role": "user"' in card or kind == "text"


def test_four_prompts_are_answered_by_the_base_model_and_at_each_evaluation(
    talker: ModelRef, asked: DatasetRef, write: Write
) -> None:
    workdir = write(talker, asked, settings={"num_train_epochs": 60, "early_stopping_patience": 0})
    assert train_here(workdir) == 0
    told = events_of(workdir, "answers")
    evaluated = [
        event["step"] for event in events_of(workdir, "metric") if "validation_loss" in event["values"]
    ]
    assert [event["step"] for event in told] == [0, *evaluated]
    assert [len(event["items"]) for event in told] == [4] * len(told)
    first, last = told[0]["items"][0], told[-1]["items"][0]
    assert first["prompt"] == last["prompt"] and first["answer"] != last["answer"]
    assert all(item["answer"] == item["expected"] for item in told[-1]["items"])


def test_answering_prompts_changes_nothing_about_the_training(
    talker: ModelRef, asked: DatasetRef, write: Write
) -> None:
    found = []
    for name, length in (("with", 8), ("without", 0)):
        workdir = write(talker, asked, "lora", name=name, settings={"sample_max_new_tokens": length})
        assert train_here(workdir) == 0
        assert bool(events_of(workdir, "answers")) is bool(length)
        found.append((workdir / "artifacts" / "model.safetensors").read_bytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("changes", [{"packing": True}, {"gradient_checkpointing": True}])
def test_ways_to_save_time_and_memory_train_as_well(
    changes: dict[str, Any], talker: ModelRef, asked: DatasetRef, write: Write
) -> None:
    workdir = write(talker, asked, settings={**changes, "num_train_epochs": 6})
    assert train_here(workdir) == 0, (workdir / "events.jsonl").read_text()
    metrics = events_of(workdir, "done")[0]["metrics"]
    assert metrics["loss"] < events_of(workdir, "baseline")[0]["metrics"]["loss"] - 0.5
    packed = [event["text"] for event in events_of(workdir, "message") if "were packed" in event["text"]]
    assert bool(packed) is ("packing" in changes)


def test_recomputing_instead_of_keeping_gives_the_same_weights(
    talker: ModelRef, asked: DatasetRef, write: Write
) -> None:
    found = []
    for name, recompute in (("keep", False), ("recompute", True)):
        workdir = write(talker, asked, name=name, settings={"gradient_checkpointing": recompute})
        assert train_here(workdir) == 0
        found.append(AutoModelForCausalLM.from_pretrained(workdir / "artifacts").state_dict())
    for name, tensor in found[0].items():
        assert torch.allclose(tensor, found[1][name], atol=1e-6), name


@pytest.mark.parametrize(("method", "packing"), [("full", True), ("lora", False)])
def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    method: str, packing: bool, talker: ModelRef, asked: DatasetRef, write: Write
) -> None:
    settings = {
        "packing": packing,
        "num_train_epochs": 4,
        "per_device_train_batch_size": 2,
        "save_steps": 4,
        "eval_steps": 8,
        "max_length": 64,
    }
    if method == "lora":
        settings["lora_dropout"] = 0.1  # draws random numbers
    undisturbed = write(talker, asked, method, name="undisturbed", settings=settings)
    assert train_here(undisturbed) == 0
    again = _interrupted(talker, asked, method, write, settings)
    assert (again / "artifacts" / "model.safetensors").read_bytes() == (
        undisturbed / "artifacts" / "model.safetensors"
    ).read_bytes()
    assert events_of(again, "done")[0]["metrics"] == events_of(undisturbed, "done")[0]["metrics"]


def _interrupted(
    talker: ModelRef, asked: DatasetRef, method: str, write: Write, settings: dict[str, Any]
) -> Path:
    """A run that is asked to stop in its midst, then resumed from what it saved."""
    import threading

    from runs.training.__main__ import train

    first = write(talker, asked, method, name="first", settings=settings)

    class AfterSomeLooks(threading.Event):
        """Set when it has been looked at a few times in the training: at a place that no clock decides."""

        looks = 0

        def is_set(self) -> bool:
            self.looks += any(event["phase"] == "training" for event in events_of(first, "phase"))
            return self.looks > 6

    assert train(first, AfterSomeLooks()) == 3
    saved = events_of(first, "checkpoint")
    assert 0 < saved[-1]["step"] < (12 if settings["packing"] else 40)
    stored = first.parent / "stored"  # as a worker keeps it
    shutil.copytree(first / saved[-1]["path"], stored)
    best = next((event for event in reversed(saved) if event["is_best"]), None)
    again = write(
        talker,
        asked,
        method,
        name="again",
        settings=settings,
        attempt=2,
        resume_from=str(stored),
        best_checkpoint=str(first / best["path"]) if best else None,
    )
    assert train_here(again) == 0
    return again


def test_packing_is_refused_for_a_model_whose_rows_would_see_each_other(
    talker: ModelRef, asked: DatasetRef, write: Write, tmp_path: Path
) -> None:
    import transformers

    folder = tmp_path / "bloom"
    shutil.copytree(talker.reference, folder)
    (folder / "model.safetensors").unlink()
    config = transformers.BloomConfig(vocab_size=400, hidden_size=16, n_layer=2, n_head=2)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    model = ModelRef("tiny bloom", "text-decoder", "folder", str(folder))
    workdir = write(model, asked, settings={"packing": True})
    assert train_here(workdir) != 0
    failed = events_of(workdir)[-1]
    assert (failed["type"], failed["code"]) == ("failed", "bad_settings")
    assert "Switch packing off" in failed["hint"]


def test_a_bad_conversation_ends_the_run_with_its_row(talker: ModelRef, tmp_path: Path, write: Write) -> None:
    from .conftest import dataset_ref, write_split

    good = json.dumps([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    folder = tmp_path / "rows"
    sizes = {
        "train": write_split(folder, "train", {"messages": [good, good, "[{"]}, None),
        "validation": write_split(folder, "validation", {"messages": [good]}, None),
    }
    workdir = write(talker, dataset_ref(folder, sizes), kind="messages")
    assert train_here(workdir) != 0
    failed = events_of(workdir)[-1]
    assert failed["code"] == "bad_data"
    assert "row 3" in failed["message"].lower() and "messages" in failed["message"]
