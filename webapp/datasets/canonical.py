"""The one form that every dataset ends in: Parquet a split, with the `datasets` library's features.

docs/architecture.md has the table of kinds. The content hash is of values and names alone, not of how they
are packed: the same rows give the same hash, whatever file they came in.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from webapp.datasets import masks, parquet_files
from webapp.datasets.columns import Column
from webapp.datasets.formats.common import ARROW_TYPES, BOX
from webapp.datasets.formats.features import FEATURES, NOTES

FORM = 1  # of the hash; raised when the same rows are to be told from earlier ones
CHECKED = 1 << 40  # pixels: they were counted when the mask was read
ROWS_AT_ONCE = 10_000  # in a row group, so that a trainer can read a part


CODES = pa.list_(pa.int64())
CODED = {  # kinds whose classes are numbers here
    "label": pa.int64(),
    "tags": CODES,
    "objects": pa.struct([("bbox", pa.list_(BOX)), ("category", CODES)]),
}


def arrow_type(kind: str) -> pa.DataType:
    return CODED.get(kind) or ARROW_TYPES[kind]


def schema_of(columns: list[Column]) -> pa.Schema:
    """Arrow schema with the features as metadata, and the kinds, which features do not always tell."""
    features = {column.name: _feature(column) for column in columns}
    notes: dict[str, Any] = {"kinds": {column.name: column.kind for column in columns}}
    if masks_named := {column.name: column.names for column in columns if column.kind == "mask"}:
        notes["masks"] = masks_named
    metadata = {
        FEATURES: json.dumps({"info": {"features": features}}, ensure_ascii=False),
        NOTES: json.dumps(notes, ensure_ascii=False),
    }
    return pa.schema([(column.name, arrow_type(column.kind)) for column in columns], metadata=metadata)


def _feature(column: Column) -> dict[str, Any]:
    def value(dtype: str) -> dict[str, Any]:
        return {"dtype": dtype, "_type": "Value"}

    def list_of(feature: Any) -> dict[str, Any]:
        return {"feature": feature, "_type": "List"}

    classes = {"names": column.names, "_type": "ClassLabel"}
    match column.kind:
        case "label":
            return classes
        case "image" | "mask":
            return {"_type": "Image"}
        case "audio":
            return {"_type": "Audio"}
        case "messages":
            return list_of({"role": value("string"), "content": value("string")})
        case "objects":
            return {"bbox": list_of(list_of(value("float32"))), "category": list_of(classes)}
        case "answers":
            return {"text": list_of(value("string")), "answer_start": list_of(value("int64"))}
        case "tokens":
            return list_of(value("string"))
        case "tags":
            return list_of(classes)
        case "integer":
            return value("int64")
        case "float":
            return value("float64")
        case "boolean":
            return value("bool")
        case _:
            return value("string")


def convert(array: pa.Array, column: Column) -> pa.Array:
    """A scratch column's values in the type of the column's kind."""
    target = arrow_type(column.kind)
    if column.kind == "label":
        if column.coded:
            codes = array.cast(pa.int64())
            return pc.if_else(pc.less(codes, 0), pa.scalar(None, pa.int64()), codes)
        return _codes(array.cast(pa.string()), column)
    if column.kind == "tags":
        return _coded_list(array, column)
    if column.kind == "objects":
        members = [pc.struct_field(array, "bbox"), _coded_list(pc.struct_field(array, "category"), column)]
        return pa.StructArray.from_arrays(members, fields=list(target), mask=pc.is_null(array))
    if column.kind == "boolean" and pa.types.is_string(array.type):
        return pc.equal(pc.ascii_lower(array), "true")
    return array if array.type == target else array.cast(target)


def _codes(array: pa.Array, column: Column) -> pa.Array:
    return pc.index_in(array, value_set=pa.array(column.names, pa.string())).cast(pa.int64())


def _coded_list(array: pa.Array, column: Column) -> pa.Array:
    """The same lists with numbers for names; list_flatten passes over nulls, as the offsets made anew do."""
    codes = _codes(pc.list_flatten(array), column)
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate(([0], np.cumsum(lengths))), pa.int32())
    return pa.ListArray.from_arrays(offsets, codes, mask=pc.is_null(array))


def counts_of(array: pa.Array, column: Column) -> np.ndarray[Any, np.dtype[np.int64]]:
    """How often each class or value stands in a canonical column; the last number is of rows without one."""
    if column.kind in ("tags", "objects"):
        lists = array if column.kind == "tags" else pc.struct_field(array, "category")
        found = pc.list_flatten(lists).to_numpy(zero_copy_only=False)
        return np.bincount(
            np.append(found, len(column.names)).astype(np.int64), minlength=len(column.names) + 1
        )
    if column.kind == "mask":
        return _pixels(array, len(column.names))
    groups = len(column.names or column.values) + 1
    return np.bincount(group_of(array, column), minlength=groups)


def _pixels(array: pa.Array, classes: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Pixels of each class in all masks; the last number is of those that do not count."""
    found = np.zeros(256, np.int64)
    for value in array:
        if value.is_valid:
            found += masks.counts(value["bytes"].as_py(), CHECKED)
    return np.append(found[:classes], found[classes:].sum())


