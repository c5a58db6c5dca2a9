"""What classifying texts, images and other things shares, from rows to the packaged model.

A task brings `Inputs`: how a row becomes what the model takes, and how the model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import set_seed

from runs.training import methods, predictions, scores
from runs.training.base_models import local_folder
from runs.training.context import Context
from runs.training.data import class_names, class_numbers, load_splits
from runs.training.devices import autocast, device
from runs.training.events import TrainingFailure
from runs.training.exports import Packaged, package
from runs.training.fitting import PlainTrainer, arguments, fit
from runs.training.head import fit_head
from runs.training.inputs import Examples, batches
from runs.training.pieces import FINISHED, Piece, Pieces, Stage, at_once
from runs.training.tasks.common import Task

BASELINE = "majority_class"


class Inputs(Protocol):
    """What a kind of input needs of its own."""

    folder: Path  # the base model
    processor: Any  # a tokenizer or image processor, saved with the model
    collate: Callable[[list[dict[str, Any]]], Any]

    def model(self, labels: list[str]) -> Any:
        """The pretrained model with a fresh head for these classes."""

    def improve_features(self, model: Any) -> str:
        """Prepare the model for a head on frozen features; says what these are."""

    def examples(self, split: str, rows: Any, labels: list[int]) -> Examples:
        """Raises TrainingFailure(bad_data) for a row that cannot be used."""


def train_classifier(task: Task, context: Context, make_inputs: Callable[[Context, Path], Inputs]) -> None:
    """Do a classification run from beginning to end."""
    set_seed(int(context.settings["seed"]))
    rows = load_splits(context)
    column = context.spec.columns["label"]
    names = class_names(rows, column)
    inputs = make_inputs(context, local_folder(context.spec.model, context.cache_dir))
    examples = {
        split: inputs.examples(split, found, class_numbers(found, column, names))
        for split, found in rows.items()
    }
    for split, found in examples.items():
        context.message(f"{len(found):,} {split} rows in {len(names)} classes.")
    baseline = _report_baseline(task, context, examples, len(names))
    model = _loaded(lambda: inputs.model(names), context)
    pieces = Pieces(context)
    logits: dict[str, NDArray[Any]] = {}
    if context.spec.method == "head":
        note = f"The head was fitted on {inputs.improve_features(model)}."
        logits |= fit_head(model, pieces, examples, inputs.collate)
        trained: Any = model
    else:
        note = ""
        trained = _train(methods.prepare(model, context), task, pieces, inputs, examples)
    context.phase("evaluating", "Scoring the finished model")
    with Stage(pieces, FINISHED) as piece:
        for split in ("validation", "test"):
            if split in examples and split not in logits:
                logits[split] = predict(trained, context, examples[split], inputs.collate, piece)
    metrics = _scored(context, examples, names, logits)
    split = "test" if "test" in logits else "validation"
    said = predictions.of_classes(rows[split], examples[split].labels, names, logits[split])
    kept = predictions.write(context, split, rows[split], said)
    context.phase("packaging", "Writing the model folder")
    usage = task.usage_for(context.spec.columns)
    package(
        context,
        trained,
        Packaged(task, inputs.processor, names, metrics, baseline, task.baseline_title, usage, note, [kept]),
    )
    context.events.write("done", metrics=metrics)


def predict(
    model: Any, context: Context, examples: Examples, collate: Any, piece: Piece = at_once
) -> NDArray[np.float32]:
    """Logits [rows, classes] in the order of the rows; `piece` does each batch."""
    size = int(context.settings["per_device_eval_batch_size"])
    found: NDArray[np.float32] | None = None
    model.eval().to(device())
    with torch.inference_mode(), autocast(context.settings["precision"]):
        for rows in batches(examples, size):
            logits = piece(partial(_logits, model, examples, rows, collate)).numpy()
            if found is None:
                found = np.zeros((len(examples), logits.shape[1]), dtype=np.float32)
            found[rows] = logits
    assert found is not None
    return found


def _logits(model: Any, examples: Examples, rows: Sequence[int], collate: Any) -> torch.Tensor:
    """[rows, classes], in host memory."""
    batch = collate([examples[row] for row in rows]).to(device())
    batch.pop("labels", None)
    logits: torch.Tensor = model(**batch).logits.float().cpu()
    return logits


def _train(model: Any, task: Task, pieces: Pieces, inputs: Inputs, examples: dict[str, Examples]) -> Any:
    context, train = pieces.context, examples["train"]
    trainer = PlainTrainer(
        model=model,
        args=arguments(
            context,
            len(train),
            main_metric=task.main_metric,
            higher_is_better=task.metric(task.main_metric).higher_is_better,
            model=model,
            remove_unused_columns=False,
            label_names=["labels"],
        ),
        train_dataset=train,
        eval_dataset=examples["validation"],
        data_collator=inputs.collate,
        compute_metrics=_compute_metrics,
    )
    # transformers' classifiers take the number of rows in all micro-batches and processes, by which a loss
    # would be divided, but pay no heed to it: what they return is a mean over their own rows. Believed, it
    # would count as many times as there are micro-batches and processes.
    trainer.model_accepts_loss_kwargs = False
    trainer.attach(pieces, train.lengths)
    return fit(trainer, context)


def _compute_metrics(prediction: Any) -> dict[str, float]:
    found = scores.classification_scores(np.asarray(prediction.predictions), np.asarray(prediction.label_ids))
    found.pop("loss")  # the Trainer reports it
    return found


def _scored(
    context: Context, examples: dict[str, Examples], names: list[str], said: dict[str, NDArray[Any]]
) -> dict[str, float]:
    """{metric: score} of the finished model, from {split: logits}: plain for the test rows, with `validation_` in
    front for the others.
    """
    metrics: dict[str, float] = {}
    for split, prefix in (("validation", "validation_"), ("test", "")):
        if split not in examples:
            continue
        logits = said[split]
        labels = np.asarray(examples[split].labels)
        if not np.isfinite(logits).all():
            raise TrainingFailure(
                "diverged",
                "The training diverged: the model's predictions are no finite numbers.",
                "Lower the learning rate or choose the precision float32.",
            )
        found = scores.classification_scores(logits, labels)
        metrics |= {f"{prefix}{name}": value for name, value in found.items()}
        matrix = scores.confusion_matrix(logits, labels, len(names))
        context.results(confusion_matrix=matrix, labels=names, split=split)
    return metrics


def _report_baseline(
    task: Task, context: Context, examples: dict[str, Examples], classes: int
) -> dict[str, float]:
    """What always naming the most frequent class of the training rows gets on the same rows."""
    found: dict[str, float] = {}
    for split, prefix in (("test", ""), ("validation", "validation_")):
        if split in examples:
            labels = np.asarray(examples[split].labels)
            guess = scores.majority_logits(examples["train"].labels, classes, len(labels))
            found |= {
                f"{prefix}{name}": value
                for name, value in scores.classification_scores(guess, labels).items()
            }
    context.baseline(BASELINE, task.baseline_title, found)
    return found


def _loaded(load: Callable[[], Any], context: Context) -> Any:
    """The model, or why it cannot be loaded."""
    try:
        return load()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        from runs.training.failures import is_out_of_memory

        if is_out_of_memory(error):
            raise
        raise TrainingFailure(
            "model_unavailable",
            f"{context.spec.model.name} cannot be loaded for this task: {error}",
            "Choose another model, or see whether its files are whole.",
        ) from error
