"""A dataset version's files as an inspection would leave them in storage, whatever storage is."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa

from webapp import storage
from webapp.datasets.canonical import SplitWriter, content_hash, schema_of
from webapp.datasets.columns import Column


def store_rows(prefix: str, rows: int = 20) -> str:
    """Store a train and a test split below a prefix; returns their content hash."""
    columns = [Column("text", "text", 0), Column("label", "label", 0, names=["bad", "good"])]
    schema = schema_of(columns)
    digests = {}
    with tempfile.TemporaryDirectory() as folder:
        for split, count in (("train", rows), ("test", 4)):
            path = Path(folder) / f"{split}-00000-of-00001.parquet"
            writer = SplitWriter(path, schema)
            texts, labels = [f"row {number}" for number in range(count)], [n % 2 for n in range(count)]
            writer.write(pa.record_batch([pa.array(texts), pa.array(labels, pa.int64())], schema=schema))
            digests[split] = writer.close()
            storage.put(path, f"{prefix}/{path.name}")
    return content_hash(schema, digests)
