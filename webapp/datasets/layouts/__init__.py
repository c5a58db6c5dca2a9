"""Finds the layouts of archives: every module here that has a `LAYOUT` is one. Nothing else lists them."""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter
from functools import cache
from pathlib import PurePosixPath

from webapp.datasets.archives import Tree
from webapp.datasets.layouts.common import Layout
from webapp.datasets.problems import Refused

# Pictures that people have and nothing here can read safely: what they are, what to do.
UNREADABLE = {
    ".heic": (
        "a HEIC picture, as iPhones take them",
        "Convert the pictures to JPEG (on a Mac: Preview, Export).",
    ),
    ".heif": ("a HEIF picture", "Convert the pictures to JPEG."),
    ".svg": ("an SVG drawing, which is a program rather than a picture", "Export the drawings as PNG."),
}


@cache
def all_layouts() -> tuple[Layout, ...]:
    """Every layout, by title."""
    found: list[Layout] = []
    for module in pkgutil.iter_modules(__path__):
        candidate = getattr(importlib.import_module(f"{__name__}.{module.name}"), "LAYOUT", None)
        if isinstance(candidate, Layout):
            found.append(candidate)
    return tuple(sorted(found, key=lambda each: each.title))


def recognise(tree: Tree) -> Layout:
    """How the files of a tree are arranged; raises Refused if in no way that is known."""
    for path in tree.files:
        if reason := UNREADABLE.get(PurePosixPath(path).suffix.lower()):
            what, advice = reason
            raise Refused("unreadable_picture", f"“{path}” is {what}; it cannot be used.", advice, file=path)
    sure, best = max(((each.recognises(tree), each) for each in all_layouts()), key=lambda pair: pair[0])
    if sure <= 0:
        kinds = Counter(PurePosixPath(path).suffix.lower() or "no extension" for path in tree.files)
        told = ", ".join(f"{count:,} × {kind}" for kind, count in kinds.most_common(5))
        titles = "; ".join(each.title for each in all_layouts())
        raise Refused(
            "unknown_layout",
            f"The archive holds files that are arranged in no way that is known here ({told}).",
            f"Arrange them as one of: {titles}.",
            file=tree.name,
        )
    return best
