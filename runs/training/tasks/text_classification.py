"""Text classification: which class a text belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from runs.training import settings
from runs.training.tasks.common import FULL, HEAD, LAST_LAYERS, LORA, Classification, Role

if TYPE_CHECKING:
    from runs.training.context import Context

GRADIENT_METHODS = ("full", "last_layers", "lora")


class TextClassification(Classification):
    """Fine-tunes a text encoder or language model on labelled texts."""

    slug = "text-classification"
    title = "Text classification"
    summary = "Sorts texts into classes: topics, languages, moods, spam or not."
    icon = "tags"
    order = 10
    model_kinds = ("text-encoder", "text-decoder")
    roles = (
        Role(
            "text",
            "Text",
            "What is to be sorted into classes.",
            ("text",),
            ("text", "sentence", "review", "content", "comment", "message", "title"),
        ),
        Role(
            "label",
            "Label",
            "The class that each text belongs to.",
            ("label", "boolean", "integer"),
            ("label", "labels", "class", "category", "sentiment", "language", "topic", "target"),
        ),
    )
    column_sets = (("text", "label"),)
    methods = (HEAD, LORA, LAST_LAYERS, FULL)
    settings = (
        *(settings.for_methods(item, *GRADIENT_METHODS) for item in settings.GRADIENT),
        settings.MAX_LENGTH,
        settings.LAST_LAYERS,
        *settings.LORA,
        *settings.COMMON,
    )
    usage = """
from transformers import pipeline

classify = pipeline("text-classification", model="path/to/this/folder")
print(classify("A text to sort into a class."))
"""

    def train(self, context: Context) -> None:
        from runs.training.classification import train_classifier
        from runs.training.texts import TextInputs

        def inputs(context: Context, folder: Path) -> Any:
            return TextInputs(context, folder)

        train_classifier(self, context, inputs)


TASK = TextClassification()
