"""Pictures with a mask each, in folders of their own: images/ and masks/, JPEGImages/ and SegmentationClass/.

Every mask is looked at once before anything is written: which values there are decides what they are called, and whether
255 is a class (masks of two values) or means that a pixel does not count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from webapp.datasets import masks
from webapp.datasets.archives import Tree
from webapp.datasets.formats.common import Opened, field_of
from webapp.datasets.layouts.class_files import Classes, read_classes
from webapp.datasets.layouts.common import (
    PICTURES,
    Layout,
    LeftOut,
    Part,
    Place,
    folders,
    split_of_folder,
    stem,
    with_extension,
)
from webapp.datasets.layouts.media import LARGEST_FILE, MediaReader, batches
from webapp.datasets.layouts.voc import listed_splits
from webapp.datasets.masks import IGNORED
from webapp.datasets.pictures import Unreadable
from webapp.datasets.problems import Refused
from webapp.datasets.tallies import MaskTally

SCHEMA = pa.schema([field_of("image", "image"), field_of("mask", "mask")])
SURE = frozenset(("masks", "mask", "segmentationclass", "segmentation_masks", "segmentation_mask"))
LIKELY = frozenset(("labels", "label", "annotations", "gt", "ground_truth", "groundtruth", "segmentation", "segmentations", "targets"))  # fmt: skip
OF_PICTURES = frozenset(("images", "image", "imgs", "img", "jpegimages", "photos", "pictures", "inputs"))
ENDINGS = ("_mask", "-mask", "_masks", "_label", "_seg", "_gt")
LOSSLESS = (".png", ".gif", ".bmp", ".tif", ".tiff")
# Of Pascal VOC's own archives, which do not say it.
VOC = [
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]  # fmt: skip


@dataclass
class Pair:
    """A picture with its mask. `size` and `present` ([256], of values) are those of the mask."""

    picture: str
    mask: str
    split: str
    size: tuple[int, int] = (0, 0)
    present: Any = None
    plain: bool = False  # in the form that is kept, up to its values


@dataclass(frozen=True)
class Plan:
    """What the values of all masks become. `table` [256]: value in a file → number of the class, or IGNORED."""

    names: list[str]
    table: np.ndarray[Any, np.dtype[np.uint8]]
    known: np.ndarray[Any, np.dtype[np.bool_]]  # [256]


class Masks(Layout):
    slug = "masks"
    title = "pictures with masks (images/ and masks/, or JPEGImages/ and SegmentationClass/)"

    def recognises(self, tree: Tree) -> float:
        found, lonely = _pairs(tree)
        return 0.9 if len(found) > len(lonely) else 0.0

    def open(self, tree: Tree, place: Place) -> Iterator[Part]:
        found, lonely = _pairs(tree)
        if lonely:
            place.problems.warn(
                "missing_media",
                f"{len(lonely):,} masks have no picture of the same name, such as “{lonely[0]}”; they were left out.",
                "Pack the pictures too.",
                file=lonely[0],
                count=len(lonely),
            )
        used = {path for pair in found for path in (pair.picture, pair.mask)} | set(lonely)
        if unused := [path for path in with_extension(tree, *PICTURES) if path not in used]:
            place.problems.warn(
                "unused_files",
                f"{len(unused):,} of the pictures have no mask, such as “{unused[0]}”; they were left out.",
                file=tree.name,
                count=len(unused),
            )
        classes = read_classes(tree)
        if not classes.names and any("voc20" in path.lower() for path in tree.files):
            classes = Classes(dict(enumerate(VOC)))
        left_out = LeftOut(tree, place.problems, "masks")
        pairs = _looked_at(tree, place, found, classes, left_out)
        plan = _plan(pairs, classes, tree, place)
        yield from _parts(tree, place, pairs, classes, plan, left_out)


def _pairs(tree: Tree) -> tuple[list[Pair], list[str]]:
    """(pictures with the mask of the same name, masks without a picture)"""
    paths = list(with_extension(tree, *PICTURES))
    of_masks = [path for path in paths if _is_mask(path)]
    pictures: dict[tuple[str, ...], str] = {}
    by_stem: dict[str, list[str]] = {}
    for path in set(paths) - set(of_masks):
        pictures[_key(path, OF_PICTURES)] = path
        by_stem.setdefault(stem(path), []).append(path)
    listed = listed_splits(tree, "segmentation")
    found, lonely = [], []
    for path in of_masks:
        key = _key(path, SURE | LIKELY)
        same = by_stem.get(key[-1], [])
        picture = pictures.get(key) or (same[0] if len(same) == 1 else None)
        if picture is None:
            if "segmentationobject" not in path.lower():
                lonely.append(path)
            continue
        found.append(Pair(picture, path, listed.get(stem(picture), "") or split_of_folder(picture)))
    if listed and any(not pair.split for pair in found):
        for pair in found:
            pair.split = pair.split or "train"
    return found, lonely


def _is_mask(path: str) -> bool:
    names = {folder.lower() for folder in folders(path)}
    if names & SURE:
        return True
    likely = bool(names & LIKELY) or stem(path).lower().endswith(ENDINGS)
    return likely and path.lower().endswith(LOSSLESS)


def _key(path: str, left_out: frozenset[str]) -> tuple[str, ...]:
    """What a picture and its mask have in common: the folders but for those that tell them apart, and the name."""
    name = stem(path)
    ending = next((each for each in ENDINGS if name.lower().endswith(each)), "")
    if left_out is not OF_PICTURES and ending:
        name = name[: -len(ending)]
    return (*(folder.lower() for folder in folders(path) if folder.lower() not in left_out), name)


def _read(tree: Tree, path: str) -> bytes:
    file = tree.files[path]
    if file.stat().st_size > LARGEST_FILE:
        raise Unreadable(f"is larger than {LARGEST_FILE >> 20} MB", "Make it smaller or take it out.")
    return file.read_bytes()


def _looked_at(
    tree: Tree, place: Place, found: list[Pair], classes: Classes, left_out: LeftOut
) -> list[Pair]:
    """The pairs whose masks can be read, with what stands in those; raises Refused if they are in unknown colours."""
    kept = []
    for number, pair in enumerate(found, start=1):
        place.progress(number, 2 * len(found))
        try:
            data = _read(tree, pair.mask)
            values = masks.opened(data, place.limits.image_pixels, classes.colours)
        except masks.Coloured as error:
            raise Refused(
                "coloured_masks",
                f"“{pair.mask}” {error.why}.",
                "Add a classes.csv with the columns name, r, g and b, or save the masks with one channel, whose values "
                "are the numbers of the classes.",
                file=pair.mask,
            ) from error
        except Unreadable as error:
            left_out.add(pair.mask, error.why, error.hint)
            continue
        pair.size = (values.shape[1], values.shape[0])
        pair.present = np.bincount(values.ravel(), minlength=256) > 0
        pair.plain = masks.size_of(data) is not None and data.endswith(masks.END) and not classes.colours
        kept.append(pair)
    if not kept:
        left_out.close(0)
    return kept


def _plan(pairs: list[Pair], classes: Classes, tree: Tree, place: Place) -> Plan:
    present = np.any([pair.present for pair in pairs], axis=0)
    values = set(np.flatnonzero(present).tolist())
    named = dict(classes.names)
    if not named and IGNORED in values and values <= {0, IGNORED}:
        named = {0: "background", IGNORED: "marked"}
        place.problems.warn(
            "two_values",
            "The masks have no values but 0 and 255; 255 was taken for what is marked.",
            "Add a classes.txt that names the values if they mean something else.",
            file=tree.name,
        )
    elif not named:
        named = {value: str(value) for value in values - {IGNORED}} or {0: "0"}
        place.problems.warn(
            "no_class_names",
            "No file says what the classes are called; they are called by their values.",
            "Add a classes.txt with a name a line, in the order of the values, or a value and a name.",
            file=tree.name,
        )
    names: list[str] = []
    table = np.full(256, IGNORED, np.uint8)
    known = np.zeros(256, np.bool_)
    for value, name in sorted(named.items()):
        if name not in names:
            names.append(name)
        table[value], known[value] = names.index(name), True
    if len(names) > IGNORED:
        raise Refused(
            "too_many_classes",
            f"The masks have {len(names):,} classes; at most {IGNORED} can be told apart.",
            "Join classes.",
            file=classes.path or tree.name,
        )
    known[IGNORED] = True
    return Plan(names, table, known)


def _parts(
    tree: Tree, place: Place, pairs: list[Pair], classes: Classes, plan: Plan, left_out: LeftOut
) -> Iterator[Part]:
    reader = MediaReader(tree, place, "image")
    by_split: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_split.setdefault(pair.split, []).append(pair)
    done = kept = 0
    for split, group in by_split.items():
        tally = MaskTally(place.limits)
        rows = _rows(tree, reader, group, classes, plan, tally, left_out, (done, len(pairs)))
        done += len(group)
        yield Part(
            f"{tree.name}/{split}" if split else tree.name,
            split,
            Opened(SCHEMA, batches(rows, SCHEMA), class_names={"mask": plan.names}, tallies={"mask": tally}),
        )
        kept += tally.count
    left_out.close(kept)
    reader.close()


def _rows(
    tree: Tree, reader: MediaReader, group: list[Pair], classes: Classes, plan: Plan, tally: MaskTally,
    left_out: LeftOut, progress: tuple[int, int],
) -> Iterator[tuple[dict[str, Any], int]]:  # fmt: skip
    before, total = progress
    for number, pair in enumerate(group, start=1):
        reader.place.progress(total + before + number, 2 * total)
        found = reader.read(pair.picture, pair.size)
        if found is None:
            continue
        if found["size"] != pair.size:
            sizes = [f"{width:,} × {height:,}" for width, height in (pair.size, found["size"])]
            left_out.add(
                pair.mask,
                f"is {sizes[0]} pixels large and its picture {sizes[1]}",
                "Save the mask in the size of its picture.",
            )
            continue
        data = _read(tree, pair.mask)
        values = np.flatnonzero(pair.present)
        if not pair.plain or (plan.table[values] != values).any():
            most = reader.place.limits.image_pixels
            data = masks.written(plan.table[masks.opened(data, most, classes.colours)])
        if unknown := [int(value) for value in values if not plan.known[value]]:
            tally.note_unknown(pair.mask, hashlib.sha256(data).hexdigest(), unknown)
        media = {"bytes": found["bytes"], "path": found["path"]}
        mask = {"bytes": data, "path": PurePosixPath(pair.mask).name}
        yield {"image": media, "mask": mask}, len(found["bytes"]) + len(data)


LAYOUT = Masks()
