"""Pictures with boxes in Pascal VOC's form: an XML file a picture, and lists of names in ImageSets for the splits."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element, ParseError

from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from webapp.datasets.archives import Tree
from webapp.datasets.layouts.common import (
    PICTURES,
    Layout,
    Part,
    Place,
    read_text,
    split_of_folder,
    stem,
    with_extension,
)
from webapp.datasets.layouts.marked import Box, Marked, parts
from webapp.datasets.problems import Refused, shown
from webapp.datasets.splits import SPLIT_WORDS

LARGEST_XML = 4 << 20  # bytes
LARGEST_LIST = 64 << 20
LONGEST_NAME = 100  # characters of a class


class PascalVoc(Layout):
    slug = "pascal-voc"
    title = "pictures with boxes: Pascal VOC (an .xml a picture)"

    def recognises(self, tree: Tree) -> float:
        pictures = {stem(path) for path in with_extension(tree, *PICTURES)}
        described = [path for path in with_extension(tree, ".xml") if stem(path) in pictures]
        return 0.95 if pictures and len(described) >= max(1, len(pictures) / 4) else 0.0

    def open(self, tree: Tree, place: Place) -> Iterator[Part]:
        pictures = {stem(path): path for path in with_extension(tree, *PICTURES)}
        listed = listed_splits(tree)
        marked = []
        for path in with_extension(tree, ".xml"):
            picture = pictures.get(stem(path))
            if picture is None:
                place.problems.warn(
                    "missing_media",
                    f"“{path}” describes a picture that is not in the archive.",
                    "Pack the picture too, or take the description out.",
                    file=path,
                )
                continue
            split = listed.get(stem(path), "") or split_of_folder(picture)
            marked.append(_marked(tree, path, picture, split))
        if listed and any(not each.split for each in marked):
            for each in marked:
                each.split = each.split or "train"
        yield from parts(tree, place, marked)


def listed_splits(tree: Tree, folder: str = "imagesets") -> dict[str, str]:
    """{name of a picture: its split} by ImageSets/Main/train.txt and the like; lists a class are passed over.

    `folder`: a part of the path of the lists, in small letters.
    """
    found: dict[str, str] = {}
    for path in with_extension(tree, ".txt"):
        split = SPLIT_WORDS.get(stem(path).lower())
        if split and "imagesets" in path.lower() and folder in path.lower():
            for line in read_text(tree, path, LARGEST_LIST).splitlines():
                if line.strip():
                    found.setdefault(line.split()[0], split)
    return found


def _marked(tree: Tree, path: str, picture: str, split: str) -> Marked:
    try:
        root = ElementTree.fromstring(read_text(tree, path, LARGEST_XML).strip())
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise Refused(
            "bad_annotation", "The file is not XML that can be read.", "Write it again.", file=path
        ) from error
    size = None
    if (said := root.find("size")) is not None:
        width, height = _number(said, "width", path), _number(said, "height", path)
        size = (int(width), int(height)) if width > 0 and height > 0 else None
    boxes: list[Box] = []
    for item in root.iter("object"):
        corners = item.find("bndbox")
        name = " ".join((item.findtext("name") or "").split())[:LONGEST_NAME]
        if corners is None or not name:
            raise Refused(
                "bad_annotation",
                "An object in the file has no name or no bndbox.",
                "Give each object a <name> and a <bndbox> with xmin, ymin, xmax and ymax.",
                file=path,
            )
        left, top, right, bottom = (_number(corners, each, path) for each in ("xmin", "ymin", "xmax", "ymax"))
        boxes.append((left, top, right - left, bottom - top, name))
    return Marked(picture, split, boxes, size)


def _number(element: Element, name: str, path: str) -> float:
    text = element.findtext(name) or ""
    try:
        return float(text)
    except ValueError as error:
        raise Refused(
            "bad_annotation",
            f"<{name}> is {shown(text)}, not a number.",
            "Write a number of pixels.",
            file=path,
        ) from error


LAYOUT = PascalVoc()
