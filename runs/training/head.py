"""A linear head on features of the frozen model: each row is read once, in batches of like length.

The features are by definition what the model's own forward gives its last linear layer, found by putting
an identity in that layer's place. What is fitted on them (scikit-learn's logistic regression, its
regularisation chosen on the validation rows) is then written into the layer, so the saved model is a
stock one that predicts the same as the fitted head. Features and fits that are done are kept. Architectures whose
own pooling is a poor feature are first given a better one within the same architecture: see pooling.py.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import nn

from runs.training.context import Context, Stopped
from runs.training.devices import autocast, device
from runs.training.events import TrainingFailure
from runs.training.inputs import Examples, batches
from runs.training.pieces import HEAD, Piece, Pieces, Stage
from runs.training.pooling import without_idle_work
from runs.training.saving import Saver, Timer
from runs.training.scores import classification_scores, log_softmax

# Inverse strength of the regularisation, strongest first; standardised features.
STRENGTHS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0)
TRIES_WITHOUT_GAIN = 2
PROGRESS_NAME = "head.json"


@dataclass
class Head:
    """Weights [classes, features] and biases [classes] for unscaled features."""

    weight: NDArray[np.float64]
    bias: NDArray[np.float64] | None
    strength: float

    def logits(self, features: NDArray[Any]) -> NDArray[np.float64]:
        found = features.astype(np.float64) @ self.weight.T
        return found if self.bias is None else found + self.bias

    def write_into(self, layer: nn.Linear) -> None:
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(self.weight))
            if self.bias is not None:
                layer.bias.copy_(torch.from_numpy(self.bias))


def fit_head(
    model: Any, pieces: Pieces, splits: dict[str, Examples], collate: Any
) -> dict[str, NDArray[np.float64]]:
    """Compute features of every split, fit a head on `train`, write it into the model.

    Returns {split: logits [rows, classes]}, without another pass through the model.
    """
    name, layer = output_layer(model)
    context, saver = pieces.context, Saver(pieces.context)
    try:
        features, batch_count = compute_features(
            model, name, pieces, saver, splits, collate, tries=len(STRENGTHS)
        )
        context.phase("training", "Fitting the head on the features")
        labels = {split: np.asarray(examples.labels) for split, examples in splits.items()}
        with Stage(pieces, HEAD, saver) as piece:
            head = _choose(
                features["train"],
                labels["train"],
                features["validation"],
                labels["validation"],
                layer,
                context,
                batch_count,
                piece,
            )
    finally:
        saver.close()
    head.write_into(layer)
    return {split: head.logits(found) for split, found in features.items()}


def output_layer(model: nn.Module) -> tuple[str, nn.Linear]:
    """(name, module) of the last linear layer, whose outputs are the classes; raises TrainingFailure."""
    classes = int(model.config.num_labels)
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == classes
    ]
    if not found:
        raise TrainingFailure(
            "bad_settings",
            f"{type(model).__name__} does not end in a linear layer that a head could take the place of.",
            "Choose another method.",
        )
    return found[-1]


def compute_features(
    model: Any,
    name: str,
    pieces: Pieces,
    saver: Saver,
    splits: dict[str, Examples],
    collate: Any,
    tries: int,
) -> tuple[dict[str, NDArray[np.float32]], int]:
    """({split: features [rows, features]}, batches). What is computed survives a stop, batch by batch."""
    context = pieces.context
    size = int(context.settings["per_device_eval_batch_size"])
    plan = [(split, rows) for split, examples in splits.items() for rows in batches(examples, size)]
    parent, _, child = name.rpartition(".")
    holder = model.get_submodule(parent)
    layer = getattr(holder, child) if not child.isdigit() else holder[int(child)]
    width = layer.in_features
    context.phase("training", "Reading each row once with the frozen model")
    shapes = {split: (len(examples), width) for split, examples in splits.items()}
    store = _Store(context, saver, shapes, pieces.resume)
    _put(holder, child, nn.Identity())
    model.eval().to(device())
    started, first = time.monotonic(), store.done
    try:
        with torch.inference_mode(), without_idle_work(model), autocast(context.settings["precision"]):
            for position in range(first, len(plan)):
                split, rows = plan[position]
                examples = splits[split]
                batch = collate([examples[row] for row in rows]).to(device())
                batch.pop("labels", None)
                found = model(**batch).logits.float().cpu().numpy()
                if found.shape != (len(rows), width):
                    raise TrainingFailure(
                        "bad_settings",
                        f"{type(model).__name__} gives its head features of the shape {found.shape}, "
                        "which a linear head cannot take.",
                        "Choose another method.",
                    )
                store.put(split, rows, found)
                seconds = time.monotonic() - started
                done = position + 1 - first
                context.progress(
                    position + 1,
                    len(plan) + tries,
                    epoch=(position + 1) / len(plan),
                    rate=done * size / seconds,
                    eta_seconds=(len(plan) - position - 1) * seconds / done,
                )
                store.save_if_due(complete=position + 1 == len(plan))
    finally:
        _put(holder, child, layer)
    return store.arrays, len(plan)


def _put(holder: nn.Module, child: str, module: nn.Module) -> None:
    if child.isdigit():
        holder[int(child)] = module
    else:
        setattr(holder, child, module)


class _Store:
    """Features on disk, and how many batches of the plan they hold."""

    def __init__(
        self, context: Context, saver: Saver, shapes: dict[str, tuple[int, int]], resume: Path | None
    ) -> None:
        self.context, self.saver, self.done = context, saver, 0
        self.folder = context.workdir / "features"
        self.folder.mkdir(exist_ok=True)
        saved = json.loads((resume / PROGRESS_NAME).read_text()) if resume else None
        self.arrays: dict[str, Any] = {}
        for split, shape in shapes.items():
            path = self.folder / f"{split}.npy"
            path.unlink(missing_ok=True)  # a checkpoint may share the file
            array = open_memmap(path, "w+", np.float32, shape)
            if resume and saved:
                array[:] = np.load(resume / f"{split}.npy", mmap_mode="r", allow_pickle=False)
            self.arrays[split] = array
        if saved:
            self.done = int(saved["batches"])
        self.timer = Timer(60 * float(context.settings["save_minutes"]), saver)

    def put(self, split: str, rows: Sequence[int], found: NDArray[np.float32]) -> None:
        self.arrays[split][list(rows)] = found
        self.done += 1

    def save_if_due(self, *, complete: bool) -> None:
        """A checkpoint by time, once the features are complete, and when asked to leave; raises Stopped then."""
        self.saver.check()
        stopping = self.context.should_stop
        if not (self.timer.due() or complete or stopping):
            return
        progress = {"batches": self.done}

        def write(folder: Path) -> None:
            # No copy first: rows that are done never change, and those that are not count for nothing.
            for split, array in self.arrays.items():
                if complete:
                    array.flush()
                    (folder / f"{split}.npy").hardlink_to(self.folder / f"{split}.npy")
                else:
                    np.save(folder / f"{split}.npy", np.asarray(array))
            (folder / PROGRESS_NAME).write_text(json.dumps(progress))

        self.saver.save(self.done, write)
        self.timer.restart()
        if stopping:
            self.saver.wait()
            raise Stopped(self.done)


def _choose(
    train: NDArray[np.float32],
    train_labels: NDArray[Any],
    validation: NDArray[np.float32],
    validation_labels: NDArray[Any],
    layer: nn.Linear,
    context: Context,
    batch_count: int,
    piece: Piece,
) -> Head:
    """Fit with ever weaker regularisation until the validation rows stop gaining; the best is kept."""
    from sklearn.linear_model import LogisticRegression

    has_bias = layer.bias is not None
    mean = train.mean(axis=0, dtype=np.float64) if has_bias else np.zeros(train.shape[1])
    scale = train.std(axis=0, dtype=np.float64)
    scale[scale < 1e-6 * max(float(scale.max()), 1e-30)] = np.inf  # a constant feature says nothing
    scaled = ((train - mean) / scale).astype(np.float32)
    model = LogisticRegression(
        fit_intercept=has_bias, max_iter=300, tol=1e-3, warm_start=True, random_state=context.settings["seed"]
    )
    best: tuple[float, Head] | None = None
    without_gain = 0
    for number, strength in enumerate(STRENGTHS, start=1):
        found = piece(partial(_fitted, model, strength, scaled, train_labels))
        for name, values in found.items():  # as they are, unless the fit was done before
            setattr(model, name, values.numpy())
        head = _unscaled(model, mean, scale, layer.out_features, has_bias, strength)
        scores = classification_scores(head.logits(validation), validation_labels)
        context.metric(batch_count + number, {f"validation_{name}": value for name, value in scores.items()})
        context.progress(batch_count + number, batch_count + len(STRENGTHS), epoch=1.0, force=True)
        # By loss: a few validation rows say little about accuracy, in steps of one row.
        if best is None or scores["loss"] < best[0]:
            best, without_gain = (scores["loss"], head), 0
        else:
            without_gain += 1
        if without_gain >= TRIES_WITHOUT_GAIN:
            break
    assert best is not None
    context.progress(batch_count + number, batch_count + number, epoch=1.0, force=True)
    train_loss = -log_softmax(best[1].logits(train))[np.arange(len(train)), train_labels].mean()
    context.message(
        f"The head with the regularisation C = {best[1].strength:g} is best on the validation rows; "
        f"its loss on the training rows is {train_loss:.4f}."
    )
    return best[1]


def _fitted(
    model: Any, strength: float, features: NDArray[np.float32], labels: NDArray[Any]
) -> dict[str, torch.Tensor]:
    """What a fit sets, which is also what the next one starts from."""
    from sklearn.exceptions import ConvergenceWarning

    model.C = strength
    with warnings.catch_warnings():
        # Stopping short of the optimum is more regularisation; the validation rows decide anyway.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, labels)
    return {name: torch.from_numpy(getattr(model, name)) for name in ("coef_", "intercept_", "classes_")}


def _unscaled(
    model: Any,
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
    classes: int,
    has_bias: bool,
    strength: float,
) -> Head:
    """The fitted model with the scaling folded into its weights, a row for each class there is."""
    weight = model.coef_.astype(np.float64) / scale
    bias = model.intercept_.astype(np.float64) - weight @ mean if has_bias else np.zeros(len(weight))
    if len(weight) == 1:  # two classes have one row; as a softmax it is half for and half against
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    full_weight = np.zeros((classes, weight.shape[1]))
    # A class without a training row is never predicted, as far as a bias can say that.
    full_bias = np.full(classes, bias.min() - 20.0)
    full_weight[model.classes_], full_bias[model.classes_] = weight, bias
    return Head(full_weight, full_bias if has_bias else None, strength)
