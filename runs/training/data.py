"""Reads a run's rows out of canonical Parquet, and names the row and column of what cannot be used."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, disable_progress_bars

from runs.training.context import Context
from runs.training.events import TrainingFailure

log = logging.getLogger("runs.training")
disable_progress_bars()  # the run's page has its own; in a log they are noise
# Where rows come from that were held out or drawn: {split: (split of the dataset, its row of each)}. A training
# program does one run, so this is of that run.
_origins: dict[str, tuple[str, Any]] = {}
HELD_OUT = 0.1  # of the training rows, where a dataset has no validation split


def load_splits(context: Context) -> dict[str, Dataset]:
    """{split: rows}, with the columns that the run uses and no others. `train` and `validation` are there.

    Raises TrainingFailure(bad_data) for a file or column that is missing, or too few rows.
    """
    folder = Path(context.spec.dataset.folder)
    wanted = sorted(set(context.spec.columns.values()))
    splits: dict[str, Dataset] = {}
    _origins.clear()
    for split in ("train", "validation", "test"):
        files = sorted(folder.glob(f"{split}-*.parquet"))
        if not files:
            continue
        rows = _read(files, context.cache_dir, split)
        if missing := [column for column in wanted if column not in rows.column_names]:
            raise TrainingFailure(
                "bad_data",
                f"The {split} rows of {context.spec.dataset.name!r} have no column {missing[0]!r}. "
                f"There are: {', '.join(rows.column_names)}.",
                "Choose the columns again.",
            )
        if len(rows):
            splits[split] = rows.select_columns(wanted)
    if "train" not in splits or len(splits["train"]) < 2:
        raise TrainingFailure(
            "bad_data",
            f"{context.spec.dataset.name!r} has fewer than two training rows.",
            "Upload more rows.",
        )
    if "validation" not in splits:
        seed = int(context.settings.get("seed", 42))
        halves = splits["train"].train_test_split(
            test_size=max(1, round(len(splits["train"]) * HELD_OUT)), seed=seed
        )
        splits["train"], splits["validation"] = halves["train"], halves["test"]
        for split, half in (("train", halves["train"]), ("validation", halves["test"])):
            if half._indices is not None:
                _origins[split] = ("train", half._indices.column(0))
        context.message(
            f"The dataset has no validation rows: {len(splits['validation']):,} training rows are held out."
        )
    return splits


def _read(files: Sequence[Path], cache_dir: Path, split: str) -> Dataset:
    try:
        return Dataset.from_parquet([str(file) for file in files], cache_dir=str(cache_dir / "arrow"))
    except OSError as error:
        if error.errno is not None:  # the disk, not the data
            raise
        raise _unreadable(split, error) from error
    except Exception as error:  # datasets has a class of its own for each way a file can be broken
        raise _unreadable(split, error) from error


def _unreadable(split: str, error: Exception) -> TrainingFailure:
    cause = error.__cause__ or error
    return TrainingFailure(
        "bad_data", f"The {split} rows cannot be read: {cause}", "Upload the dataset again."
    )


def bad_row(split: str, row: int, column: str, what: str, hint: str = "") -> TrainingFailure:
    """A row that cannot be used; `row` counts from 0, people count from 1, and by the dataset's own splits."""
    if split in _origins:
        split, rows = _origins[split]
        row = rows[row].as_py()
    return TrainingFailure(
        "bad_data",
        f"Row {row + 1:,} of the {split} rows, column {column!r}: {what}.",
        hint or "Correct or remove the row and upload the dataset again.",
        {"split": split, "row": row + 1, "column": column},
    )


def check_texts(rows: Dataset, split: str, column: str) -> None:
    """Raises TrainingFailure at the first cell that has no text."""
    for number, text in enumerate(rows[column]):
        if text is None:
            raise bad_row(split, number, column, "the text is missing")
        if not isinstance(text, str):
            raise bad_row(split, number, column, f"expected text, found {type(text).__name__}")
        if not text.strip():
            raise bad_row(split, number, column, "the text is empty")


def class_names(splits: dict[str, Dataset], column: str) -> list[str]:
    """The classes of a label column: as the dataset names them, or the values of numbers and booleans.

    Raises TrainingFailure(bad_data) for a label that is missing, and where there is but one.
    """
    feature = splits["train"].features[column]
    seen: set[Any] = set()
    for split, rows in splits.items():
        values = rows[column]
        for number, value in enumerate(values):
            if value is None or (isinstance(feature, ClassLabel) and not 0 <= value < feature.num_classes):
                raise bad_row(split, number, column, "the label is missing")
        if split == "train":
            seen = set(values)
    if len(seen) < 2:
        raise TrainingFailure(
            "bad_data",
            f"All training rows have the same label in column {column!r}; there is nothing to tell apart.",
            "Choose another column as the label, or upload rows of at least two classes.",
        )
    if isinstance(feature, ClassLabel):
        return list(feature.names)
    every = sorted({value for rows in splits.values() for value in rows[column]})
    return [_name(value) for value in every]


def class_numbers(rows: Dataset, column: str, names: list[str]) -> list[int]:
    """The class of each row as an index into `names`."""
    if isinstance(rows.features[column], ClassLabel):
        return list(rows[column])
    numbers = {name: number for number, name in enumerate(names)}
    return [numbers[_name(value)] for value in rows[column]]


def _name(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)
