"""Rows of a version by their numbers, out of as few row groups as hold them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from webapp.datasets.models import DatasetVersion
from webapp.datasets.shards import NotHere, on_disk, shards_of

AT_ONCE = 64  # rows, where each may be a picture


class Rows:
    """The rows of a split, counted from 0 across its files."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = list(paths)
        self.files = [pq.ParquetFile(path) for path in paths]
        self.starts = [0]
        for file in self.files:
            self.starts.append(self.starts[-1] + file.metadata.num_rows)

    @property
    def count(self) -> int:
        return self.starts[-1]

    def close(self) -> None:
        for file in self.files:
            file.close()

    def take(self, numbers: Sequence[int], columns: Sequence[str]) -> list[dict[str, Any]]:
        """These rows, which are in rising order, with these columns (`name` or `name.member`)."""
        wanted = list(numbers)
        found: list[dict[str, Any]] = []
        for file, group, first, rows in self._groups():
            here = [number - first for number in wanted if first <= number < first + rows]
            if here:
                table = file.read_row_group(group, columns=list(columns), use_threads=False)
                found += table.take(here).to_pylist()
        return found

    def one(self, number: int, column: str) -> Any:
        """A value of a row; what stands before it in its group is read in small pieces."""
        for file, group, first, rows in self._groups():
            if not first <= number < first + rows:
                continue
            left = number - first
            for batch in file.iter_batches(AT_ONCE, row_groups=[group], columns=[column], use_threads=False):
                if left < batch.num_rows:
                    return batch.column(0)[left].as_py()
                left -= batch.num_rows
        return None

    def _groups(self) -> Iterator[tuple[pq.ParquetFile, int, int, int]]:
        """(file, group, number of its first row, rows) of each group."""
        for file, first in zip(self.files, self.starts, strict=False):
            for group in range(file.metadata.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                yield file, group, first, rows
                first += rows


@contextmanager
def rows_of(version: DatasetVersion, split: str) -> Iterator[Rows]:
    """The rows of a split; raises NotHere where its files are gone or damaged."""
    shards = shards_of(version, split)
    if not shards:
        raise NotHere("The files of these rows are missing from storage. Upload the dataset again.")
    with on_disk(shards) as paths:
        try:
            rows = Rows(paths)
            try:
                yield rows
            finally:
                rows.close()
        except (pa.ArrowException, OSError) as error:
            raise NotHere(
                "The files of these rows are damaged, or went a moment ago. Upload the dataset again."
            ) from error
