"""Files beside masks that say which value or which colour is which class, in the forms that people write them in.

Lists of names (labelme's class_names.txt), `0 background`, `name:r,g,b::` (CVAT's labelmap.txt), `r g b name` (CamVid), JSON
of value to name or the other way round, CSV with columns for name and value or for name, r, g and b.
"""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from webapp.datasets.archives import Tree
from webapp.datasets.layouts.common import read_text
from webapp.datasets.masks import IGNORED, Colour
from webapp.datasets.problems import Refused, shown

LARGEST = 1 << 20  # bytes
LONGEST_NAME = 100
USUAL = frozenset(
    ("classes", "_classes", "class", "class_names", "classnames", "labels", "label_names", "names", "labelmap", "label_map",
     "label_colors", "label_colours", "class_dict", "colors", "colours", "palette", "colormap", "id2label", "label2id",
     "categories", "obj")
)  # fmt: skip
EXTENSIONS = (".txt", ".json", ".csv", ".tsv", ".names")
NUMBER = r"(\d{1,3})"
SPACE = r"[\s,;]+"
WITH_COLOUR_BEHIND = re.compile(rf"(.+?)\s*:\s*{NUMBER},{NUMBER},{NUMBER}\s*(?::.*)?")
WITH_COLOUR_BEFORE = re.compile(rf"{NUMBER}{SPACE}{NUMBER}{SPACE}{NUMBER}{SPACE}(\D.*)")
VALUE_BEFORE = re.compile(rf"{NUMBER}(?:\s*[:=,;]\s*|\s+)(.+)")
VALUE_BEHIND = re.compile(rf"(.+?)(?:\s*[:=,;]\s*|\s+){NUMBER}")
IGNORED_NAMES = frozenset(
    ("ignore", "ignored", "__ignore__", "_ignore_", "void", "unlabeled", "unlabelled", "dontcare")
)


@dataclass
class Classes:
    """What a file says. `names`: {value: name}; `colours`: {colour: value}, where it speaks of colours."""

    names: dict[int, str] = field(default_factory=dict)
    colours: dict[Colour, int] = field(default_factory=dict)
    path: str = ""

    def add(self, name: Any, value: int | None = None, colour: Colour | None = None) -> None:
        said = " ".join(str(name).split())[:LONGEST_NAME] or "unnamed"
        value = len(self.names) if value is None else value
        if not 0 <= value <= IGNORED:
            return  # labelme's __ignore__ is -1
        if value == IGNORED and said.lower() in IGNORED_NAMES:
            return
        self.names[value] = said
        if colour is not None:
            self.colours[colour] = value


def class_file(tree: Tree) -> str:
    """The file of the tree that says it; empty if there is none."""
    found = [
        path
        for path in tree.files
        if PurePosixPath(path).stem.lower() in USUAL and path.lower().endswith(EXTENSIONS)
    ]
    return min(found, key=lambda path: (path.count("/"), path), default="")


def read_classes(tree: Tree) -> Classes:
    """What the class file says, nothing if there is none; raises Refused for one that makes no sense."""
    path = class_file(tree)
    if not path:
        return Classes()
    text = read_text(tree, path, LARGEST)
    try:
        if path.lower().endswith(".json"):
            classes = _of_json(json.loads(text))
        elif path.lower().endswith((".csv", ".tsv")):
            classes = _of_table(text)
        else:
            classes = _of_lines(text)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError, csv.Error) as error:
        raise _bad(path, f"something is missing or of another form ({shown(str(error))})") from error
    if not classes.names:
        raise _bad(path, "it names no class")
    classes.path = path
    return classes


def _bad(path: str, what: str) -> Refused:
    return Refused(
        "bad_annotation",
        f"The file is to say which value of a mask is which class, but {what}.",
        "Write the name of a class a line, in the order of the values, or a value and a name: 0 background.",
        file=path,
    )


def _of_lines(text: str) -> Classes:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    classes = Classes()
    if found := _matching(WITH_COLOUR_BEHIND, lines):
        for name, *colour in found:
            classes.add(name, colour=_colour(colour))
    elif found := _matching(WITH_COLOUR_BEFORE, lines):
        for *colour, name in found:
            classes.add(name, colour=_colour(colour))
    elif found := _matching(VALUE_BEFORE, lines):
        for value, name in found:
            classes.add(name, int(value))
    elif found := _matching(VALUE_BEHIND, lines):
        for name, value in found:
            classes.add(name, int(value))
    else:
        if lines and lines[0].lower() == "__ignore__":
            lines = lines[1:]
        for line in lines:
            classes.add(line)
    return classes


def _matching(form: re.Pattern[str], lines: list[str]) -> list[tuple[str, ...]]:
    """The parts of every line; empty if one line is of another form."""
    found = [form.fullmatch(line) for line in lines]
    return [each.groups() for each in found if each] if all(found) else []


def _colour(said: Any) -> Colour:
    red, green, blue = (int(part) for part in said)
    if not all(0 <= part <= 255 for part in (red, green, blue)):
        raise ValueError("a colour has parts from 0 to 255")
    return red, green, blue


def _of_json(said: Any) -> Classes:
    classes = Classes()
    if isinstance(said, dict):
        inner = next((said[key] for key in ("classes", "categories", "labels", "names") if key in said), said)
        if inner is not said and isinstance(inner, dict | list):
            return _of_json(inner)
        for key, value in said.items():
            if str(key).isdecimal():
                classes.add(value["name"] if isinstance(value, dict) else value, int(key))
            else:
                classes.add(key, int(value))
        return classes
    for number, item in enumerate(said):
        if not isinstance(item, dict):
            classes.add(item, number)
            continue
        name = item[next((key for key in ("label", "class", "title") if key in item), "name")]
        value = next((item[key] for key in ("value", "id", "index", "trainId") if key in item), number)
        colour = next((item[key] for key in ("color", "colour", "rgb") if key in item), None)
        classes.add(name, int(value), _colour(colour) if colour is not None else None)
    return classes


NAME_COLUMNS = ("name", "class", "class_name", "label", "category", "classes", "title")
VALUE_COLUMNS = ("value", "pixel value", "pixel_value", "id", "index", "number", "class_id", "label_id")


def _of_table(text: str) -> Classes:
    head = text.lstrip().split("\n", 1)[0]
    delimiter = max(",;\t|", key=head.count)
    rows = [
        [cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row
    ]
    names = [cell.lower() for cell in rows[0]]
    name = next((names.index(each) for each in NAME_COLUMNS if each in names), None)
    value = next((names.index(each) for each in VALUE_COLUMNS if each in names), None)
    colour = [names.index(each) for each in ("r", "g", "b") if each in names] or [
        names.index(each) for each in ("red", "green", "blue") if each in names
    ]
    if name is None:  # no header: as lines
        return _of_lines("\n".join(" ".join(row) for row in rows))
    classes = Classes()
    for row in rows[1:]:
        classes.add(
            row[name],
            int(row[value]) if value is not None else None,
            _colour([row[each] for each in colour]) if len(colour) == 3 else None,
        )
    return classes
