"""Weights as transformers keeps them: a folder with config.json and safetensors. Used where it lies."""

from __future__ import annotations

from pathlib import Path

from runs.training.base_models import file_of
from runs.training.events import TrainingFailure
from runs.training.spec import ModelRef


def in_place(ref: ModelRef, cache_dir: Path) -> Path:
    """The folder itself; raises TrainingFailure unless it has a configuration and safetensors."""
    folder = file_of(ref, cache_dir)
    if not (folder / "config.json").is_file():
        raise TrainingFailure(
            "model_unavailable",
            f"{folder} is no transformers model: it has no config.json.",
            "Point to a folder that `save_pretrained` has written.",
        )
    if not any(folder.glob("*.safetensors")):
        raise TrainingFailure(
            "model_unavailable",
            f"The model {ref.name!r} has no safetensors weights. Other formats can run code when loaded, and "
            "are refused.",
            "Choose a model or revision with safetensors, or convert it with `save_pretrained`.",
        )
    return folder
