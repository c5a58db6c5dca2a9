"""Pictures with boxes in COCO's form: one JSON file, or one a split, with images, annotations and categories."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from webapp.datasets.archives import Tree
from webapp.datasets.layouts.common import (
    PICTURES,
    Layout,
    Part,
    Place,
    folders,
    split_of_path,
    with_extension,
)
from webapp.datasets.layouts.marked import Marked, parts
from webapp.datasets.layouts.metadata import Names
from webapp.datasets.problems import Refused, shown

LARGEST_JSON = 256 << 20  # bytes; it is read whole
HEAD = 64 << 10
LONGEST_NAME = 100
KEYS = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')


class Coco(Layout):
    slug = "coco"
    title = "pictures with boxes: COCO (a .json with images, annotations and categories)"

    def recognises(self, tree: Tree) -> float:
        return 0.95 if with_extension(tree, *PICTURES) and _documents(tree) else 0.0

    def open(self, tree: Tree, place: Place) -> Iterator[Part]:
        names = Names(list(with_extension(tree, *PICTURES)))
        marked: list[Marked] = []
        for path in _documents(tree):
            try:
                marked += _read(tree, path, names, place)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise _bad(path, f"something is missing or of another form ({shown(str(error))})") from error
        yield from parts(tree, place, marked)


def _documents(tree: Tree) -> list[str]:
    found = []
    for path, place in with_extension(tree, ".json").items():
        with place.open("rb") as opened:
            if KEYS.search(opened.read(HEAD)):
                found.append(path)
    return found


def _bad(path: str, what: str) -> Refused:
    return Refused(
        "bad_annotation",
        f"The file is not COCO's form: {what}.",
        "It needs images (id, file_name), annotations (image_id, category_id, bbox) and categories (id, name).",
        file=path,
    )


def _read(tree: Tree, path: str, names: Names, place: Place) -> list[Marked]:
    if tree.files[path].stat().st_size > LARGEST_JSON:
        raise Refused(
            "huge_value",
            f"The file is larger than {LARGEST_JSON >> 20} MB.",
            "Leave segmentations out, or write a file a split.",
            file=path,
        )
    try:
        said = json.loads(tree.files[path].read_bytes())
    except (ValueError, RecursionError) as error:
        raise _bad(path, "it is no JSON") from error
    categories = {
        item["id"]: " ".join(str(item["name"]).split())[:LONGEST_NAME] for item in said["categories"]
    }
    split = split_of_path(path)
    by_id: dict[Any, Marked] = {}
    for item in said["images"]:
        picture = names.find(item["file_name"], "/".join(folders(path)))
        if picture is None:
            place.problems.warn(
                "missing_media",
                f"It names {shown(str(item['file_name']))}, which is not in the archive; such pictures were left out.",
                "Pack the pictures too.",
                file=path,
            )
            continue
        size = (int(item["width"]), int(item["height"])) if item.get("width") and item.get("height") else None
        by_id[item["id"]] = Marked(picture, split or split_of_path(picture), size=size)
    for item in said.get("annotations", []):
        marked = by_id.get(item["image_id"])
        if marked is not None and item.get("bbox"):
            x, y, width, height = (float(number) for number in item["bbox"])
            marked.boxes.append((x, y, width, height, categories[item["category_id"]]))
    return list(by_id.values())


LAYOUT = Coco()
