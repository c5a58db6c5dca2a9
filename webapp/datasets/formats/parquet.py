"""Parquet, from pandas, the `datasets` library or anything else that writes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from webapp.datasets import parquet_files, pictures
from webapp.datasets.formats.chat import as_messages
from webapp.datasets.formats.common import (
    ANSWERS,
    BOX,
    IMAGE,
    JSON_FIELD,
    MESSAGES,
    OBJECTS,
    Format,
    Opened,
    Source,
    batch_rows,
    check_column_count,
    field_of,
    kind_of,
    settled_text,
    unique_names,
)
from webapp.datasets.formats.features import Said, is_answers, is_media, is_messages, said_of
from webapp.datasets.formats.squad import TEXTS
from webapp.datasets.problems import Problems, Refused

MAGIC = b"PAR1"
LONGEST_NAME = 255  # characters of a picture's name, as of a file's
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
        known = known_columns(schema, source, problems)
        unpacked = sum(group.total_byte_size for group in groups)
        rows = batch_rows(unpacked / file.metadata.num_rows)
        return Opened(
            known.schema,
            _batches(file, source, known, rows),
            class_names=known.class_names,
            details={"format": self.slug},
        )


@dataclass(frozen=True)
class Known:
    """The columns of a file that the rest knows: their fields, and for each its place and how it gets there."""

    schema: pa.Schema
    conversions: list[tuple[int, Convert]]
    class_names: dict[str, list[str]]

    def converted(self, batch: pa.RecordBatch, source: Source, first: int) -> pa.RecordBatch:
        """A batch of the file with those columns alone; `first`: number of its first row, from 1. Raises Refused."""
        arrays = []
        for (place, convert), field in zip(self.conversions, self.schema, strict=True):
            try:
                arrays.append(convert(batch.column(place)).cast(field.type))
            except BadCell as bad:
                row = first + bad.place
                raise Refused(
                    f"bad_{kind_of(field)}",
                    f"“{field.name}” in row {row:,} {bad.why}.",
                    f"{bad.hint} Leave the column out if it is not meant to be used.",
                    file=source.name,
                    row=row,
                    column=field.name,
                ) from bad
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def known_columns(schema: pa.Schema, source: Source, problems: Problems) -> Known:
    """What of a schema can be used; raises Refused if nothing can."""
    names = unique_names(schema.names, source, problems)
    said = said_of(schema, source.kinds)
    fields, conversions, class_names = [], [], {}
    has_answers = any(is_answers(item.type) for item in schema)
    for place, (name, item) in enumerate(zip(names, schema, strict=True)):
        about = said.get(item.name, Said())
        converted = _conversion(item.type, about)
        if converted is None:
            problems.warn(
                "column_left_out",
                f"“{name}” holds {item.type}, which no task can use; it was left out.",
                file=source.name,
                column=name,
            )
            continue
        found, convert = converted[0].with_name(name), converted[1]
        if kind_of(found) == "image" and not about.settled:
            convert = _cleaned(convert, source, name, problems)
        if has_answers and found.type == pa.string() and name.lower() in TEXTS:
            found = settled_text(name)
        fields.append(found)
        conversions.append((place, convert))
        if about.names:
            class_names[name] = about.names
    if not fields:
        raise Refused(
            "no_columns",
            "No column of the file holds anything that a task can use.",
            "Write text, numbers or pictures into its columns.",
            file=source.name,
        )
    return Known(pa.schema(fields), conversions, class_names)


def _damaged(source: Source) -> Refused:
    return Refused(
        "damaged",
        "The file begins as Parquet but cannot be read: it is cut off or damaged.",
        "Write or copy it again; the upload may have been of a file that was still being written.",
        file=source.name,
    )


def _batches(file: pq.ParquetFile, source: Source, known: Known, rows: int) -> Iterator[pa.RecordBatch]:
    done = 0
    try:
        for batch in parquet_files.batches(file, rows):
            source.progress(done + batch.num_rows, file.metadata.num_rows)
            yield known.converted(batch, source, done + 1)
            done += batch.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged(source) from error


def _conversion(kind: pa.DataType, said: Said) -> tuple[pa.Field, Convert] | None:
    """(field with a type that the rest knows, how to get there); None if no kind of column fits."""
    if said.kind in SAID:
        return field_of("", said.kind), SAID[said.kind](said)
    if said.kind == "text":
        return settled_text(""), _text
    return _by_type(kind)


def _by_type(kind: pa.DataType) -> tuple[pa.Field, Convert] | None:
    types = pa.types
    if types.is_dictionary(kind):
        inner = _by_type(kind.value_type)
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
    if is_media(kind):
        return pa.field("", IMAGE), _media
    if is_answers(kind):
        return pa.field("", ANSWERS), _answers
    if is_messages(kind):
        return pa.field("", MESSAGES), _messages
    if types.is_nested(kind) and not _holds_binary(kind):
        return pa.field("", pa.string(), metadata=JSON_FIELD), _json
    return None


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


def _media(array: pa.Array) -> pa.Array:
    data = pc.struct_field(array, "bytes").cast(pa.binary())
    # A path points to the machine that the file was made on: only its last part is kept, as a name.
    path = pc.struct_field(array, "path").cast(pa.string())
    path = pc.utf8_slice_codeunits(pc.replace_substring_regex(path, r"^.*[/\\]", ""), 0, LONGEST_NAME)
    return pa.StructArray.from_arrays([data, path], fields=list(IMAGE), mask=pc.is_null(data))


def _cleaned(convert: Convert, source: Source, name: str, problems: Problems) -> Convert:
    """Pictures that no browser shows, or models do not read, are written anew; the rest stays byte for byte."""

    def clean(array: pa.Array) -> pa.Array:
        values = convert(array)
        changed: dict[int, bytes] = {}
        for place, value in enumerate(values):
            data = value["bytes"].as_py() if value.is_valid else b""
            try:
                if not data or pictures.is_usual(data, source.limits.image_pixels):
                    continue
                made = pictures.cleaned(data, source.limits.image_pixels)
            except pictures.Unreadable as error:
                raise BadCell(place, error.why, error.hint) from error
            changed[place] = made.data
            for note in made.notes:
                problems.warn(
                    note,
                    f"Pictures in “{name}” {pictures.NOTES[note]}",
                    file=source.name,
                    column=name,
                )
        if not changed:
            return values
        data = pa.array(
            [changed.get(n, each) for n, each in enumerate(values.field("bytes").to_pylist())], pa.binary()
        )
        return pa.StructArray.from_arrays(
            [data, values.field("path")], fields=list(IMAGE), mask=pc.is_null(values)
        )

    return clean


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


def _answers(array: pa.Array) -> pa.Array:
    texts = _tokens(pc.struct_field(array, "text"))
    starts = pc.struct_field(array, "answer_start").cast(ANSWERS.field("answer_start").type)
    return pa.StructArray.from_arrays([texts, starts], fields=list(ANSWERS), mask=pc.is_null(array))


def _json(array: pa.Array) -> pa.Array:
    def written(value: Any) -> str | None:
        return None if value is None else json.dumps(value, ensure_ascii=False, default=str)

    return pa.array([written(value) for value in array.to_pylist()], pa.string())


# -- what only metadata says ----------------------------------------------------------------------
class BadCell(Exception):
    """A value that is not what the schema says, by its place in the batch: `why` as the end of a sentence."""

    def __init__(
        self, place: int, why: str, hint: str = "Write the file again with what its schema says."
    ) -> None:
        super().__init__(why)
        self.place, self.why, self.hint = place, why, hint


def _written_json(array: pa.Array) -> pa.Array:
    """Texts as they are, if each is JSON."""
    texts = _text(array)
    for place, text in enumerate(texts.to_pylist()):
        try:
            if text is not None:
                json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadCell(place, "is not JSON, as the file says that it is") from error
    return texts


def _tags(array: pa.Array, names: list[str]) -> pa.Array:
    """Lists of names for lists of numbers."""
    lists = array.cast(pa.list_(pa.int64()))
    codes = lists.flatten()
    known = pc.fill_null(pc.and_(pc.greater_equal(codes, 0), pc.less(codes, len(names))), False)
    if not pc.all(known, min_count=0).as_py():
        first = pc.index(known, False).as_py()
        place = pc.list_parent_indices(lists)[first].as_py()
        raise BadCell(place, f"has the class {codes[first].as_py()}, and the schema names {len(names):,}")
    return _relisted(lists, pa.array(names, pa.string()).take(codes))


def _tokens(array: pa.Array) -> pa.Array:
    return _relisted(array, _text(array.flatten()))


def _relisted(lists: pa.Array, items: pa.Array) -> pa.Array:
    """Lists as long as those given, of other items; flattening passes over nulls, as the offsets made anew do."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate(([0], np.cumsum(lengths))), pa.int32())
    return pa.ListArray.from_arrays(offsets, items, mask=pc.is_null(lists))


def _objects(array: pa.Array, names: list[str]) -> pa.Array:
    boxes = pc.struct_field(array, "bbox").cast(pa.list_(BOX))
    category = _tags(pc.struct_field(array, "category"), names)
    return pa.StructArray.from_arrays([boxes, category], fields=list(OBJECTS), mask=pc.is_null(array))


SAID: dict[str, Callable[[Said], Convert]] = {  # kinds that a type alone does not tell
    "json": lambda said: _written_json,
    "audio": lambda said: _media,
    "mask": lambda said: _media,
    "tokens": lambda said: _tokens,
    "tags": lambda said: lambda array: _tags(array, said.names),
    "objects": lambda said: lambda array: _objects(array, said.names),
}


FORMAT = Parquet()
