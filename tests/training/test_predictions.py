"""What the model says of the held-out rows is kept beside them, and is what the run reports."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from runs.training import predictions
from runs.training.events import PREDICTIONS
from runs.training.spec import DatasetRef, ModelRef

from .conftest import QUICK, dataset_ref, events_of, train_here, write_split
from .talking import language_model, roles

Make = Callable[[str], ModelRef]


def table_of(workdir: Path) -> Any:
    """The file as the `datasets` library reads it; it is announced, and outside no other folder."""
    from datasets import Dataset

    announced = [file["name"] for file in events_of(workdir, "artifacts")[0]["files"]]
    assert PREDICTIONS in announced
    return Dataset.from_parquet(str(workdir / "artifacts" / PREDICTIONS))


@pytest.mark.parametrize(("family", "method"), [("bert", "full"), ("bert", "head"), ("resnet", "head")])
def test_each_test_row_has_its_prediction_and_their_mean_is_the_accuracy(
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
    assert train_here(workdir) == 0
    found = table_of(workdir)
    role = "text" if model.kind.startswith("text") else "image"
    assert found.column_names == [role, "label", "prediction", "score", "right"] or found.column_names == [
        "label", role, "prediction", "score", "right",
    ]  # fmt: skip
    assert len(found) == data.splits["test"]
    metrics = events_of(workdir)[-1]["metrics"]
    assert np.mean(found["right"]) == pytest.approx(metrics["accuracy"])
    assert list(np.equal(found["prediction"], found["label"])) == list(found["right"])
    assert found.features["prediction"].names == found.features["label"].names
    classes = len(found.features["label"].names)
    assert all(1 / classes <= score <= 1 for score in found["score"])
    original = pq.read_table(f"{data.folder}/test-00000-of-00001.parquet")
    assert (
        pq.read_table(workdir / "artifacts" / PREDICTIONS).column(role).to_pylist()
        == original.column(role).to_pylist()
    )


def test_without_test_rows_they_are_of_the_validation_rows_and_labels_may_be_numbers(
    tiny_model: Make, tmp_path: Path, write_spec: Callable[..., Path]
) -> None:
    from datasets import Features, Value

    features = Features({"prediction": Value("string"), "stars": Value("int64")})
    sizes = {}
    for split, count in {"train": 40, "validation": 12}.items():
        rows = {"prediction": [f"word {n}" for n in range(count)], "stars": [n % 2 + 1 for n in range(count)]}
        sizes[split] = write_split(tmp_path / "data", split, rows, features)
    columns = {"text": "prediction", "label": "stars"}
    workdir = write_spec(tiny_model("bert"), dataset_ref(tmp_path / "data", sizes), "head", columns=columns)
    assert train_here(workdir) == 0
    found = table_of(workdir)
    assert len(found) == 12 and set(found.column_names) == {
        "prediction", "stars", "model_prediction", "score", "right",
    }  # fmt: skip
    assert found.features["model_prediction"].names == ["1", "2"]
    assert np.mean(found["right"]) == pytest.approx(events_of(workdir)[-1]["metrics"]["validation_accuracy"])


def test_of_many_or_large_rows_the_first_are_kept(
    tiny_model: Make, texts: DatasetRef, write_spec: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "AT_ONCE", 4)
    for name, most, kept in (("MOST_ROWS", 10, 10), ("MOST_BYTES", 1, 4)):
        with monkeypatch.context() as limited:
            limited.setattr(predictions, name, most)
            workdir = write_spec(tiny_model("bert"), texts, "head", name=name)
            assert train_here(workdir) == 0
        assert len(table_of(workdir)) == kept
        told = [event["text"] for event in events_of(workdir, "message")]
        assert any(text.startswith(f"The first {kept} test rows are kept") for text in told)


def test_of_a_language_model_each_row_has_the_loss_of_its_answer(
    tmp_path: Path, write_spec: Callable[..., Path]
) -> None:
    import torch
    from datasets import Features, Value
    from transformers import AutoModelForCausalLM, AutoTokenizer

    features = Features({"prompt": Value("string"), "completion": Value("string")})
    sizes = {}
    for split, count in {"train": 12, "validation": 4, "test": 5}.items():
        # The third answer begins beyond what the model reads, and is left out.
        prompts = ["sky " * (200 if split == "test" and n == 2 else n + 1) for n in range(count)]
        rows = {"prompt": prompts, "completion": ["blue " * n + "sun" for n in range(count)]}
        sizes[split] = write_split(tmp_path / "data", split, rows, features)
    workdir = write_spec(
        language_model(tmp_path / "talker"),
        dataset_ref(tmp_path / "data", sizes),
        "full",
        task="text-generation",
        settings={**QUICK, "num_train_epochs": 1, "max_length": 96, "sample_max_new_tokens": 0},
        columns=roles("prompt"),
    )
    assert train_here(workdir) == 0, events_of(workdir)[-1]
    found = table_of(workdir)
    assert found.column_names[-1] == "loss"
    assert [text.count("blue") for text in found["completion"]] == [0, 1, 3, 4]

    folder = workdir / "artifacts"
    words, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()
    for row in found:
        turns = [{"role": "user", "content": row["prompt"]}]
        prompt = words.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        start = len(words(prompt, add_special_tokens=False).input_ids)
        whole = prompt + row["completion"] + "<|im_end|>"
        ids = words(whole, add_special_tokens=False, return_tensors="pt").input_ids
        with torch.inference_mode():
            logits = model(ids).logits[0, start - 1 : -1]
        loss = float(torch.nn.functional.cross_entropy(logits, ids[0, start:]))
        assert row["loss"] == pytest.approx(loss, rel=1e-3, abs=1e-5)
