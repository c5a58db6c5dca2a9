"""What a layout is: a way in which people arrange the files of a dataset in an archive.

A layout is one module beside this one with a `LAYOUT`: an instance of a subclass of `Layout`. It turns an unpacked
tree into parts, one a split or a table, whose batches hold the same types as those of a file format
(webapp/datasets/formats/common.py). Everything after that is the same for every layout.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import ClassVar

from webapp.datasets.archives import Tree
from webapp.datasets.formats.common import Opened, Progress, Source
from webapp.datasets.limits import Limits
from webapp.datasets.problems import Problems, Refused
from webapp.datasets.splits import SPLIT_WORDS, split_of_name

PICTURES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff")
RECORDINGS = (".wav", ".flac", ".mp3", ".ogg", ".oga")
MEDIA = (*PICTURES, *RECORDINGS)
# What lies beside the examples and is none.
COMPANIONS = {
    "readme",
    "license",
    "licence",
    "copying",
    "citation",
    "notice",
    "changelog",
    "dataset_infos",
    "contributing",
}
MOST_TOLD = 10  # files that are named one by one
Files = dict[str, Path]


@dataclass
class Place:
    """Where a layout may write, and what it is told."""

    problems: Problems
    scratch: Path
    limits: Limits = field(default_factory=Limits)
    has_header: bool | None = None
    progress: Progress = lambda done, total: None

    def source(self, tree: Tree, path: str) -> Source:
        """A file of the tree as a format reads it."""
        folder = self.scratch / f"source-{len(list(self.scratch.iterdir()))}"
        folder.mkdir()
        return Source(tree.files[path], path, self.has_header, folder, self.progress, self.limits)


@dataclass
class Part:
    """Rows of one split, or of one table. `split` is empty where nothing says it."""

    name: str
    split: str
    opened: Opened


class Layout(ABC):
    """A way of arranging files."""

    slug: ClassVar[str]
    title: ClassVar[str]

    @abstractmethod
    def recognises(self, tree: Tree) -> float:
        """How sure the names, and the heads of a few files, make it (0 to 1) that this is how the tree is arranged."""

    @abstractmethod
    def open(self, tree: Tree, place: Place) -> Iterator[Part]:
        """Its parts, each to be read before the next; raises Refused, also while batches are read."""


class LeftOut:
    """Files that cannot be used: the first are named, the others counted, and all of them is too many."""

    def __init__(self, tree: Tree, problems: Problems, what: str) -> None:
        self.tree, self.problems, self.what = tree, problems, what
        self.count = 0

    def add(self, path: str, why: str, hint: str) -> None:
        self.count += 1
        if self.count <= MOST_TOLD:
            self.problems.warn("bad_media", f"“{path}” {why}; it was left out.", hint, file=path)

    def close(self, kept: int) -> None:
        """Say how many there were; raises Refused if nothing is left."""
        if self.count and not kept:
            raise Refused(
                "bad_media",
                f"None of the {self.count:,} {self.what} can be read.",
                "Open some of them in another program, and pack them again.",
                file=self.tree.name,
            )
        if self.count > MOST_TOLD:
            self.problems.warn(
                "bad_media",
                f"{self.count:,} {self.what} cannot be read and were left out; the first {MOST_TOLD} are named here.",
                "Mend them or take them out, and upload the archive again.",
                file=self.tree.name,
                count=self.count,
            )


def with_extension(tree: Tree, *extensions: str) -> Files:
    return {path: place for path, place in tree.files.items() if path.lower().endswith(extensions)}


def is_companion(path: str) -> bool:
    """Whether a file only tells of the dataset: a readme, a licence."""
    stem = PurePosixPath(path).name.lower().split(".")[0]
    return stem in COMPANIONS or path.lower().endswith((".md", ".html", ".pdf", ".py", ".ipynb", ".sh"))


def stem(path: str) -> str:
    """The name of a file without its folders and its extension: what belongs together has the same."""
    return PurePosixPath(path).stem


def folders(path: str) -> tuple[str, ...]:
    return PurePosixPath(path).parts[:-1]


def split_of_path(path: str) -> str:
    """The split that a file's name tells, or else the folder nearest to it."""
    for folder in reversed(folders(path)):
        if folder.lower() in SPLIT_WORDS:
            return SPLIT_WORDS[folder.lower()]
    return split_of_name(PurePosixPath(path).name)


def split_of_folder(path: str) -> str:
    """The split that a folder above a file tells: of pictures, whose own names tell nothing."""
    return next((SPLIT_WORDS[f.lower()] for f in reversed(folders(path)) if f.lower() in SPLIT_WORDS), "")


def read_text(tree: Tree, path: str, most: int) -> str:
    """A small text file of the tree; raises Refused if it is not small."""
    with tree.files[path].open("rb") as opened:
        data = opened.read(most + 1)
    if len(data) > most:
        raise Refused(
            "huge_value",
            f"The file is larger than {most / (1 << 20):g} MB, which it never needs to be.",
            "Write it again with what the examples need.",
            file=path,
        )
    return data.decode("utf-8-sig", "replace").replace("\0", "")
