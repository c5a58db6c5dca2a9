"""What layouts of pictures and recordings share: reading the files, checking each, batches of bounded size."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import Any, TypeVar

import pyarrow as pa

from webapp.datasets import pictures, recordings
from webapp.datasets.archives import Tree
from webapp.datasets.formats.common import BATCH_BYTES, MAX_BATCH_ROWS
from webapp.datasets.layouts.common import (
    PICTURES,
    RECORDINGS,
    Files,
    LeftOut,
    Place,
    folders,
    split_of_folder,
    with_extension,
)
from webapp.datasets.pictures import Unreadable
from webapp.datasets.splits import SPLIT_WORDS

MOST_THREADS = 4
LARGE_FILE = 16 << 20  # bytes of one that is not read beside others
LARGEST_FILE = 512 << 20  # bytes of one picture or recording
EXTENSIONS = {"image": PICTURES, "audio": RECORDINGS}
Thing = TypeVar("Thing")
NAMES = {"image": "pictures", "audio": "recordings"}


def media_kind(tree: Tree) -> str:
    """image or audio, whichever there are more of; empty if there are neither."""
    counts = {kind: len(with_extension(tree, *extensions)) for kind, extensions in EXTENSIONS.items()}
    best = max(counts, key=lambda kind: counts[kind])
    return best if counts[best] else ""


class MediaReader:
    """Reads the pictures or recordings of a tree, leaves out what cannot be used, and tells of it in the end."""

    def __init__(self, tree: Tree, place: Place, kind: str) -> None:
        self.tree, self.place, self.kind = tree, place, kind
        self.files: Files = with_extension(tree, *EXTENSIONS[kind])
        self.left_out = LeftOut(tree, place.problems, NAMES[kind])
        self.kept = 0
        self._notes: dict[str, list[str]] = {}

    def read(self, path: str, annotated: tuple[int, int] | None = None) -> dict[str, Any] | None:
        """{"bytes", "path"} and for pictures "size"; None if it is left out."""
        return self._noted(path, self._looked_into(path, annotated))

    def each(
        self, wanted: Iterable[tuple[Thing, str, tuple[int, int] | None]]
    ) -> Iterator[tuple[Thing, dict[str, Any] | None]]:
        """As `read` of each (thing, path, annotated), in this order, with the thing; by as many threads as there are cores.

        Decoding leaves the others room to run. No more than a few files are in memory, and large ones one at a time.
        """
        cores = min(MOST_THREADS, os.cpu_count() or 1)
        waiting: deque[tuple[Thing, str, Future[dict[str, Any] | Unreadable]]] = deque()
        with ThreadPoolExecutor(cores, thread_name_prefix="media") as pool:
            for thing, path, annotated in wanted:
                large = self.files[path].stat().st_size > LARGE_FILE
                while waiting and (large or len(waiting) >= 2 * cores):
                    known, before, found = waiting.popleft()
                    yield known, self._noted(before, found.result())
                if large:
                    yield thing, self.read(path, annotated)
                else:
                    waiting.append((thing, path, pool.submit(self._looked_into, path, annotated)))
            for known, before, found in waiting:
                yield known, self._noted(before, found.result())

    def _noted(self, path: str, found: dict[str, Any] | Unreadable) -> dict[str, Any] | None:
        if isinstance(found, Unreadable):
            self.left_out.add(path, found.why, found.hint)
            return None
        for note in found.pop("notes", ()):
            self._notes.setdefault(note, []).append(path)
        self.kept += 1
        return found

    def _looked_into(self, path: str, annotated: tuple[int, int] | None) -> dict[str, Any] | Unreadable:
        """What `read` gives, with notes, or why not; changes nothing, so several threads may do it."""
        try:
            file = self.files[path]
            if file.stat().st_size > LARGEST_FILE:
                raise Unreadable(f"is larger than {LARGEST_FILE >> 20} MB", "Make it smaller or take it out.")
            data = file.read_bytes()
            if not data:
                raise Unreadable("is empty", "Take it out, or pack it again.")
            if self.kind == "audio":
                recordings.look_into(data, whole=True)
                return {"bytes": data, "path": _name(path)}
            clean = pictures.cleaned(data, self.place.limits.image_pixels, annotated)
            size = (clean.width, clean.height)
            return {"bytes": clean.data, "path": _name(path), "size": size, "notes": clean.notes}
        except Unreadable as error:
            return error

    def close(self) -> None:
        """Say what was done and what was left out; raises Refused if nothing is left."""
        for note, paths in self._notes.items():
            self.place.problems.warn(
                note,
                f"{len(paths):,} of the pictures, such as “{paths[0]}”, {pictures.NOTES[note]}",
                file=self.tree.name,
                count=len(paths),
            )
        self.left_out.close(self.kept)


def _name(path: str) -> str:
    return PurePosixPath(path).name


def by_split(paths: Iterable[str]) -> dict[str, list[str]]:
    """Files by the split that their folders tell; all together where none is for training."""
    found: dict[str, list[str]] = {}
    for path in paths:
        found.setdefault(split_of_folder(path), []).append(path)
    if len(found) > 1 and "train" not in found and "" not in found:
        return {"": [path for group in found.values() for path in group]}
    return found


def classes(paths: Iterable[str]) -> dict[str, str]:
    """{path: the folder that names its class}; empty if the folders do not tell classes apart."""
    named = {path: [f for f in folders(path) if f.lower() not in SPLIT_WORDS] for path in paths}
    found = {path: names[-1] for path, names in named.items() if names}
    return found if len(set(found.values())) > 1 else {}


def batches(rows: Iterable[tuple[dict[str, Any], int]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Rows, each with about how many bytes it has, in batches that fit into memory."""
    held: list[dict[str, Any]] = []
    weight = 0
    for row, size in rows:
        held.append(row)
        weight += size
        if weight >= BATCH_BYTES or len(held) >= MAX_BATCH_ROWS:
            yield pa.RecordBatch.from_pylist(held, schema=schema)
            held, weight = [], 0
    if held:
        yield pa.RecordBatch.from_pylist(held, schema=schema)
