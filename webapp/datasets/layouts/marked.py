"""What layouts of pictures with boxes share: a row a picture, its boxes as `objects`, those outside told."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from webapp.datasets.archives import Tree
from webapp.datasets.formats.common import Opened, field_of
from webapp.datasets.layouts.common import Part, Place
from webapp.datasets.layouts.media import MediaReader, batches

SLACK = 1.0  # pixels: programs count from 0 or from 1, to the last pixel or behind it
BOX_BYTES = 40  # of one box in memory, about
SCHEMA = pa.schema([field_of("image", "image"), field_of("objects", "objects")])
Box = tuple[float, float, float, float, str]  # x, y, width, height, category


@dataclass
class Marked:
    """A picture with what is marked on it."""

    path: str
    split: str
    boxes: list[Box] = field(default_factory=list)
    size: tuple[int, int] | None = None  # that the boxes were drawn on, where it is said
    relative: bool = False  # boxes as shares of the picture, by their middle (YOLO)


class Outside:
    """Boxes that do not lie on their picture: cut to it, or left out where nothing is left."""

    def __init__(self) -> None:
        self.cut = self.empty = 0
        self.first_cut = self.first_empty = ""

    def fitted(self, marked: Marked, width: int, height: int) -> list[Box]:
        found = []
        for x, y, w, h, category in marked.boxes:
            if marked.relative:
                x, y, w, h = (x - w / 2) * width, (y - h / 2) * height, w * width, h * height
            inside = _inside(x, y, w, h, width, height)
            if inside is None:
                self.empty += 1
                self.first_empty = self.first_empty or marked.path
                continue
            if x < -SLACK or y < -SLACK or x + w > width + SLACK or y + h > height + SLACK:
                self.cut += 1
                self.first_cut = self.first_cut or marked.path
            found.append((*inside, category))
        return found

    def tell(self, place: Place) -> None:
        if self.cut:
            place.problems.warn(
                "boxes_outside",
                f"{self.cut:,} box{'es reach' if self.cut > 1 else ' reaches'} over the edge of the picture, first on "
                f"“{self.first_cut}”; they were cut to it.",
                "Look whether the boxes belong to these pictures, in this size.",
                file=self.first_cut,
                count=self.cut,
            )
        if self.empty:
            place.problems.warn(
                "boxes_empty",
                f"{self.empty:,} box{'es have' if self.empty > 1 else ' has'} no area on the picture, first on "
                f"“{self.first_empty}”; they were left out.",
                "Draw them again, or take them out.",
                file=self.first_empty,
                count=self.empty,
            )


def _inside(
    x: float, y: float, w: float, h: float, width: int, height: int
) -> tuple[float, float, float, float] | None:
    if not all(math.isfinite(number) for number in (x, y, w, h)) or w <= 0 or h <= 0:
        return None
    left, top = max(0.0, x), max(0.0, y)
    right, bottom = min(float(width), x + w), min(float(height), y + h)
    return (left, top, right - left, bottom - top) if right > left and bottom > top else None


def parts(tree: Tree, place: Place, all_marked: list[Marked]) -> Iterator[Part]:
    """A part a split. Pictures that nothing was said of are not among them, and told."""
    reader = MediaReader(tree, place, "image")
    outside = Outside()
    by_split: dict[str, list[Marked]] = {}
    for marked in all_marked:
        by_split.setdefault(marked.split, []).append(marked)
    unused = sorted(set(reader.files) - {marked.path for marked in all_marked})
    if unused:
        place.problems.warn(
            "unused_files",
            f"{len(unused):,} of the pictures have no boxes said of them, such as “{unused[0]}”; they were left out.",
            file=tree.name,
            count=len(unused),
        )
    done = 0
    for split, group in by_split.items():
        rows = _rows(reader, group, outside, done, len(all_marked))
        done += len(group)
        yield Part(
            f"{tree.name}/{split}" if split else tree.name, split, Opened(SCHEMA, batches(rows, SCHEMA))
        )
    outside.tell(place)
    reader.close()


def _rows(
    reader: MediaReader, group: list[Marked], outside: Outside, before: int, total: int
) -> Iterator[tuple[dict[str, Any], int]]:
    wanted = ((marked, marked.path, marked.size) for marked in group)
    for number, (marked, found) in enumerate(reader.each(wanted), start=1):
        if found is not None:
            boxes = outside.fitted(marked, *found["size"])
            objects = {"bbox": [list(box[:4]) for box in boxes], "category": [box[4] for box in boxes]}
            media = {"bytes": found["bytes"], "path": found["path"]}
            yield {"image": media, "objects": objects}, len(found["bytes"]) + BOX_BYTES * len(boxes)
        reader.place.progress(before + number, total)
