"""What an attempt leaves behind: files people download, and its log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import F

from runs.execution import checkpoints
from runs.execution.log_file import printed
from runs.lifecycle import hold, succeed
from runs.logs import TAIL_BYTES, TAIL_LINES
from runs.models import Artifact, Attempt, Run
from webapp import storage


class BrokenPromise(Exception):
    """The trainer announced a file that is not there, or not with these bytes."""


def artifact_prefix(attempt: Attempt) -> str:
    """With the attempt in it: a worker that has lost its lease cannot write over its successor's files."""
    return f"runs/{attempt.run_id}/artifacts/attempt-{attempt.number}"


def store_artifacts(
    attempt: Attempt, workdir: Path, event: dict[str, Any], go_on: Callable[[], bool]
) -> list[Artifact]:
    """Bring announced files to storage, checked; returns rows that are not saved yet."""
    folder = (workdir / event["folder"]).resolve()
    rows = []
    for file in event["files"]:
        source = (folder / file["name"]).resolve()
        if not source.is_relative_to(workdir.resolve()):
            raise BrokenPromise(f"{file['name']} lies outside the work folder")
        if not go_on():
            raise InterruptedError("storing the files was abandoned")
        key = f"{artifact_prefix(attempt)}/{file['name']}"
        if source.is_file():
            size, digest = source.stat().st_size, storage.sha256_of(source)
            if (size, digest) != (file["size"], file["sha256"]):
                raise BrokenPromise(f"{file['name']} has other bytes than announced")
            storage.put(source, key, move=True, go_on=go_on)
        elif not storage.exists(key):  # or else it was moved by a try that failed further on
            raise BrokenPromise(f"{file['name']} is missing")
        rows.append(
            Artifact(
                run_id=attempt.run_id,
                name=file["name"],
                storage_key=key,
                size=file["size"],
                sha256=file["sha256"],
            )
        )
    return rows


def finish(attempt: Attempt, metrics: dict[str, float], artifacts: list[Artifact]) -> None:
    """The run has succeeded, and these are its files: one transaction."""
    with transaction.atomic():
        hold(attempt)
        Artifact.objects.filter(run=attempt.run_id).delete()
        for row in artifacts:  # a try whose answer was lost may have given them keys
            row.pk = None
        Artifact.objects.bulk_create(artifacts)
        succeed(attempt, metrics)
        checkpoints.keep_last(attempt)


def remember_tail(attempt: Attempt, tail: str) -> None:
    """The last lines stay with the attempt, wherever its whole log goes."""
    with transaction.atomic():
        hold(attempt)
        Attempt.objects.filter(pk=attempt.pk).update(log_tail=tail)
        Run.objects.filter(pk=attempt.run_id).update(row_version=F("row_version") + 1)


def tail_of(path: Path) -> str:
    """The last lines of a log, as text that Postgres takes; empty if there is no file yet."""
    try:
        with path.open("rb") as source:
            size = source.seek(0, 2)
            source.seek(max(0, size - TAIL_BYTES))
            data = source.read()
    except FileNotFoundError:
        return ""
    return "\n".join(printed(line) for line in data.split(b"\n")[-TAIL_LINES - 1 :])
