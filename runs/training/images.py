"""Pictures as inputs of a classifier: decoded and varied row by row, prepared by the model's own processor."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Image
from PIL import Image as Pictures
from PIL import ImageOps
from transformers import AutoConfig, AutoImageProcessor, AutoModelForImageClassification, BatchFeature

from runs.training.context import Context
from runs.training.data import bad_row
from runs.training.events import TrainingFailure
from runs.training.inputs import Examples

SMALLEST_CROP = 0.7  # of each side
MOST_PIXELS = 64_000_000  # a larger picture is refused before it fills the memory


class ImageInputs:
    """How pictures reach a model for image classification, of timm (TimmWrapper) or transformers."""

    def __init__(self, context: Context, folder: Path) -> None:
        self.context, self.folder = context, folder
        try:
            self.processor: Any = AutoImageProcessor.from_pretrained(folder)
        except (OSError, ValueError, KeyError) as error:
            raise TrainingFailure(
                "model_unavailable",
                f"{context.spec.model.name} cannot be loaded: {error}",
                "Choose another model, or see whether its files are whole.",
            ) from error

    def collate(self, rows: list[dict[str, Any]]) -> BatchFeature:
        return BatchFeature(
            {
                "pixel_values": torch.stack([row["pixel_values"] for row in rows]),
                "labels": torch.tensor([row["labels"] for row in rows]),
            }
        )

    def model(self, labels: list[str]) -> Any:
        names: dict[str, Any] = {
            "id2label": dict(enumerate(labels)),
            "label2id": {label: number for number, label in enumerate(labels)},
        }
        config = AutoConfig.from_pretrained(self.folder, num_labels=len(labels))
        config.id2label, config.label2id = names["id2label"], names["label2id"]
        if hasattr(config, "problem_type"):
            config.problem_type = "single_label_classification"
        return AutoModelForImageClassification.from_pretrained(
            self.folder, config=config, dtype="float32", use_safetensors=True, ignore_mismatched_sizes=True
        )

    def improve_features(self, model: Any) -> str:
        return "what the architecture's own pooling gives"

    def examples(self, split: str, rows: Dataset, labels: list[int]) -> Examples:
        column = self.context.spec.columns["image"]
        chosen = self.context.settings
        return ImageExamples(
            rows.select_columns([column]).cast_column(column, Image(decode=True)),
            labels,
            split,
            column,
            self.processor,
            seed=int(chosen["seed"]),
            crop=split == "train" and bool(chosen.get("random_crop")),
            flip=split == "train" and bool(chosen.get("horizontal_flip")),
        )


class ImageExamples:
    """Pictures of one split with their labels."""

    lengths = None

    def __init__(
        self,
        rows: Dataset,
        labels: list[int],
        split: str,
        column: str,
        processor: Any,
        *,
        seed: int,
        crop: bool,
        flip: bool,
    ) -> None:
        self.rows, self.labels, self.split, self.column = rows, labels, split, column
        self.processor, self.seed, self.crop, self.flip = processor, seed, crop, flip
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, Any]:
        row = int(row)
        picture = self._decoded(row)
        if self.crop or self.flip:
            picture = self._varied(picture, row)
        pixels = self.processor(picture, return_tensors="pt")["pixel_values"][0]
        return {"pixel_values": pixels, "labels": self.labels[row]}

    def _decoded(self, row: int) -> Pictures.Image:
        try:
            picture = self.rows[row][self.column]
            if picture is None:
                raise bad_row(self.split, row, self.column, "the picture is missing")
            if picture.width * picture.height > MOST_PIXELS:
                what = f"the picture has {picture.width:,} × {picture.height:,} pixels, which is too many"
                raise bad_row(self.split, row, self.column, what)
            upright: Pictures.Image = ImageOps.exif_transpose(picture)
            return upright.convert("RGB")
        except (OSError, ValueError, SyntaxError, Pictures.DecompressionBombError) as error:
            raise bad_row(self.split, row, self.column, f"the picture cannot be decoded ({error})") from error

    def _varied(self, picture: Pictures.Image, row: int) -> Pictures.Image:
        """By seed, epoch and row alone, so that a resumed run sees the same pictures."""
        chance = random.Random(f"{self.seed}/{self.epoch}/{row}")  # noqa: S311 – no secret
        if self.crop:
            width = max(1, round(picture.width * chance.uniform(SMALLEST_CROP, 1)))
            height = max(1, round(picture.height * chance.uniform(SMALLEST_CROP, 1)))
            left, top = chance.randint(0, picture.width - width), chance.randint(0, picture.height - height)
            picture = picture.crop((left, top, left + width, top + height))
        if self.flip and chance.random() < 0.5:
            picture = ImageOps.mirror(picture)
        return picture
