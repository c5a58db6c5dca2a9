"""Pictures or recordings with a table that has a row for each: metadata.csv or .jsonl as the `datasets` library reads it.

The column that names the files is `file_name`, or any other whose values are files of the archive.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from webapp.datasets.archives import Tree
from webapp.datasets.formats import recognise
from webapp.datasets.formats.common import Opened, field_of, unique_names
from webapp.datasets.layouts.common import Layout, Part, Place, split_of_path, stem, with_extension
from webapp.datasets.layouts.media import EXTENSIONS, NAMES, MediaReader, batches, media_kind
from webapp.datasets.layouts.tables import tables_of
from webapp.datasets.problems import Refused, shown

USUAL = (
    "file_name",
    "filename",
    "file",
    "path",
    "image",
    "audio",
    "image_path",
    "audio_path",
    "id",
    "image_id",
)
MOST_TABLES = 20
LOOKED_AT = 50  # rows by which the column is found
HEAD = 64 << 10
SURROUNDINGS = re.compile(r"[,;\t|\"'\r\n{}\[\]:]+")


class Names:
    """Finds a file of the tree by what a table calls it: its path, its name, or its name without the extension."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = set(paths)
        self._by_name: dict[str, str | None] = {}
        for path in paths:
            for name in {PurePosixPath(path).name, stem(path)}:
                self._by_name[name] = None if name in self._by_name else path  # two of a name are none

    def find(self, said: Any, folder: str = "") -> str | None:
        path = "".join(c for c in str(said).replace("\\", "/") if c.isprintable()).strip().removeprefix("./")
        for candidate in (f"{folder}/{path}" if folder else path, path):
            if candidate in self.paths:
                return candidate
        return self._by_name.get(path.rsplit("/", 1)[-1])


class Metadata(Layout):
    slug = "media-with-table"
    title = "pictures or recordings with a metadata.csv or .jsonl (column file_name)"

    def recognises(self, tree: Tree) -> float:
        kind = media_kind(tree)
        return 0.8 if kind and _tables(tree, kind) else 0.0

    def open(self, tree: Tree, place: Place) -> Iterator[Part]:
        kind = media_kind(tree)
        reader = MediaReader(tree, place, kind)
        names = Names(list(reader.files))
        used: set[str] = set()
        for path in _tables(tree, kind):
            yield self._part(tree, path, place, reader, names, used)
        unused = sorted(set(reader.files) - used)
        if unused:
            place.problems.warn(
                "unused_files",
                f"{len(unused):,} of the {NAMES[kind]} are in no row of the table, such as “{unused[0]}”.",
                "Add rows for them if they are to be used.",
                file=tree.name,
                count=len(unused),
            )
        reader.close()

    def _part(
        self, tree: Tree, path: str, place: Place, reader: MediaReader, names: Names, used: set[str]
    ) -> Part:
        source = place.source(tree, path)
        table = recognise(source, place.problems).open(source, place.problems)
        folder = str(PurePosixPath(path).parent) if "/" in path else ""
        first = next(iter(table.batches), None)
        column = _file_column(first, names, folder) if first is not None else None
        if first is None or column is None:
            raise Refused(
                "no_file_column",
                f"No column of the table names the {NAMES[reader.kind]} of the archive.",
                "Write the path of each file, as it is in the archive, into a column file_name.",
                file=path,
            )
        others = [item for item in table.schema if item.name != column]
        titles = unique_names([reader.kind, *(item.name for item in others)], source, place.problems)
        renamed = dict(zip((item.name for item in others), titles[1:], strict=True))
        fields = [item.with_name(renamed[item.name]) for item in others]
        schema = pa.schema([field_of(reader.kind, reader.kind), *fields])
        rows = _rows(first, table, column, renamed, folder, path, reader, names, used)
        opened = Opened(
            schema, batches(rows, schema), table.textual, first_row=table.first_row, details=table.details
        )
        return Part(path, split_of_path(path), opened)


def _tables(tree: Tree, kind: str) -> list[str]:
    """The tables that name files of the tree: metadata.* alone where there is one."""
    candidates = tables_of(tree)
    if named := [path for path in candidates if stem(path).lower() == "metadata"]:
        return named
    names = Names(list(with_extension(tree, *EXTENSIONS[kind])))
    return [path for path in candidates[:MOST_TABLES] if _mentions(tree, path, names)]


def _mentions(tree: Tree, path: str, names: Names) -> bool:
    with tree.files[path].open("rb") as opened:
        lines = opened.read(HEAD).decode("utf-8", "replace").split("\n")[:LOOKED_AT]
    told = sum(any(names.find(word) for word in SURROUNDINGS.split(line) if len(word) > 1) for line in lines)
    return told > 0 and told >= len([line for line in lines if line.strip()]) / 2


def _file_column(batch: pa.RecordBatch, names: Names, folder: str) -> str | None:
    best: tuple[float, int, str] | None = None
    for item in batch.schema:
        if not (pa.types.is_string(item.type) or pa.types.is_integer(item.type)):
            continue
        values = [
            value for value in batch.column(item.name).slice(0, LOOKED_AT).to_pylist() if value is not None
        ]
        found = sum(names.find(value, folder) is not None for value in values) / max(1, len(values))
        usual = USUAL.index(item.name.lower()) if item.name.lower() in USUAL else len(USUAL)
        if found >= 0.5 or (found > 0 and usual == 0):
            candidate = (-found, usual, item.name)
            best = candidate if best is None else min(best, candidate)
    return best[2] if best else None


def _rows(
    first: pa.RecordBatch, table: Opened, column: str, renamed: dict[str, str], folder: str, path: str,
    reader: MediaReader, names: Names, used: set[str],
) -> Iterator[tuple[dict[str, Any], int]]:  # fmt: skip
    for row, found in reader.each(_wanted(first, table, column, folder, path, reader, names, used)):
        if found is not None:
            others = {renamed[name]: value for name, value in row.items() if name != column}
            media = {"bytes": found["bytes"], "path": found["path"]}
            yield {reader.kind: media, **others}, len(found["bytes"])


def _wanted(
    first: pa.RecordBatch, table: Opened, column: str, folder: str, path: str,
    reader: MediaReader, names: Names, used: set[str],
) -> Iterator[tuple[dict[str, Any], str, None]]:  # fmt: skip
    """Rows with the files that they name; those whose file is missing are told."""
    number = table.first_row - 1
    for batch in _after(first, table.batches):
        for row in batch.to_pylist():
            number += 1
            file = names.find(row[column], folder) if row[column] is not None else None
            if file is None:
                reader.place.problems.warn(
                    "missing_media",
                    f"Row {number:,} names {shown(str(row[column] or ''))}, which is not in the archive; "
                    "such rows were left out.",
                    "Pack the file too, or take the row out.",
                    file=path,
                    row=number,
                )
                continue
            used.add(file)
            yield row, file, None
        reader.place.progress(len(used), len(reader.files))


def _after(first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield first
    yield from rest


LAYOUT = Metadata()
