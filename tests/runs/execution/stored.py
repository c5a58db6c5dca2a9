"""A dataset version's files as an inspection would leave them in storage, whatever storage is."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from webapp import storage
from webapp.datasets.canonical import SplitWriter, content_hash, schema_of
from webapp.datasets.columns import Column

Rows = tuple[list[str], list[int]]  # texts and labels


def store_rows(prefix: str, rows: int = 20, splits: Mapping[str, Rows] | None = None) -> str:
    """Store these splits below a prefix, else a train split of so many rows and a test split; returns their hash."""
    columns = [Column("text", "text", 0), Column("label", "label", 0, names=["bad", "good"])]
    schema = schema_of(columns)
    digests = {}
    with tempfile.TemporaryDirectory() as folder:
        for split, (texts, labels) in (splits or {"train": _numbered(rows), "test": _numbered(4)}).items():
            path = Path(folder) / f"{split}-00000-of-00001.parquet"
            writer = SplitWriter(path, schema)
            writer.write(pa.record_batch([pa.array(texts), pa.array(labels, pa.int64())], schema=schema))
            digests[split] = writer.close()
            storage.put(path, f"{prefix}/{path.name}")
    return content_hash(schema, digests)


def _numbered(count: int) -> Rows:
    return [f"row {number}" for number in range(count)], [number % 2 for number in range(count)]
