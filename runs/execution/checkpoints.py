"""What an attempt can resume from: kept in storage, checked when it is fetched.

A checkpoint is files below `runs/<id>/checkpoints/<step>-<attempt>/` and, written last, manifest.json
with their sizes and SHA-256; only then does its row follow. The attempt in the key keeps a worker that
has lost its lease from writing into what its successor stores.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import F

from runs.lifecycle import hold
from runs.models import Attempt, Checkpoint, Event, Run
from webapp import storage

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"


class DamagedCheckpoint(Exception):
    """A stored checkpoint is not what its manifest says; the message says what differs."""


def prefix_of(attempt: Attempt, step: int) -> str:
    return f"runs/{attempt.run_id}/checkpoints/{step}-{attempt.number}"


def snapshot(folder: Path, target: Path) -> None:
    """Hard links to a checkpoint's files: the trainer may delete it while it is still being copied."""
    for source in _files(folder):
        link = target / source.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, link)


def store(folder: Path, prefix: str, go_on: Callable[[], bool]) -> int:
    """Copy a folder to storage, its manifest last; returns bytes. Stops in between if `go_on` says no."""
    storage.delete_under(prefix)  # what an earlier try may have left
    manifest: dict[str, dict[str, Any]] = {}
    for source in _files(folder):
        if not go_on():
            raise InterruptedError(f"copying {folder.name} was abandoned")
        name = source.relative_to(folder).as_posix()
        manifest[name] = {"size": source.stat().st_size, "sha256": storage.sha256_of(source)}
        storage.put(source, f"{prefix}/{name}", go_on=go_on)
    listing = folder.with_name(f"{folder.name}.{MANIFEST}")
    listing.write_text(json.dumps({"files": manifest}, indent=1))
    storage.put(listing, f"{prefix}/{MANIFEST}", move=True, go_on=go_on)
    return sum(int(entry["size"]) for entry in manifest.values())


def fetch(prefix: str, folder: Path) -> None:
    """Copy a stored checkpoint to a folder, checking each file; raises DamagedCheckpoint."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with storage.open_file(f"{prefix}/{MANIFEST}") as source:
            files: dict[str, Any] = json.load(source)["files"]
        for name, expected in files.items():
            target = folder / name
            storage.get(f"{prefix}/{name}", target)
            if target.stat().st_size != expected["size"] or storage.sha256_of(target) != expected["sha256"]:
                raise DamagedCheckpoint(f"{name} is not what was stored")
    except (FileNotFoundError, KeyError, ValueError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise DamagedCheckpoint(f"a file is missing or its manifest cannot be read ({error})") from error
    except DamagedCheckpoint:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def record(attempt: Attempt, event: dict[str, Any], size: int) -> None:
    """A checkpoint counts from now on; those that the trainer no longer keeps are removed."""
    step = int(event["step"])
    keep = {step, *(int(kept) for kept in event.get("keep") or [])}
    with transaction.atomic():
        hold(attempt)
        others = Checkpoint.objects.filter(run=attempt.run_id)
        gone = others.filter(step=step) | (
            others.exclude(step__in=keep) if event.get("keep") else others.none()
        )
        prefixes = {old.storage_prefix for old in gone} - {prefix_of(attempt, step)}
        gone.delete()
        if event.get("is_best"):
            others.update(is_best=False)
        Checkpoint.objects.create(
            run_id=attempt.run_id,
            step=step,
            storage_prefix=prefix_of(attempt, step),
            size_bytes=size,
            is_best=bool(event.get("is_best")),
        )
        tell(attempt, "checkpoint", f"Checkpoint of step {step} saved.", step=step)
        transaction.on_commit(partial(_remove, prefixes))


def forget(attempt: Attempt, step: int, reason: str) -> None:
    """A checkpoint that turned out damaged is no longer offered; the story says so."""
    with transaction.atomic():
        hold(attempt)
        damaged = Checkpoint.objects.filter(run=attempt.run_id, step=step)
        prefixes = {checkpoint.storage_prefix for checkpoint in damaged}
        damaged.delete()
        message = f"The checkpoint of step {step} is damaged and was skipped: {reason}."
        tell(attempt, "checkpoint_damaged", message, step=step)
        transaction.on_commit(partial(_remove, prefixes))


def resumed(attempt: Attempt, step: int) -> None:
    """The attempt goes on from this checkpoint."""
    with transaction.atomic():
        hold(attempt)
        if not Attempt.objects.filter(pk=attempt.pk, resumed_from_step=None).update(resumed_from_step=step):
            return  # said before; the answer was lost
        tell(attempt, "resumed_from", f"Going on from the checkpoint of step {step}.", step=step)


def remove_all(run_id: int) -> None:
    """A run that has succeeded needs none any more: its weights are among its files."""
    Checkpoint.objects.filter(run=run_id).delete()
    storage.delete_under(f"runs/{run_id}/checkpoints")


def tell(attempt: Attempt, kind: str, message: str, **data: Any) -> None:
    """Add a line to the run's story; in the transaction of what it tells of."""
    Event.objects.create(run_id=attempt.run_id, attempt=attempt.number, kind=kind, message=message, data=data)
    Run.objects.filter(pk=attempt.run_id).update(row_version=F("row_version") + 1)


def _remove(prefixes: set[str]) -> None:
    for prefix in prefixes:
        try:
            storage.delete_under(prefix)
        except Exception:  # it costs space, no more, and goes when the run is deleted
            log.warning("The old checkpoint %s could not be removed from storage.", prefix, exc_info=True)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
