"""What is counted of each column while a version is written, a split at a time: classes, lengths, values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from webapp.datasets.canonical import counts_of
from webapp.datasets.columns import Column
from webapp.datasets.histograms import histogram_of


class Counting:
    """Of all columns of a version to be."""

    def __init__(self, columns: list[Column], splits: tuple[str, ...]) -> None:
        self._counts = {column.name: _Counts(column, splits) for column in columns if column.is_counted}
        self._histograms = {
            column.name: histogram
            for column in columns
            if not column.is_counted and (histogram := histogram_of(column, splits))
        }

    def add(self, split: str, batch: pa.RecordBatch) -> None:
        for name, counts in self._counts.items():
            counts.add(split, batch.column(name))
        for name, histogram in self._histograms.items():
            histogram.add(split, batch.column(name))

    def counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """{column: {split: {class: rows}}} of the columns whose classes are counted."""
        return {name: counts.as_json() for name, counts in self._counts.items()}

    def as_json(self, column: Column) -> dict[str, Any]:
        """Everything that pages and API tell of a column."""
        said: dict[str, Any] = {"name": column.name, "kind": column.kind, "nulls": column.nulls}
        if column.distinct is not None:
            said["distinct"] = column.distinct
        if column.names:
            said["names"] = column.names
        if column.name in self._counts:
            said["counts"] = self._counts[column.name].as_json()
        if column.name in self._histograms:
            said["histogram"] = self._histograms[column.name].as_json()
        return said | column.facts


class _Counts:
    """How often each value of a column stands in each split."""

    def __init__(self, column: Column, splits: tuple[str, ...]) -> None:
        self.column = column
        self.names = [str(name) for name in column.names or column.values]
        self.counts = {split: np.zeros(len(self.names) + 1, np.int64) for split in splits}

    def add(self, split: str, array: pa.Array) -> None:
        self.counts[split] += counts_of(array, self.column)

    def as_json(self) -> dict[str, dict[str, int]]:
        return {
            split: dict(zip(self.names, (int(count) for count in counts[:-1]), strict=True))
            for split, counts in self.counts.items()
        }
