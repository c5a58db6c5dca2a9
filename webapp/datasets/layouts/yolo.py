"""Pictures with boxes in YOLO's form: a .txt a picture (class x y width height as shares), names in data.yaml."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import yaml

from webapp.datasets.archives import Tree
from webapp.datasets.layouts.common import (
    PICTURES,
    Layout,
    Part,
    Place,
    folders,
    read_text,
    split_of_folder,
    with_extension,
)
from webapp.datasets.layouts.marked import Box, Marked, parts
from webapp.datasets.problems import Refused, shown

LARGEST_TEXT = 4 << 20  # bytes
LONGEST_NAME = 100
LOOKED_AT = 20  # texts by which the form is known
LINE = re.compile(r"\d+(\s+-?[\d.]+(e-?\d+)?){4,}\s*", re.IGNORECASE)
NAMES_FILES = ("classes.txt", "obj.names", "names.txt", "labels.txt")


class Yolo(Layout):
    slug = "yolo"
    title = "pictures with boxes: YOLO (a .txt a picture, and data.yaml)"

    def recognises(self, tree: Tree) -> float:
        texts = [text for path in with_extension(tree, *PICTURES) if (text := _text_of(tree, path))]
        heads = [_head(tree, text) for text in texts[:LOOKED_AT]]
        numbers = [head for head in heads if head.strip()]
        if not numbers or not all(LINE.fullmatch(head.splitlines()[0]) for head in numbers):
            return 0.0
        return 0.9

    def open(self, tree: Tree, place: Place) -> Iterator[Part]:
        names = _names(tree)
        if not names:
            place.problems.warn(
                "no_class_names",
                "No data.yaml says what the classes are called; they are called by their numbers.",
                "Pack the data.yaml too, with names: [first, second, …].",
                file=tree.name,
            )
        marked = []
        for path in with_extension(tree, *PICTURES):
            text = _text_of(tree, path)
            # A picture without a text has nothing marked on it: YOLO calls it background.
            boxes = _boxes(tree, text, names) if text else []
            marked.append(Marked(path, split_of_folder(path), boxes, relative=True))
        yield from parts(tree, place, marked)


def _text_of(tree: Tree, picture: str) -> str:
    """The text beside a picture, or in a folder `labels` where the picture is in `images`."""
    beside = PurePosixPath(picture).with_suffix(".txt")
    swapped = PurePosixPath(
        *("labels" if f.lower() == "images" else f for f in folders(picture)), beside.name
    )
    return next((str(path) for path in (swapped, beside) if str(path) in tree.files), "")


def _head(tree: Tree, path: str) -> str:
    with tree.files[path].open("rb") as opened:
        return opened.read(2000).decode("utf-8", "replace")


def _names(tree: Tree) -> dict[int, str]:
    for path in with_extension(tree, ".yaml", ".yml"):
        try:
            said: Any = yaml.safe_load(read_text(tree, path, LARGEST_TEXT))
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise Refused(
                "bad_annotation", "The file is not YAML that can be read.", "Write it again.", file=path
            ) from error
        found = said.get("names") if isinstance(said, dict) else None
        each = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
        if not all(
            isinstance(name, str | int | float) for name in each
        ):  # lists in lists write out without end
            raise Refused(
                "bad_annotation",
                "The names of the classes are no texts.",
                "Write them as a list: names: [cat, dog].",
                file=path,
            )
        if isinstance(found, list):
            return {number: _name(name) for number, name in enumerate(found)}
        if isinstance(found, dict):
            return {int(number): _name(name) for number, name in found.items() if str(number).isdecimal()}
    for path in tree.files:
        if PurePosixPath(path).name.lower() in NAMES_FILES:
            lines = read_text(tree, path, LARGEST_TEXT).splitlines()
            return {number: _name(line) for number, line in enumerate(lines) if line.strip()}
    return {}


def _name(said: Any) -> str:
    return " ".join(str(said).split())[:LONGEST_NAME] or "unnamed"


def _boxes(tree: Tree, path: str, names: dict[int, str]) -> list[Box]:
    found: list[Box] = []
    for number, line in enumerate(read_text(tree, path, LARGEST_TEXT).splitlines(), start=1):
        if not line.strip():
            continue
        if not LINE.fullmatch(line.strip()):
            raise _bad(path, number, f"{shown(line)} is not a class and four numbers")
        code, *numbers = line.split()
        try:
            values = [float(each) for each in numbers]
        except ValueError as error:
            raise _bad(path, number, f"{shown(line)} is not a class and four numbers") from error
        if names and int(code) not in names:
            raise _bad(path, number, f"there is no class {code} in data.yaml")
        x, y, width, height = values[:4] if len(values) < 6 else _around(values)
        found.append((x, y, width, height, names.get(int(code), code)))
    return found


def _around(outline: list[float]) -> tuple[float, float, float, float]:
    """The box around the outline of a segmentation: middle, width and height."""
    xs, ys = outline[0::2], outline[1::2]
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, max(xs) - min(xs), max(ys) - min(ys)


def _bad(path: str, line: int, what: str) -> Refused:
    return Refused(
        "bad_annotation",
        f"In line {line:,}, {what}.",
        "Write class, x and y of the middle, width and height, as shares of the picture.",
        file=path,
        row=line,
    )


LAYOUT = Yolo()