def group_of(array: pa.Array, column: Column) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Number of the group that each row belongs to; rows without a value are the last group."""
    if column.names:
        codes, last = array, len(column.names)
    else:
        codes = pc.index_in(array, value_set=pa.array(column.values, array.type)).cast(pa.int64())
        last = len(column.values)
    numbers: np.ndarray[Any, np.dtype[np.int64]] = pc.fill_null(codes, last).to_numpy(zero_copy_only=False)
    return numbers


class SplitWriter:
    """Writes the rows of one split and hashes what they say."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema, self._digest = path, schema, RowDigest(len(schema))
        self._writer = pq.ParquetWriter(path, schema, **parquet_files.options(schema, "snappy"))

    def write(self, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:
            return
        self._writer.write_batch(batch, row_group_size=ROWS_AT_ONCE)
        self._digest.feed(batch)

    @property
    def rows(self) -> int:
        return self._digest.rows

    def close(self) -> str:
        """End the file; the digest of its rows."""
        self._writer.close()
        return self._digest.hexdigest()


class RowDigest:
    """Of the rows of a split, however they are cut into batches."""

    def __init__(self, columns: int) -> None:
        self.rows = 0
        self._hashes: list[dict[str, Any]] = [{} for _ in range(columns)]

    def feed(self, batch: pa.RecordBatch) -> None:
        for hashes, column in zip(self._hashes, batch.columns, strict=True):
            _feed(hashes, "", column)
        self.rows += batch.num_rows

    def hexdigest(self) -> str:
        digest = hashlib.sha256(str(self.rows).encode())
        for hashes in self._hashes:
            for part in sorted(hashes):
                digest.update(part.encode() + hashes[part].digest())
        return digest.hexdigest()


def _feed(hashes: dict[str, Any], part: str, array: pa.Array) -> None:
    """Values, lengths and presence each go to a hash of their own: then batches can be cut anywhere."""

    def add(name: str, data: Any) -> None:
        hashes.setdefault(f"{part}.{name}", hashlib.sha256()).update(data)

    kind = array.type
    if not pa.types.is_null(kind):
        add("there", array.is_valid().cast(pa.uint8()).to_numpy(zero_copy_only=False).tobytes())
    if pa.types.is_struct(kind):
        for number, member in enumerate(kind):
            _feed(hashes, f"{part}/{member.name}", array.filter(array.is_valid()).field(number))
        return
    present = array.drop_null()
    if pa.types.is_list(kind):
        lengths = pc.list_value_length(present).cast(pa.int64())
        add("lengths", lengths.to_numpy(zero_copy_only=False).tobytes())
        _feed(hashes, f"{part}/item", present.flatten())
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        lengths = pc.binary_length(present).cast(pa.int64())
        add("lengths", lengths.to_numpy(zero_copy_only=False).tobytes())
        _, offsets, data = present.buffers()
        if data is not None and len(present):
            ends = np.frombuffer(offsets, np.int32)[present.offset : present.offset + len(present) + 1]
            add("bytes", memoryview(data)[ends[0] : ends[-1]])
    else:
        plain = present.cast(pa.uint8()) if pa.types.is_boolean(kind) else present
        add("values", plain.to_numpy(zero_copy_only=False).tobytes())


def content_hash(schema: pa.Schema, splits: dict[str, str]) -> str:
    """One hash of the columns, their classes, and the rows of each split."""
    features = json.loads(schema.metadata[FEATURES])["info"]["features"]
    said = {"form": FORM, "columns": [[name, features[name]] for name in schema.names], "splits": splits}
    notes = json.loads(schema.metadata.get(NOTES, b"{}"))
    if "masks" in notes:  # their classes stand in no feature
        said["masks"] = notes["masks"]
    return hashlib.sha256(json.dumps(said, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def content_hash_of(folder: Path) -> str:
    """The hash of a version's files as they lie there, read in batches; raises ArrowException if they cannot be.

    It is of FORM: a version of an older form needs a hash of that form to be compared with.
    """
    schema, splits = None, {}
    by_split: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("*.parquet")):
        by_split.setdefault(path.name.rsplit("-", 3)[0], []).append(path)
    for split, files in by_split.items():
        digest = None
        for path in files:
            with pq.ParquetFile(path) as file:
                schema = file.schema_arrow
                digest = digest or RowDigest(len(schema))
                for batch in parquet_files.batches(file, ROWS_AT_ONCE):
                    digest.feed(batch)
        splits[split] = digest.hexdigest() if digest else ""
    if schema is None:
        raise pa.ArrowInvalid("there are no Parquet files")
    return content_hash(schema, splits)
