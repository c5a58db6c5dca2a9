"""Pictures or recordings with a text file of the same name beside each: a caption, or what is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from webapp.datasets.archives import Tree
from webapp.datasets.formats.common import Opened, field_of
from webapp.datasets.layouts.common import Layout, Part, Place, read_text
from webapp.datasets.layouts.media import EXTENSIONS, NAMES, MediaReader, batches, by_split, media_kind

LONGEST = 1 << 20  # bytes of a caption
COLUMN = {"image": "caption", "audio": "transcription"}


class Captions(Layout):
    slug = "media-with-texts"
    title = "pictures or recordings with a .txt of the same name each"

    def recognises(self, tree: Tree) -> float:
        kind = media_kind(tree)
        if not kind:
            return 0.0
        paths = [path for path in tree.files if path.lower().endswith(EXTENSIONS[kind])]
        return 0.7 if sum(text_of(path) in tree.files for path in paths) > len(paths) / 2 else 0.0

    def open(self, tree: Tree, place: Place) -> Iterator[Part]:
        kind = media_kind(tree)
        reader = MediaReader(tree, place, kind)
        lonely = [path for path in reader.files if text_of(path) not in tree.files]
        if lonely:
            place.problems.warn(
                "missing_text",
                f"{len(lonely):,} of the {NAMES[kind]} have no text of the same name, such as “{lonely[0]}”.",
                "Add the texts, or runs leave those rows out.",
                file=tree.name,
                count=len(lonely),
            )
        schema = pa.schema([field_of(kind, kind), field_of(COLUMN[kind], "text")])
        done = 0
        for split, paths in by_split(reader.files).items():
            rows = _rows(tree, reader, paths, done)
            done += len(paths)
            yield Part(
                f"{tree.name}/{split}" if split else tree.name, split, Opened(schema, batches(rows, schema))
            )
        reader.close()


def text_of(path: str) -> str:
    return str(PurePosixPath(path).with_suffix(".txt"))


def _rows(
    tree: Tree, reader: MediaReader, paths: list[str], before: int
) -> Iterator[tuple[dict[str, Any], int]]:
    wanted = ((path, path, None) for path in paths)
    for number, (path, found) in enumerate(reader.each(wanted), start=1):
        if found is not None:
            beside = text_of(path)
            text = read_text(tree, beside, LONGEST).strip() if beside in tree.files else ""
            media = {"bytes": found["bytes"], "path": found["path"]}
            yield {reader.kind: media, COLUMN[reader.kind]: text or None}, len(found["bytes"])
        reader.place.progress(before + number, len(reader.files))


LAYOUT = Captions()
