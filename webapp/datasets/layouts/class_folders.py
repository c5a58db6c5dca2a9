"""Pictures or recordings in folders: the folder is the class, a folder above or below it the split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from webapp.datasets.archives import Tree
from webapp.datasets.formats.common import Opened, field_of
from webapp.datasets.layouts.common import Layout, Part, Place, is_companion
from webapp.datasets.layouts.media import (
    EXTENSIONS,
    NAMES,
    MediaReader,
    batches,
    by_split,
    classes,
    media_kind,
)


class ClassFolders(Layout):
    slug = "class-folders"
    title = "pictures or recordings, a folder a class"

    def recognises(self, tree: Tree) -> float:
        return 0.6 if media_kind(tree) else 0.0

    def open(self, tree: Tree, place: Place) -> Iterator[Part]:
        kind = media_kind(tree)
        reader = MediaReader(tree, place, kind)
        labels = classes(reader.files)
        if not labels:
            place.problems.warn(
                "no_classes",
                f"The {NAMES[kind]} lie in no folders that name classes.",
                "To sort them, put those of each class into a folder of their own, or add a metadata.csv.",
                file=tree.name,
            )
        unused = [
            path
            for path in tree.files
            if not path.lower().endswith(EXTENSIONS[kind]) and not is_companion(path)
        ]
        if unused:
            place.problems.warn(
                "unused_files",
                f"{len(unused):,} file{'s' if len(unused) > 1 else ''} beside the {NAMES[kind]} "
                f"{'were' if len(unused) > 1 else 'was'} not used, such as “{unused[0]}”.",
                file=tree.name,
                count=len(unused),
            )
        schema = pa.schema([field_of(kind, kind), *([field_of("label", "label")] if labels else [])])
        splits = by_split(reader.files)
        done = 0
        for split, paths in splits.items():
            rows = _rows(reader, paths, labels, done)
            done += len(paths)
            yield Part(
                f"{tree.name}/{split}" if split else tree.name, split, Opened(schema, batches(rows, schema))
            )
        reader.close()


def _rows(
    reader: MediaReader, paths: list[str], labels: dict[str, str], before: int
) -> Iterator[tuple[dict[str, Any], int]]:
    wanted = ((path, path, None) for path in paths)
    for number, (path, found) in enumerate(reader.each(wanted), start=1):
        if found is not None:
            row = {reader.kind: {"bytes": found["bytes"], "path": found["path"]}}
            yield (row | {"label": labels.get(path)} if labels else row), len(found["bytes"])
        reader.place.progress(before + number, len(reader.files))


LAYOUT = ClassFolders()
