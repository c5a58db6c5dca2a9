"""Parquet, from pandas, the `datasets` library or anything else that writes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from webapp.datasets.formats.chat import as_messages
from webapp.datasets.formats.common import (
    IMAGE,
    JSON_FIELD,
    MESSAGES,
    Format,
    Opened,
    Source,
    batch_rows,
    check_column_count,
    unique_names,
)
from webapp.datasets.problems import Problems, Refused

MAGIC = b"PAR1"
LARGEST_ROW_GROUP = 4 << 30  # bytes unpacked; a small file that claims more is a bomb or useless
Convert = Callable[[pa.Array], pa.Array]


class Parquet(Format):
    slug = "parquet"
    title = "Parquet"
    extensions = (".parquet", ".pq")

    def recognises(self, head: bytes, extension: str) -> float:
        return 1.0 if head.startswith(MAGIC) else 0.0

    def open(self, source: Source, problems: Problems) -> Opened:
        try:
            file = pq.ParquetFile(source.path)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _damaged(source) from error
        if file.metadata.num_rows == 0:
            raise Refused("no_rows", "The file has columns but no rows.", "Add examples.", file=source.name)
        schema = file.schema_arrow
        check_column_count(len(schema), source)
        groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
        if max((group.total_byte_size for group in groups), default=0) > LARGEST_ROW_GROUP:
            raise Refused(
                "huge_row_group",
                "A row group of the file is larger than 4 GB when unpacked.",
                "Write the file again with smaller row groups (such as row_group_size=10000).",
                file=source.name,
            )
        result, conversions = known_columns(schema, source, problems)
        unpacked = sum(group.total_byte_size for group in groups)
        rows = batch_rows(unpacked / file.metadata.num_rows)
        return Opened(
            result,
            _batches(file, source, result, conversions, rows),
            class_names=class_names_of(schema, source),
            details={"format": self.slug},
        )


def known_columns(
    schema: pa.Schema, source: Source, problems: Problems
) -> tuple[pa.Schema, list[tuple[int, Convert]]]:
    """The columns whose types the rest knows, and for each its place in the file and how it gets there."""
    names = unique_names(schema.names, source, problems)
    fields, conversions = [], []
    for place, (name, field) in enumerate(zip(names, schema, strict=True)):
        converted = _conversion(field.type)
        if converted is None:
            problems.warn(
                "column_left_out",
                f"“{name}” holds {field.type}, which no task can use; it was left out.",
                file=source.name,
                column=name,
            )
            continue
        fields.append(converted[0].with_name(name))
        conversions.append((place, converted[1]))
    if not fields:
        raise Refused(
            "no_columns",
            "No column of the file holds anything that a task can use.",
            "Write text, numbers or pictures into its columns.",
            file=source.name,
        )
    return pa.schema(fields), conversions


def converted_batch(
    batch: pa.RecordBatch, schema: pa.Schema, conversions: list[tuple[int, Convert]]
) -> pa.RecordBatch:
    """A batch of the file with those columns alone."""
    arrays = [
        convert(batch.column(place)).cast(field.type)
        for (place, convert), field in zip(conversions, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _damaged(source: Source) -> Refused:
    return Refused(
        "damaged",
        "The file begins as Parquet but cannot be read: it is cut off or damaged.",
        "Write or copy it again; the upload may have been of a file that was still being written.",
        file=source.name,
    )


def _batches(
    file: pq.ParquetFile, source: Source, schema: pa.Schema, conversions: list[tuple[int, Convert]], rows: int
) -> Iterator[pa.RecordBatch]:
    done = 0
    try:
        for batch in file.iter_batches(batch_size=rows, use_threads=False):
            done += batch.num_rows
            source.progress(done, file.metadata.num_rows)
            yield converted_batch(batch, schema, conversions)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(source) from error


def _conversion(kind: pa.DataType) -> tuple[pa.Field, Convert] | None:
    """(field with a type that the rest knows, how to get there); None if no kind of column fits."""
    types = pa.types
    if types.is_dictionary(kind):
        inner = _conversion(kind.value_type)
        return (inner[0], lambda array: inner[1](array.dictionary_decode())) if inner else None
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.field("", pa.string()), _text
    if types.is_boolean(kind):
        return pa.field("", pa.bool_()), lambda array: array
    if types.is_uint64(kind):
        return pa.field("", pa.int64()), _unsigned
    if types.is_integer(kind):
        return pa.field("", pa.int64()), lambda array: array.cast(pa.int64())
    if types.is_floating(kind):
        return pa.field("", pa.float64()), _finite
    if types.is_decimal(kind):
        return pa.field("", pa.float64()), lambda array: array.cast(pa.float64(), safe=False)
    if types.is_temporal(kind) and not types.is_duration(kind) and not types.is_interval(kind):
        return pa.field("", pa.string()), lambda array: array.cast(pa.string())
    if types.is_null(kind):
        return pa.field("", pa.null()), lambda array: array
    if types.is_binary(kind) or types.is_large_binary(kind):
        return pa.field("", IMAGE), _image_of_bytes
    if types.is_struct(kind) and {field.name for field in kind} >= {"bytes", "path"}:
        member = kind.field("bytes").type
        if types.is_binary(member) or types.is_large_binary(member):
            return pa.field("", IMAGE), _image_of_struct
    if _is_messages(kind):
        return pa.field("", MESSAGES), _messages
    if types.is_nested(kind) and not _holds_binary(kind):
        return pa.field("", pa.string(), metadata=JSON_FIELD), _json
    return None


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _is_messages(kind: pa.DataType) -> bool:
    if not _is_list(kind) or not pa.types.is_struct(kind.value_type):
        return False
    members = {field.name: field.type for field in kind.value_type}
    texts = {
        name for name, held in members.items() if pa.types.is_string(held) or pa.types.is_large_string(held)
    }
    return texts >= {"role", "content"} or texts >= {"from", "value"}


def _holds_binary(kind: pa.DataType) -> bool:
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return True
    return any(_holds_binary(kind.field(number).type) for number in range(kind.num_fields))


def _text(array: pa.Array) -> pa.Array:
    plain = array.cast(pa.string())
    plain.validate(full=True)  # UTF-8 throughout, or ArrowInvalid
    return pc.replace_substring(plain, "\0", "")  # no database keeps it


def _unsigned(array: pa.Array) -> pa.Array:
    fits = pc.less_equal(array, pa.scalar(2**63 - 1, pa.uint64()))
    return pc.if_else(fits, array, pa.scalar(None, pa.uint64())).cast(pa.int64())


def _finite(array: pa.Array) -> pa.Array:
    floats = array.cast(pa.float64())
    return pc.if_else(pc.is_finite(floats), floats, pa.scalar(None, pa.float64()))


def _image_of_bytes(array: pa.Array) -> pa.Array:
    data = array.cast(pa.binary())
    return pa.StructArray.from_arrays(
        [data, pa.nulls(len(data), pa.string())], fields=list(IMAGE), mask=pc.is_null(data)
    )


def _image_of_struct(array: pa.Array) -> pa.Array:
    data = pc.struct_field(array, "bytes").cast(pa.binary())
    # A path points to the machine that the file was made on: only its last part is kept, as a name.
    path = pc.struct_field(array, "path").cast(pa.string())
    path = pc.utf8_slice_codeunits(pc.replace_substring_regex(path, r"^.*[/\\]", ""), 0, 200)
    return pa.StructArray.from_arrays([data, path], fields=list(IMAGE), mask=pc.is_null(data))


def _messages(array: pa.Array) -> pa.Array:
    rows = (
        as_messages([_written(each) for each in row if each is not None]) if row else None
        for row in array.to_pylist()
    )
    return pa.array(rows, MESSAGES)


def _written(said: dict[str, Any]) -> dict[str, str]:
    """One message without what is missing or no database keeps."""
    known = ("role", "content") if "role" in said else ("from", "value")
    return {name: (said[name] or "").replace("\0", "") for name in known}


def _json(array: pa.Array) -> pa.Array:
    def written(value: Any) -> str | None:
        return None if value is None else json.dumps(value, ensure_ascii=False, default=str)

    return pa.array([written(value) for value in array.to_pylist()], pa.string())


def class_names_of(schema: pa.Schema, source: Source) -> dict[str, list[str]]:
    """Names of class numbers as the `datasets` library writes them into the schema's metadata."""
    names = dict(zip(schema.names, unique_names(schema.names, source, Problems()), strict=True))
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found = {column: feature for column, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}
    result = {}
    for column, feature in found.items():
        classes = feature.get("names")
        if (
            feature.get("_type") == "ClassLabel"
            and isinstance(classes, list)
            and 0 < len(classes) <= 1000
            and all(isinstance(each, str) and "\0" not in each for each in classes)
            and len(set(classes)) == len(classes)
            and column in names
        ):
            result[names[column]] = classes
    return result


FORMAT = Parquet()
