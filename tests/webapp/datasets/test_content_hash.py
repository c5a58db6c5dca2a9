"""A version is named by its rows: its stored files give the same name again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.webapp.datasets.conftest import Inspected
from webapp import storage
from webapp.datasets.canonical import content_hash_of


def test_the_content_hash_of_stored_files_is_that_of_their_inspection(
    inspected: Inspected, shared_data: Path
) -> None:
    """So what a worker checks is what the web server has named."""
    uploads: list[Any] = [
        ("r.csv", b"text,label,score\n" + b"good film,yes,1.5\nbad one,no,\n" * 30),
        shared_data / "instructions.jsonl",
        ("flags.csv", b"text,flag,n\n" + b"a,true,1\nb,false,2\n,true,3\n" * 20),
    ]
    for upload in uploads:
        version = inspected(upload).version
        folder = storage.local_path(version.storage_prefix)
        assert folder is not None and content_hash_of(folder) == version.content_hash
