"""Texts as inputs of a classifier: tokenised once, padded to the longest of each batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
)

from runs.training.context import Context
from runs.training.data import check_texts
from runs.training.events import TrainingFailure
from runs.training.inputs import Examples
from runs.training.pooling import use_mean_pooling


class TextInputs:
    """How texts reach a transformers model for sequence classification."""

    def __init__(self, context: Context, folder: Path) -> None:
        self.context, self.folder = context, folder
        try:
            self.config = AutoConfig.from_pretrained(folder)
            self.processor: Any = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError, KeyError) as error:
            raise TrainingFailure(
                "model_unavailable",
                f"{context.spec.model.name} cannot be loaded: {error}",
                "Choose another model, or see whether its files are whole.",
            ) from error
        if self.processor.pad_token is None:
            self.processor.pad_token = self.processor.eos_token
        self.processor.padding_side = "right"
        self.collate = DataCollatorWithPadding(self.processor, pad_to_multiple_of=8)
        self.max_length = self._longest(int(context.settings["max_length"]))

    def model(self, labels: list[str]) -> Any:
        names = {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {label: number for number, label in enumerate(labels)},
            "problem_type": "single_label_classification",
            "pad_token_id": self.processor.pad_token_id,
        }
        return AutoModelForSequenceClassification.from_pretrained(
            self.folder, dtype="float32", use_safetensors=True, ignore_mismatched_sizes=True, **names
        )

    def improve_features(self, model: Any) -> str:
        return use_mean_pooling(model)

    def examples(self, split: str, rows: Dataset, labels: list[int]) -> Examples:
        column = self.context.spec.columns["text"]
        check_texts(rows, split, column)
        tokenised = rows.select_columns([column]).map(
            lambda batch: self.processor(batch[column], truncation=True, max_length=self.max_length),
            batched=True,
            remove_columns=[column],
            cache_file_name=str(self.context.workdir / f"tokens-{split}.arrow"),
            load_from_cache_file=False,
        )
        return TextExamples(tokenised, labels)

    def _longest(self, asked: int) -> int:
        """The setting, but no more than the model can read."""
        limits = [asked]
        if 0 < self.processor.model_max_length < 10**9:
            limits.append(int(self.processor.model_max_length))
        positions = getattr(self.config, "max_position_embeddings", None)
        if isinstance(positions, int) and positions > 0:
            # RoBERTa's positions begin after the padding's number.
            offset = self.config.pad_token_id + 1 if "roberta" in self.config.model_type else 0
            limits.append(positions - offset)
        if min(limits) < asked:
            self.context.message(
                f"The model reads no more than {min(limits):,} tokens; longer texts are cut there."
            )
        return min(limits)


class TextExamples:
    """Token ids of one split with their labels."""

    def __init__(self, tokenised: Dataset, labels: list[int]) -> None:
        self.rows, self.labels = tokenised, labels
        self.lengths: list[int] = [len(ids) for ids in tokenised["input_ids"]]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {**self.rows[int(row)], "labels": self.labels[int(row)]}
