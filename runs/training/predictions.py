"""What the finished model says of each held-out row, beside the row: a table that people can look through.

It goes with a run's files, but not into the model folder that people pass on: it holds rows of theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, Features, Value
from numpy.typing import NDArray

from runs.training.context import Context
from runs.training.events import PREDICTIONS
from runs.training.scores import log_softmax

MOST_ROWS = 10_000
MOST_BYTES = 64 << 20  # before compression; pictures take most
AT_ONCE = 256
DIGITS = 6  # after the point; more say nothing


def of_classes(
    rows: Dataset, labels: Sequence[int], names: Sequence[str], logits: NDArray[Any]
) -> dict[str, tuple[Any, Any]]:
    """Columns `prediction`, `score` (its probability) and `right` of logits [rows, classes], as `write` takes them."""
    predicted = logits.argmax(axis=-1)
    scores = np.exp(log_softmax(logits))[np.arange(len(logits)), predicted]
    return {
        _free("prediction", rows): (ClassLabel(names=list(names)), predicted),
        _free("score", rows): (Value("float64"), scores.round(DIGITS)),
        _free("right", rows): (Value("bool"), predicted == np.asarray(labels)),
    }


def of_losses(rows: Dataset, losses: NDArray[Any]) -> dict[str, tuple[Any, Any]]:
    """A column `loss`: nats a token of each row's answer, empty where nothing of it is in the text that was read."""
    return {
        _free("loss", rows): (Value("float64"), np.ma.masked_invalid(losses.astype(np.float64).round(DIGITS)))
    }


def _free(name: str, rows: Dataset) -> str:
    """A name that no column of the rows has."""
    while name in rows.column_names:
        name = f"model_{name}"
    return name


def write(context: Context, split: str, rows: Dataset, said: Mapping[str, tuple[Any, Any]]) -> Path:
    """Write the first rows with {column: (feature, a value a row)} into the work folder, as many as there is room for.

    The file has the features of the rows, so classes keep their names and pictures stay pictures.
    """
    path = context.workdir / PREDICTIONS
    features = Features({**rows.features, **{name: feature for name, (feature, _) in said.items()}})
    most, done, size = min(len(rows), MOST_ROWS), 0, 0
    tables = rows.with_format("arrow")
    with pq.ParquetWriter(path, features.arrow_schema) as writer:
        while done < most and size < MOST_BYTES:
            end = min(done + AT_ONCE, most)
            table = tables[done:end]
            columns = [table.column(name) for name in rows.column_names]
            columns += [_array(values[done:end]) for _, values in said.values()]
            writer.write_table(pa.table(columns, names=list(features)).cast(features.arrow_schema))
            done, size = end, size + table.nbytes
    what = f"The first {done:,}" if done < len(rows) else f"All {done:,}"
    context.message(f"{what} {split} rows are kept with what the model says of them ({PREDICTIONS}).")
    return path


def _array(values: Any) -> pa.Array:
    mask = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    return pa.array(np.asarray(values), mask=mask)
