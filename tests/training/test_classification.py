"""Each method ends in a model that plain transformers loads and that predicts what the run reported."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runs.training.spec import DatasetRef, ModelRef

from .conftest import QUICK, events_of, train_here

Make = Callable[[str], ModelRef]


def predictions_of(folder: Path, data: DatasetRef, kind: str) -> tuple[Any, Any]:
    """Logits and labels of the test rows, by what a user would write."""
    import torch
    import transformers
    from datasets import Dataset

    rows = Dataset.from_parquet(f"{data.folder}/test-00000-of-00001.parquet")
    with torch.inference_mode():
        if kind.startswith("text"):
            model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            inputs = tokenizer(list(rows["text"]), padding=True, return_tensors="pt")
        else:
            model = transformers.AutoModelForImageClassification.from_pretrained(folder)
            inputs = transformers.AutoImageProcessor.from_pretrained(folder)(
                [image.convert("RGB") for image in rows["image"]], return_tensors="pt"
            )
        return model.eval()(**inputs).logits.numpy(), np.array(rows["label"])


@pytest.mark.parametrize(
    ("family", "method"),
    [
        *(("bert", method) for method in ("full", "last_layers", "lora", "head")),
        ("roberta", "head"),
        ("modernbert", "head"),
        ("llama", "head"),
        ("llama", "lora"),
        *(("vit", method) for method in ("full", "last_layers", "head")),
        ("resnet", "head"),
        ("resnet", "last_layers"),
    ],
)
def test_a_run_ends_in_a_folder_that_transformers_loads_and_that_scores_as_reported(
    family: str,
    method: str,
    tiny_model: Make,
    texts: DatasetRef,
    pictures: DatasetRef,
    write_spec: Callable[..., Path],
) -> None:
    model = tiny_model(family)
    data = texts if model.kind.startswith("text") else pictures
    workdir = write_spec(model, data, method)

    assert train_here(workdir) == 0, (workdir / "events.jsonl").read_text()

    done = events_of(workdir)[-1]
    assert done["type"] == "done"
    folder = workdir / "artifacts"
    logits, labels = predictions_of(folder, data, model.kind)
    assert (logits.argmax(-1) == labels).mean() == pytest.approx(done["metrics"]["accuracy"])
    shifted = logits - logits.max(-1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(len(labels)), labels]
    assert losses.mean() == pytest.approx(done["metrics"]["loss"], rel=2e-3, abs=1e-4)
    names = json.loads((folder / "labels.json").read_text())
    config = json.loads((folder / "config.json").read_text())
    assert list(config.get("id2label", {}).values()) == names
    assert not list(folder.rglob("*.bin")) and not list(folder.rglob("*.pt"))


def test_announced_files_are_there_with_their_sizes_and_hashes(
    tiny_model: Make, texts: DatasetRef, write_spec: Callable[..., Path]
) -> None:
    workdir = write_spec(tiny_model("bert"), texts, "lora")
    assert train_here(workdir) == 0
    announced = events_of(workdir, "artifacts")[0]
    names = {file["name"] for file in announced["files"]}
    assert {"model.safetensors", "config.json", "labels.json", "metrics.json", "README.md"} <= names
    assert {"adapter/adapter_model.safetensors", "adapter/adapter_config.json"} <= names
    for file in announced["files"]:
        data = (workdir / announced["folder"] / file["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file["size"], file["sha256"])


def test_the_adapter_by_itself_gives_what_the_merged_model_gives(
    tiny_model: Make, texts: DatasetRef, write_spec: Callable[..., Path]
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    model = tiny_model("bert")
    workdir = write_spec(model, texts, "lora")
    assert train_here(workdir) == 0
    folder = workdir / "artifacts"
    base = AutoModelForSequenceClassification.from_pretrained(model.reference, num_labels=3)
    adapted = PeftModel.from_pretrained(base, folder / "adapter").eval()
    merged = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokens = {
        "input_ids": torch.tensor([[2, 7, 9, 20, 3]]),
        "attention_mask": torch.ones(1, 5, dtype=torch.long),
    }
    with torch.inference_mode():
        # A new pooler is random in a base model without one of its own; this one has it.
        assert torch.allclose(adapted(**tokens).logits, merged(**tokens).logits, atol=1e-5)


def test_the_model_card_says_what_the_model_is_and_how_it_does(
    tiny_model: Make, texts: DatasetRef, write_spec: Callable[..., Path]
) -> None:
    data = DatasetRef("<script>alert(1)</script>", texts.folder, "f" * 64, texts.splits)
    workdir = write_spec(tiny_model("bert"), data, "head")
    assert train_here(workdir) == 0
    card = (workdir / "artifacts" / "README.md").read_text()
    accuracy = events_of(workdir, "done")[0]["metrics"]["accuracy"]
    for part in (
        "tiny bert",
        "f" * 64,
        "apache-2.0",
        f"| accuracy | {accuracy:.4f} |",
        "pipeline(",
        "max_length",
    ):
        assert part in card
    assert "<script>" not in card


def test_a_run_reports_its_baseline_matrix_and_progress(
    tiny_model: Make, texts: DatasetRef, write_spec: Callable[..., Path]
) -> None:
    workdir = write_spec(tiny_model("bert"), texts, "full")
    assert train_here(workdir) == 0
    assert events_of(workdir, "baseline")[0]["metrics"]["accuracy"] == pytest.approx(1 / 3)
    results = events_of(workdir, "results")[-1]["values"]
    assert results["split"] == "test" and results["labels"] == ["weather", "food", "music"]
    assert np.array(results["confusion_matrix"]).sum(axis=1).tolist() == [10, 10, 10]
    last = events_of(workdir, "progress")[-1]
    assert last["step"] == last["total_steps"] == 24
    assert [event["phase"] for event in events_of(workdir, "phase")][-1] == "packaging"
    series = {name for event in events_of(workdir, "metric") for name in event["values"]}
    assert series == {
        *("loss", "learning_rate", "grad_norm"),
        *("validation_loss", "validation_accuracy", "validation_f1_macro"),
    }


def test_training_learns_and_the_best_weights_are_kept(
    tiny_model: Make, pictures: DatasetRef, write_spec: Callable[..., Path]
) -> None:
    settings = {**QUICK, "num_train_epochs": 30, "learning_rate": 1e-2, "early_stopping_patience": 3}
    workdir = write_spec(tiny_model("resnet"), pictures, "full", settings=settings)
    assert train_here(workdir) == 0
    metrics = events_of(workdir, "done")[0]["metrics"]
    evaluated = [
        event["values"]["validation_accuracy"]
        for event in events_of(workdir, "metric")
        if "validation_accuracy" in event["values"]
    ]
    assert metrics["validation_accuracy"] == pytest.approx(max(evaluated))
    assert metrics["accuracy"] > 0.9
    assert len(evaluated) < 30  # it stopped early


def test_the_head_learns_classes_from_features(
    tiny_model: Make, texts: DatasetRef, write_spec: Callable[..., Path]
) -> None:
    workdir = write_spec(tiny_model("bert"), texts, "head")
    assert train_here(workdir) == 0
    assert events_of(workdir, "done")[0]["metrics"]["accuracy"] > 0.7  # of random features; a guess gets 1/3


@pytest.mark.parametrize("family", ["bert", "roberta", "vit"])
def test_what_the_mean_layer_does_in_vain_can_be_left_out(family: str, tiny_model: Make) -> None:
    import torch
    from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification

    from runs.training.pooling import use_mean_pooling, without_idle_work

    if family == "vit":  # has no such layer: nothing to leave out
        model = AutoModelForImageClassification.from_pretrained(tiny_model(family).reference)
        inputs = {"pixel_values": torch.rand(2, 3, 32, 32)}
    else:
        model = AutoModelForSequenceClassification.from_pretrained(tiny_model(family).reference)
        use_mean_pooling(model)
        mask = torch.ones(2, 6, dtype=torch.long)
        mask[1, 4:] = 0
        inputs = {
            "input_ids": torch.tensor([[2, 7, 9, 20, 8, 3], [2, 7, 9, 3, 0, 0]]),
            "attention_mask": mask,
        }
    before = {name: value.clone() for name, value in model.eval().state_dict().items()}
    with torch.inference_mode():
        whole = model(**inputs).logits
        with without_idle_work(model):
            short = model(**inputs).logits
            assert (len(model.state_dict()) < len(before)) == (family != "vit")
    assert torch.equal(whole, short)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
