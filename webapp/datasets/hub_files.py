"""Which files of a hub's dataset are its rows, and of which split. Knows neither the network nor Django.

As the `datasets` library does: by what the card says (`configs` in the README), or else by what files and folders
are called. No script of a dataset is ever looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

from webapp.datasets.problems import shown
from webapp.datasets.splits import SPLIT_WORDS, split_of_name

# What formats/ reads, an entry a kind; a compressed file is what is in it.
KINDS = (
    (".parquet",), (".jsonl", ".ndjson"), (".json",), (".csv", ".tsv"), (".arrow", ".feather"),
    (".zip", ".tar", ".tgz", ".tar.gz"), (".xlsx",), (".txt",),
)  # fmt: skip
COMPRESSED = (".gz", ".zst")
NO_DATA = re.compile(
    r"(readme|licen[sc]e|notice|citation|requirements|changelog|dataset_infos?|dataset_dict|state)\b.*", re.I
)
CONVERTED = re.compile(r"([^/]+)/(?:partial-)?([^/]+)/\d+\.parquet")


class NotUsable(Exception):
    """What a hub has cannot become a dataset here; `field` is what was asked for wrongly."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class NoFiles(NotUsable):
    """No file of the dataset is one that can be read."""

    def __init__(self) -> None:
        super().__init__(
            "dataset",
            "It has no files that can be read here, such as Parquet, CSV or JSON: it may be made by a script, or be a "
            "list of loose pictures. Programs of a hub are never run.",
        )


@dataclass(frozen=True)
class RepoFile:
    """A file of a repository. `sha256` is empty where the hub does not tell it."""

    path: str
    size: int
    sha256: str = ""


@dataclass(frozen=True)
class Chosen:
    """The files to fetch, each with its split here (empty: to be drawn), and the hub's splits that are left out."""

    config: str
    files: list[tuple[RepoFile, str]]
    left_out: list[str] = field(default_factory=list)


def choose(files: Sequence[RepoFile], card: Any, config: str, split: str) -> Chosen:
    """Of a repository's own files. `card`: its metadata; nothing of it is believed to be well-formed. Raises NotUsable."""
    described = dict(_configs(card))
    if described:
        name = _the_config(described, config, _default_of(card))
        by_split = {
            part: [file for file in files if any(_matches(file.path, pattern) for pattern in patterns)]
            for part, patterns in described[name].items()
        }
        by_split = {part: found for part, found in by_split.items() if found}
        if not by_split:
            raise NoFiles
        return Chosen(name, *_of_splits(by_split, split))
    return Chosen(config, *_of_splits(_by_names(files, config), split))


def choose_converted(files: Sequence[RepoFile], config: str, split: str) -> Chosen:
    """Of the Parquet files that the hub itself makes of a dataset, `<config>/<split>/0000.parquet`. Raises NotUsable."""
    configs: dict[str, dict[str, list[RepoFile]]] = {}
    for file in files:
        if found := CONVERTED.fullmatch(file.path):
            configs.setdefault(found[1], {}).setdefault(found[2], []).append(file)
    if not configs:
        raise NoFiles
    name = _the_config(configs, config, "default")
    return Chosen(name, *_of_splits(configs[name], split))


def name_here(path: str, split: str, number: int) -> str:
    """What a file is called where people see it, so that its name tells its split and no other."""
    base = PurePosixPath(path).name
    suffix = "".join(PurePosixPath(path).suffixes[-2:])[-20:]
    for name in (path, f"{split}-{base}", f"{split}-{number}{suffix}"):
        if split_of_name(name) == split:
            return name
    return f"{number}{suffix}"


def _the_config(known: Any, asked: str, usual: str) -> str:
    names = list(known)
    if asked:
        if asked in names:
            return asked
        raise NotUsable("config", f"It has no configuration {shown(asked)}. There are: {_listed(names)}.")
    if len(names) == 1:
        return str(names[0])
    if usual in names:
        return usual
    raise NotUsable("config", f"It has several configurations; choose one of {_listed(names)}.")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 20:,} more" if len(names) > 20 else ""
    return ", ".join(shown(name) for name in names[:20]) + more


