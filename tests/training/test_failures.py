"""A run that cannot go on says why, where, and what to do."""

from __future__ import annotations

import errno
import io
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
    if message.startswith("Row "):  # where it is, for a page that leads there
        row = next(n for n, cell in enumerate(next(iter(rows.values())), 1) if cell is None or cell == "  ")
        assert found["details"] == {"split": "train", "row": row, "column": next(iter(rows))}


def test_a_row_that_was_held_out_is_named_by_its_place_in_the_dataset(
    tiny_model: Make, tmp_path: Path, write_spec: Callable[..., Path]
) -> None:
    from datasets import ClassLabel, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["yes", "no"])})
    texts = [f"rain {number}" if number != 17 else None for number in range(40)]
    columns = {"text": texts, "label": [number % 2 for number in range(40)]}
    write_split(tmp_path / "data", "train", columns, features)
    found = failure_of(write_spec(tiny_model("bert"), dataset_ref(tmp_path / "data", {"train": 40}), "head"))
    assert "Row 18 of the train rows" in found["message"]
    assert found["details"] == {"split": "train", "row": 18, "column": "text"}


def test_a_picture_that_cannot_be_decoded_is_named(
    tiny_model: Make, tmp_path: Path, pictures: DatasetRef, write_spec: Callable[..., Path]
) -> None:
    from datasets import ClassLabel, Features, Image

    folder = tmp_path / "pictures"
    shutil.copytree(pictures.folder, folder)
    features = Features({"image": Image(), "label": ClassLabel(names=["red", "blue"])})
    whole = picture()
    images = [{"bytes": data, "path": None} for data in (whole, whole[: len(whole) // 2], whole)]
    write_split(folder, "train", {"image": images, "label": [0, 1, 0]}, features)
    found = failure_of(write_spec(tiny_model("vit"), dataset_ref(folder, {"train": 3}), "head"))
    assert found["code"] == "bad_data" and "Row 2 of the train rows, column 'image'" in found["message"]
    assert found["details"] == {"split": "train", "row": 2, "column": "image"}


def picture() -> bytes:
    import numpy as np
    from PIL import Image as Pictures

    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype("uint8")
    buffer = io.BytesIO()
    Pictures.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


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
    from runs.training import settings

    checked = settings.check_settings
    # Beyond what the form allows, so that a model this small diverges within a few steps.
    monkeypatch.setattr(settings, "check_settings", lambda *given: {**checked(*given), "learning_rate": 1e25})
    found = failure_of(write_spec(tiny_model("bert"), texts, "full"))
    assert found["code"] == "diverged" and "is not a finite number" in found["message"]
    assert "Lower the learning rate (it is 1e+25; try 1e+24)" in found["hint"]


def test_memory_that_the_system_does_not_give_ends_as_out_of_memory(
    texts: DatasetRef, tmp_path: Path, tiny_model: Make, write_spec: Callable[..., Path]
) -> None:
    """A real allocation that is refused, in a process of its own whose address space is limited."""
    import resource

    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path / "wide"
    shutil.copytree(tiny_model("bert").reference, folder)
    (folder / "model.safetensors").unlink()
    torch.manual_seed(0)
    small = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(**small, intermediate_size=4_000_000)).save_pretrained(folder)
    settings = {**QUICK, "per_device_train_batch_size": 64, "max_length": 64}
    model = ModelRef("wide", "text-encoder", "folder", str(folder))
    workdir = write_spec(model, texts, "full", settings=settings)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (12 << 30, 12 << 30))

    process = start(workdir, preexec_fn=limit)
    output = process.communicate(timeout=300)[0].decode()
    assert process.returncode == 1, output
    last = events_of(workdir)[-1]
    assert last["code"] == "out_of_memory", output
    assert "per_device_train_batch_size 32 with gradient_accumulation_steps 2" in last["hint"]


def test_a_gpu_without_room_ends_as_out_of_memory(
    tiny_model: Make, texts: DatasetRef, write_spec: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import BertForSequenceClassification

    def full(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB."
        )  # there is no GPU here

    monkeypatch.setattr(BertForSequenceClassification, "forward", full)
    found = failure_of(write_spec(tiny_model("bert"), texts, "full"))
    assert (found["code"], found["message"]) == ("out_of_memory", "The GPU ran out of memory.")


def test_a_disk_that_is_full_ends_as_such(
    tiny_model: Make,
    texts: DatasetRef,
    write_spec: Callable[..., Path],
    small_disk: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = {**QUICK, "num_train_epochs": 50}
    workdir = write_spec(tiny_model("bert"), texts, "full", name=f"{small_disk.name}/work", settings=settings)
    assert train_here(workdir) == 1
    # Where there is no room for the last event either, the log of the worker's host says it.
    assert "The disk of the worker is full." in capsys.readouterr().out
    told = [event for event in events_of(workdir) if event["type"] == "failed"]
    assert not told or told[0]["code"] == "disk_full"


@pytest.mark.parametrize(
    "change", [*("absent", "pickle", "damaged", "cut short"), *("no config", "unknown format", "package")]
)
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
        case "damaged":
            (folder / "model.safetensors").write_bytes(b"\x10" + bytes(7) + b"{not json at all")
        case "cut short":
            whole = (folder / "model.safetensors").read_bytes()
            (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
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
