"""The words by which people name the splits of a dataset: in the names of files and folders, and in a column."""

from __future__ import annotations

import re
from pathlib import PurePath

SPLITS = ("train", "validation", "test")
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development", "eval"), "validation"),
    **dict.fromkeys(("test", "testing", "heldout"), "test"),
}


def split_of_name(name: str) -> str:
    """The split that a file's name tells, such as train.csv, sst2-dev.tsv or test_0.parquet."""
    words = re.split(r"[^a-z]+", PurePath(name).stem.lower())
    found = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    return found.pop() if len(found) == 1 else ""
