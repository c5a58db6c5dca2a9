"""A run that cannot go on says why, where, and what to do."""

from __future__ import annotations

import errno
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runs.training.failures import explain
from runs.training.spec import DatasetRef, ModelRef

from .conftest import QUICK, dataset_ref, events_of, start, train_here, write_split

Make = Callable[[str], ModelRef]


def failure_of(workdir: Path) -> dict[str, Any]:
    assert train_here(workdir) == 1
    last = events_of(workdir)[-1]
    assert last["type"] == "failed"
    return last


def texts_with(folder: Path, **train: Any) -> DatasetRef:
    from datasets import ClassLabel, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["yes", "no"])})
    good = {"text": ["rain", "soup", "song", "sun"], "label": [0, 1, 0, 1]}
    sizes = {
        split: write_split(folder, split, {**good, **(train if split == "train" else {})}, features)
        for split in ("train", "validation", "test")
    }
    return dataset_ref(folder, sizes)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            {"text": ["rain", None, "song", "sun"]},
            "Row 2 of the train rows, column 'text': the text is missing",
        ),
        (
            {"text": ["rain", "soup", "  ", "sun"]},
            "Row 3 of the train rows, column 'text': the text is empty",
        ),
        ({"label": [0, 1, 0, None]}, "Row 4 of the train rows, column 'label': the label is missing"),
        ({"label": [1, 1, 1, 1]}, "All training rows have the same label in column 'label'"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(
    rows: dict[str, Any], message: str, tiny_model: Make, tmp_path: Path, write_spec: Callable[..., Path]
) -> None:
    found = failure_of(write_spec(tiny_model("bert"), texts_with(tmp_path / "data", **rows), "head"))
    assert found["code"] == "bad_data" and message in found["message"] and found["hint"]


def test_a_picture_that_cannot_be_decoded_is_named(
    tiny_model: Make, tmp_path: Path, pictures: DatasetRef, write_spec: Callable[..., Path]
) -> None:
    from datasets import ClassLabel, Features, Image

    folder = tmp_path / "pictures"
    shutil.copytree(pictures.folder, folder)
    features = Features({"image": Image(), "label": ClassLabel(names=["red", "blue"])})
    broken = [{"bytes": b"no picture", "path": None}] * 2
    write_split(folder, "train", {"image": broken, "label": [0, 1]}, features)
    found = failure_of(write_spec(tiny_model("vit"), dataset_ref(folder, {"train": 2}), "head"))
    assert found["code"] == "bad_data" and "Row 1 of the train rows, column 'image'" in found["message"]


def test_a_missing_column_is_named_with_those_there_are(
    tiny_model: Make, texts: DatasetRef, write_spec: Callable[..., Path]
) -> None:
    columns = {"text": "body", "label": "label"}
    found = failure_of(write_spec(tiny_model("bert"), texts, "head", columns=columns))
    assert "no column 'body'" in found["message"] and "text, label" in found["message"]


def test_a_broken_parquet_file_is_bad_data(
    tiny_model: Make, texts: DatasetRef, tmp_path: Path, write_spec: Callable[..., Path]
) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "train-00000-of-00001.parquet").write_bytes(b"PAR1 and then nothing")
    found = failure_of(write_spec(tiny_model("bert"), dataset_ref(folder, {"train": 9}), "head"))
    assert found["code"] == "bad_data" and "train rows cannot be read" in found["message"]


