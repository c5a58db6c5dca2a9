"""How Parquet files are written and read, so that pictures and recordings cost no more than their bytes.

They are packed already, and no two are the same: to compress them, to look for repeats, and to note the largest costs
five times as much as writing them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def options(schema: pa.Schema, compression: str) -> dict[str, Any]:
    """For pyarrow.parquet.ParquetWriter; `compression` is that of all other columns."""
    media = [f"{item.name}.bytes" for item in schema if _is_media(item.type)]
    if not media:
        return {"compression": compression, "use_dictionary": True}
    others = [leaf for item in schema for leaf in _leaves(item.name, item.type) if leaf not in media]
    return {
        "compression": {**dict.fromkeys(others, compression), **dict.fromkeys(media, "none")},
        "use_dictionary": others,
        "write_statistics": others,
    }


def batches(
    file: pq.ParquetFile, rows: int, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Batches of at most so many rows. Memory holds about one row group, or several small ones.

    `iter_batches` of a whole file lets go of nothing that it has read before its end.
    """
    group, groups = 0, file.metadata.num_row_groups
    while group < groups:
        bunch: list[int] = []
        count = 0
        while group < groups and (not bunch or count + file.metadata.row_group(group).num_rows <= rows):
            bunch.append(group)
            count += file.metadata.row_group(group).num_rows
            group += 1
        yield from file.iter_batches(rows, row_groups=bunch, columns=columns, use_threads=False)


def _is_media(kind: pa.DataType) -> bool:
    """Whether it is the struct of bytes and path by which the `datasets` library keeps pictures and recordings."""
    return pa.types.is_struct(kind) and {kind[n].name for n in range(kind.num_fields)} == {"bytes", "path"}


def _leaves(path: str, kind: pa.DataType) -> Iterator[str]:
    """The columns that Parquet makes of a type, by their paths (LogicalTypes.md, Nested Types)."""
    if pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            yield from _leaves(f"{path}.{kind[number].name}", kind[number].type)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _leaves(f"{path}.list.element", kind.value_type)
    else:
        yield path
