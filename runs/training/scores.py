"""Scores of classifiers, from logits and labels alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def log_softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Over the last axis, in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def classification_scores(logits: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    """accuracy, f1_macro (over classes that occur or are predicted) and loss (mean cross entropy, nats).

    logits [rows, classes], labels [rows].
    """
    from sklearn.metrics import f1_score

    predicted = logits.argmax(axis=-1)
    return {
        "accuracy": float((predicted == labels).mean()),
        "f1_macro": float(f1_score(labels, predicted, average="macro", zero_division=0)),
        "loss": float(-log_softmax(logits)[np.arange(len(labels)), labels].mean()),
    }


def confusion_matrix(logits: NDArray[Any], labels: NDArray[Any], classes: int) -> list[list[int]]:
    """Counts; a row a true class, a column a predicted one."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (labels, logits.argmax(axis=-1)), 1)
    found: list[list[int]] = counts.tolist()
    return found


def majority_logits(train_labels: Sequence[int], classes: int, rows: int) -> NDArray[np.float64]:
    """What one would say without looking: each class as likely as among the training rows (add-one)."""
    counts = np.bincount(np.asarray(train_labels), minlength=classes) + 1.0
    return np.tile(np.log(counts / counts.sum()), (rows, 1))