def test_a_learning_rate_far_too_high_ends_as_diverged(
    tiny_model: Make, texts: DatasetRef, write_spec: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import BertForSequenceClassification

    forward = BertForSequenceClassification.forward

    def overflow(self: Any, *args: Any, **kwargs: Any) -> Any:
        found = forward(self, *args, **kwargs)
        found.loss = found.loss * torch.tensor(float("inf"))
        return found

    monkeypatch.setattr(BertForSequenceClassification, "forward", overflow)
    found = failure_of(write_spec(tiny_model("bert"), texts, "full"))
    assert found["code"] == "diverged" and "Lower the learning rate" in found["hint"]


@pytest.mark.parametrize("change", ["absent", "pickle", "no config", "unknown format", "package"])
def test_a_model_whose_files_cannot_be_used_is_unavailable(
    change: str, tiny_model: Make, texts: DatasetRef, tmp_path: Path, write_spec: Callable[..., Path]
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model("bert").reference, folder)
    model = ModelRef("broken", "text-encoder", "folder", str(folder))
    match change:
        case "absent":
            shutil.rmtree(folder)
        case "pickle":
            (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
        case "no config":
            (folder / "config.json").unlink()
        case "unknown format":
            model = ModelRef("odd", "text-encoder", "folder", str(folder), weights_format="../spec")
        case "package":
            model = ModelRef("gone", "text-encoder", "starter", "no_such_package")
    found = failure_of(write_spec(model, texts, "head"))
    assert found["code"] == "model_unavailable" and found["hint"]


def test_settings_that_cannot_be_used_are_named(
    tiny_model: Make, texts: DatasetRef, write_spec: Callable[..., Path]
) -> None:
    settings = {**QUICK, "learning_rate": -1, "colour": "red"}
    found = failure_of(write_spec(tiny_model("bert"), texts, "full", settings=settings))
    assert found["code"] == "bad_settings"
    assert "learning_rate" in found["message"] and "colour" in found["message"]


def test_running_out_of_memory_suggests_settings_that_would_fit() -> None:
    settings = {"per_device_train_batch_size": 32, "gradient_accumulation_steps": 1, "max_length": 512}
    found = explain(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), settings)
    assert found.code == "out_of_memory"
    assert "per_device_train_batch_size 16 with gradient_accumulation_steps 2" in found.hint
    assert "max_length 256" in found.hint
    assert explain(MemoryError(), {}).code == "out_of_memory"


def test_a_full_disk_is_recognised_through_the_libraries_wrapping() -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    wrapped = RuntimeError("cannot write")
    wrapped.__cause__ = full
    assert explain(full).code == explain(wrapped).code == "disk_full"


def test_anything_else_is_told_as_it_is() -> None:
    found = explain(ZeroDivisionError("division by zero"))
    assert found.code == "crashed" and "ZeroDivisionError: division by zero" in found.message


def test_a_spec_that_cannot_be_read_ends_with_status_1(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text("{")
    assert train_here(tmp_path) == 1
    assert events_of(tmp_path)[-1]["code"] == "bad_settings"


@pytest.mark.slow
def test_a_waiting_trainer_trains_what_it_is_told_and_logs_beside_it(
    tiny_model: Make, texts: DatasetRef, write_spec: Callable[..., Path]
) -> None:
    workdir = write_spec(tiny_model("bert"), texts, "head")
    process = start(workdir, "--wait", stdin=subprocess.PIPE, start_new_session=True)
    assert process.stdin is not None
    process.stdin.write(f"{workdir}\n".encode())
    process.stdin.flush()
    assert process.wait(200) == 0
    assert events_of(workdir)[-1]["type"] == "done"
    log = (workdir / "log.txt").read_text()
    assert "Packaging" in log and "\r" not in log
    process.stdin.close()


@pytest.mark.slow
def test_a_trainer_whose_worker_dies_ends_itself(
    tiny_model: Make, texts: DatasetRef, write_spec: Callable[..., Path]
) -> None:
    settings = {**QUICK, "num_train_epochs": 1000}
    workdir = write_spec(tiny_model("bert"), texts, "full", settings=settings)
    process = start(workdir, "--wait", stdin=subprocess.PIPE, start_new_session=True)
    assert process.stdin is not None
    process.stdin.write(f"{workdir}\n".encode())
    process.stdin.close()
    assert process.wait(200) == -signal.SIGKILL


def test_the_trainer_needs_no_django(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['django'] = None; import runs.training.__main__ as program;"
        "import runs.training.tasks as tasks; print([task.slug for task in tasks.all_tasks()])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "text-classification" in done.stdout and "image-classification" in done.stdout


def test_numbers_that_json_cannot_carry_become_null(tmp_path: Path) -> None:
    from runs.training.events import EventWriter

    EventWriter(tmp_path / "events.jsonl").write("metric", step=1, values={"loss": float("nan")})
    assert json.loads((tmp_path / "events.jsonl").read_text())["values"] == {"loss": None}
