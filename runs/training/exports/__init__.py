"""What people download: a model folder that plain libraries load, with its papers."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runs.training.context import Context
from runs.training.exports.model_card import model_card
from runs.training.manifest import to_disk
from runs.training.tasks.common import Task

ADAPTER = "adapter"


@dataclass(frozen=True)
class Packaged:
    """What goes into the folder beside the weights."""

    task: Task
    processor: Any  # tokenizer or image processor
    labels: Sequence[str] | None
    metrics: Mapping[str, float]  # plain names for the test rows, `validation_…` for the validation rows
    baseline: Mapping[str, float]  # the same names
    baseline_title: str
    usage: str  # Python that loads the model and uses it
    note: str = ""  # what else one should know
    beside: Sequence[Path] = ()  # files that go along as they are


def package(context: Context, model: Any, packaged: Packaged) -> None:
    """Write the model folder (an adapter also by itself, below it) and announce its files."""
    folder = context.artifacts_dir
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model = _without_adapter(model, context, folder)
    model.to("cpu")
    model.config._name_or_path = context.spec.model.reference
    model.save_pretrained(folder)
    packaged.processor.save_pretrained(folder)
    if packaged.labels is not None:
        _write_json(folder / "labels.json", list(packaged.labels))
    _write_json(
        folder / "metrics.json",
        {
            "metrics": dict(packaged.metrics),
            "baseline": {"title": packaged.baseline_title, **packaged.baseline},
        },
    )
    for path in packaged.beside:
        path.replace(folder / path.name)
    (folder / "README.md").write_text(model_card(context, packaged), encoding="utf-8")
    to_disk(folder)
    files = [
        {"name": path.relative_to(folder).as_posix(), "size": path.stat().st_size, "sha256": sha256_of(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    context.events.write("artifacts", folder=folder.relative_to(context.workdir).as_posix(), files=files)


def _without_adapter(model: Any, context: Context, folder: Path) -> Any:
    """Save a LoRA adapter by itself and merge it into the model; other models come back as they are."""
    if not hasattr(model, "merge_and_unload"):
        return model
    for config in model.peft_config.values():
        config.base_model_name_or_path = context.spec.model.reference
    model.save_pretrained(folder / ADAPTER)
    (folder / ADAPTER / "README.md").write_text(
        f"The LoRA adapter by itself, for {context.spec.model.name}. "
        "The folder above holds the same model with the adapter merged in.\n"
    )
    return model.merge_and_unload()


def sha256_of(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