def _of_splits(
    by_split: dict[str, list[RepoFile]], asked: str
) -> tuple[list[tuple[RepoFile, str]], list[str]]:
    """(files with the splits that they have here, names of the hub's splits that are left out)."""
    names = sorted(by_split)
    named = [name for name in names if name]
    if asked:
        if asked not in by_split:
            raise NotUsable(
                "split", f"It has no split {shown(asked)}. There are: {_listed(named) or 'none'}."
            )
        return [(file, "") for file in _sorted(by_split[asked])], []
    rules: tuple[Callable[[str], str], ...] = (
        lambda name: SPLIT_WORDS.get(name.lower(), ""),
        split_of_name,
    )
    for rule in rules:
        ours = {name: rule(name) for name in names if rule(name)}
        if "train" in ours.values() and len(set(ours.values())) == len(ours):
            chosen = [(file, ours[name]) for name in ours for file in _sorted(by_split[name])]
            return chosen, [name or _without_split(by_split[name]) for name in names if name not in ours]
    if len(names) == 1:
        return [(file, "") for file in _sorted(by_split[names[0]])], []
    raise NotUsable(
        "split", f"Which of its splits are to train on cannot be told; choose one of {_listed(named)}."
    )


def _without_split(files: list[RepoFile]) -> str:
    return f"what names no split, such as {files[0].path}"


def _sorted(files: list[RepoFile]) -> list[RepoFile]:
    return sorted(files, key=lambda file: file.path)


# -- by the card -------------------------------------------------------------------------------------


def _configs(card: Any) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """(name, {split: patterns of paths}) of each configuration that a card describes well enough."""
    entries = card.get("configs") if isinstance(card, dict) else None
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict) or not isinstance(entry.get("config_name"), str):
            continue
        folder = entry.get("data_dir")
        base = f"{folder.strip('/')}/" if isinstance(folder, str) and folder.strip("/.") else ""
        found: dict[str, list[str]] = {}
        for split, pattern in _patterns(entry.get("data_files")):
            found.setdefault(split, []).append(base + pattern.removeprefix("./"))
        if found:
            yield entry["config_name"], found


def _patterns(data_files: Any) -> Iterator[tuple[str, str]]:
    """(split, pattern): `data_files` is a pattern, a list of them, or a list of {split, path}."""
    for entry in data_files if isinstance(data_files, list) else [data_files]:
        if isinstance(entry, str):
            yield "train", entry
        elif isinstance(entry, dict) and isinstance(entry.get("split"), str):
            paths = entry.get("path")
            for path in paths if isinstance(paths, list) else [paths]:
                if isinstance(path, str):
                    yield entry["split"], path


def _default_of(card: Any) -> str:
    marked = [
        entry.get("config_name")
        for entry in card["configs"]
        if isinstance(entry, dict) and entry.get("default") is True
    ]
    return str(marked[0]) if marked else "default"


def _matches(path: str, pattern: str) -> bool:
    """Whether a pattern with *, ? and ** means this path; in time that grows with both, whatever they are."""
    parts, reached = path.split("/"), {0}
    for piece in pattern.split("/"):
        if piece == "**":
            reached = set(range(min(reached, default=len(parts) + 1), len(parts) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(parts) and fnmatchcase(parts[at], piece)}
    return len(parts) in reached


# -- by names ----------------------------------------------------------------------------------------


def _by_names(files: Sequence[RepoFile], config: str) -> dict[str, list[RepoFile]]:
    """{split, empty where nothing tells it: files} of the kind that has the most bytes."""
    data = [file for file in files if _kind(file.path) >= 0]
    if not data:
        raise NoFiles
    if config and config != "default":
        data = [file for file in data if config in file.path.split("/")[:-1]]
        if not data:
            raise NotUsable("config", f"It describes no configuration, and has no folder {shown(config)}.")
    weights = [sum(file.size for file in data if _kind(file.path) == kind) for kind in range(len(KINDS))]
    heaviest = weights.index(max(weights))
    if not weights[heaviest]:
        raise NoFiles
    found: dict[str, list[RepoFile]] = {}
    for file in data:
        if _kind(file.path) == heaviest:
            found.setdefault(_split_of(file.path), []).append(file)
    return found


def _kind(path: str) -> int:
    """Place in KINDS; -1 for what holds no rows."""
    parts = path.lower().split("/")
    if any(part.startswith(".") for part in parts) or NO_DATA.fullmatch(parts[-1]):
        return -1
    for name in (parts[-1], *(parts[-1].removesuffix(end) for end in COMPRESSED if parts[-1].endswith(end))):
        for number, endings in enumerate(KINDS):
            if name.endswith(endings):
                return number
    return -1


def _split_of(path: str) -> str:
    """That of the file's own name, or else of the folder nearest to it that tells one."""
    parts = path.split("/")
    return next((split for part in reversed(parts) if (split := split_of_name(part))), "")
