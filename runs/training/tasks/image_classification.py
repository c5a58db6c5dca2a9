"""Image classification: which class a picture belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from runs.training import settings
from runs.training.tasks.common import FULL, HEAD, LAST_LAYERS, Classification, Role, Setting

if TYPE_CHECKING:
    from runs.training.context import Context

GRADIENT_METHODS = ("full", "last_layers")

RANDOM_CROP = Setting(
    "random_crop",
    "Vary the framing",
    "Shows each picture in training a little nearer or shifted, so that the model does not learn places by heart.",
    "bool",
    True,
    methods=GRADIENT_METHODS,
)
HORIZONTAL_FLIP = Setting(
    "horizontal_flip",
    "Mirror pictures",
    "Shows half of the pictures mirrored in training. Good for photographs; wrong for letters, digits and all "
    "else that has a left and a right.",
    "bool",
    False,
    methods=GRADIENT_METHODS,
)


class ImageClassification(Classification):
    """Fine-tunes an image model, of timm or transformers, on labelled pictures."""

    slug = "image-classification"
    title = "Image classification"
    summary = "Sorts pictures into classes: products, species, defects, digits."
    icon = "photo"
    order = 20
    model_kinds = ("image-encoder",)
    roles = (
        Role(
            "image",
            "Picture",
            "What is to be sorted into classes.",
            ("image",),
            ("image", "img", "picture", "photo", "file"),
        ),
        Role(
            "label",
            "Label",
            "The class that each picture belongs to.",
            ("label", "boolean", "integer"),
            ("label", "labels", "class", "category", "digit", "species", "target"),
        ),
    )
    column_sets = (("image", "label"),)
    methods = (HEAD, LAST_LAYERS, FULL)
    settings = (
        *(settings.for_methods(item, *GRADIENT_METHODS) for item in settings.GRADIENT),
        RANDOM_CROP,
        HORIZONTAL_FLIP,
        settings.LAST_LAYERS,
        *settings.COMMON,
    )
    usage = """
from transformers import pipeline

classify = pipeline("image-classification", model="path/to/this/folder")
print(classify("picture.png"))
"""

    def train(self, context: Context) -> None:
        from runs.training.classification import train_classifier
        from runs.training.images import ImageInputs

        def inputs(context: Context, folder: Path) -> Any:
            return ImageInputs(context, folder)

        train_classifier(self, context, inputs)


TASK = ImageClassification()
