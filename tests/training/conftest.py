"""Small models, data sets and work folders for the training program."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
ROOT = Path(__file__).resolve().parents[2]

from runs.training.spec import DatasetRef, ModelRef, RunSpec

WORDS = {
    "weather": ["rain", "sun", "cloud", "storm", "wind", "snow"],
    "food": ["bread", "soup", "cheese", "rice", "apple", "salt"],
    "music": ["song", "drum", "piano", "choir", "flute", "note"],
}
FILLER = ["the", "a", "and", "of", "in", "very", "old", "new", "big", "small"]


def sentences(count: int, seed: int) -> tuple[list[str], list[int]]:
    """Sentences of 4 to 24 words, each with a few words of its class."""
    chance = random.Random(seed)
    texts, labels = [], []
    for number in range(count):
        label = number % len(WORDS)
        own = chance.choices(list(WORDS.values())[label], k=chance.randint(2, 4))
        words = own + chance.choices(FILLER, k=chance.randint(2, 20))
        chance.shuffle(words)
        texts.append(" ".join(words))
        labels.append(label)
    return texts, labels


def write_split(folder: Path, split: str, columns: dict[str, list[Any]], features: Any) -> int:
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    folder.mkdir(parents=True, exist_ok=True)
    rows = Dataset.from_dict(columns, features=features)
    rows.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))
    return len(rows)


def dataset_ref(folder: Path, splits: dict[str, int], name: str = "Test data") -> DatasetRef:
    return DatasetRef(name, str(folder), "0" * 64, splits)


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> DatasetRef:
    from datasets import ClassLabel, Features, Value

    folder = tmp_path_factory.mktemp("texts")
    features = Features({"text": Value("string"), "label": ClassLabel(names=list(WORDS))})
    sizes = {}
    for seed, (split, count) in enumerate({"train": 90, "validation": 30, "test": 30}.items()):
        found, labels = sentences(count, seed)
        sizes[split] = write_split(folder, split, {"text": found, "label": labels}, features)
    return dataset_ref(folder, sizes)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> DatasetRef:
    """Pictures that are mostly red, or mostly blue."""
    import numpy as np
    from datasets import ClassLabel, Features, Image
    from PIL import Image as Pictures

    folder = tmp_path_factory.mktemp("pictures")
    features = Features({"image": Image(), "label": ClassLabel(names=["red", "blue"])})
    sizes = {}
    for seed, (split, count) in enumerate({"train": 24, "validation": 8, "test": 8}.items()):
        chance = np.random.default_rng(seed)
        images = []
        for number in range(count):
            pixels = chance.integers(0, 90, (20, 24, 3)).astype("uint8")
            pixels[..., 0 if number % 2 == 0 else 2] += 120
            buffer = io.BytesIO()
            Pictures.fromarray(pixels).save(buffer, "PNG")
            images.append({"bytes": buffer.getvalue(), "path": None})
        labels = [number % 2 for number in range(count)]
        sizes[split] = write_split(folder, split, {"image": images, "label": labels}, features)
    return dataset_ref(folder, sizes)


@pytest.fixture(scope="session")
def tiny_tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import BertTokenizerFast

    folder = tmp_path_factory.mktemp("tokenizer")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *FILLER, *(w for ws in WORDS.values() for w in ws)]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_model(
    tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer_folder: Path
) -> Callable[[str], ModelRef]:
    """A random model of a family, with the small tokenizer beside it."""
    made: dict[str, ModelRef] = {}

    def make(family: str) -> ModelRef:
        if family not in made:
            made[family] = _make(family, tmp_path_factory.mktemp(family), tiny_tokenizer_folder)
        return made[family]

    return make


def _make(family: str, folder: Path, tokenizer_folder: Path) -> ModelRef:
    import shutil

    import torch
    import transformers as library

    torch.manual_seed(0)
    small = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    kind = "text-encoder"
    match family:
        case "bert":
            model = library.BertModel(library.BertConfig(**small, intermediate_size=32))
        case "roberta":
            config = library.RobertaConfig(**small, intermediate_size=32, pad_token_id=0)
            model = library.RobertaModel(config)
        case "modernbert":
            config = library.ModernBertConfig(**small, intermediate_size=32, pad_token_id=0)
            model = library.ModernBertModel(config)
        case "llama":
            kind = "text-decoder"
            config = library.LlamaConfig(**small, intermediate_size=32, pad_token_id=0)
            model = library.LlamaForCausalLM(config)
        case "vit":
            config = library.ViTConfig(
                image_size=32, patch_size=8, hidden_size=16, num_hidden_layers=3, num_attention_heads=2
            )
            model = library.ViTModel(config)
            library.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
            kind = "image-encoder"
        case "resnet":
            config = library.ResNetConfig(
                embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
            )
            model = library.ResNetModel(config)
            library.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
            kind = "image-encoder"
    model.save_pretrained(folder)
    if kind.startswith("text"):
        for path in tokenizer_folder.iterdir():
            shutil.copy(path, folder / path.name)
    return ModelRef(f"tiny {family}", kind, "folder", str(folder), licence="Apache-2.0")


QUICK = {"num_train_epochs": 2, "per_device_train_batch_size": 8, "precision": "fp32"}
EVALUATING = {
    **QUICK,
    "num_train_epochs": 3,  # of 12 steps
    "logging_steps": 5,
    "eval_steps": 6,
    "save_steps": 100,
    "learning_rate": 1e-3,
    "per_device_eval_batch_size": 8,  # four batches an evaluation
    "early_stopping_patience": 0,
}


@pytest.fixture
def write_spec(tmp_path: Path) -> Callable[..., Path]:
    """Make a work folder with a spec; returns it."""

    def write(model: ModelRef, data: DatasetRef, method: str, name: str = "work", **changes: Any) -> Path:
        workdir = tmp_path / name
        workdir.mkdir(parents=True)
        values: dict[str, Any] = {
            "run_id": "7",
            "attempt": 1,
            "task": "text-classification" if model.kind.startswith("text") else "image-classification",
            "columns": {"text": "text", "label": "label"}
            if model.kind.startswith("text")
            else {"image": "image", "label": "label"},
            "settings": QUICK if method != "head" else {},
            "cache_dir": str(tmp_path / "cache"),
        }
        RunSpec(method=method, model=model, dataset=data, **{**values, **changes}).write(workdir)
        return workdir

    return write


def events_of(workdir: Path, kind: str | None = None) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (workdir / "events.jsonl").read_text().splitlines()]
    return [event for event in found if kind is None or event["type"] == kind]


def train_here(workdir: Path) -> int:
    """Do a run in this process: no second import of torch."""
    import threading

    from runs.training.__main__ import train

    return train(workdir, threading.Event())


def start(
    workdir: Path, *arguments: str, more: dict[str, str] | None = None, **kwargs: Any
) -> subprocess.Popen[bytes]:
    """The training program as a process of its own, with `more` in its environment."""
    environment = {"OMP_NUM_THREADS": "1", **os.environ, **(more or {})}
    return subprocess.Popen(
        [sys.executable, "-m", "runs.training", *(arguments or (str(workdir),))],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **kwargs,
    )
