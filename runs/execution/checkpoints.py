"""What an attempt can resume from: kept in storage, checked when it is fetched.

A checkpoint is files below `runs/<id>/checkpoints/<step>-<attempt>/` and, written last, manifest.json
with their sizes and SHA-256; only then does its row follow. One more of the same step, which a long evaluation
makes, lies below `<step>.2-<attempt>/`. The attempt in the key keeps a worker that
has lost its lease from writing into what its successor stores. The manifest is the trainer's own where it
wrote one: what a disk or a network changes between its memory and ours is found.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from django.db import transaction
from django.db.models import F

from runs.lifecycle import hold
from runs.models import Attempt, Checkpoint, Event, Run
from runs.training import manifest
from runs.training.tasks import get_task
from webapp import storage

log = logging.getLogger(__name__)
MANIFEST = manifest.NAME
DamagedCheckpoint = manifest.Damaged


def prefix_of(attempt: Attempt, step: int, number: int = 1) -> str:
    """Of the attempt's n-th checkpoint of this step."""
    again = f".{number}" if number > 1 else ""
    return f"runs/{attempt.run_id}/checkpoints/{step}{again}-{attempt.number}"


def snapshot(folder: Path, target: Path) -> None:
    """Hard links to a checkpoint's files: the trainer may delete it while it is still being copied.

    Raises FileNotFoundError if it has deleted it, or some of it, before.
    """
    files = _files(folder)
    if not files:
        raise FileNotFoundError(f"{folder} is gone")
    for source in files:
        link = target / source.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, link)


def store(folder: Path, prefix: str, go_on: Callable[[], bool]) -> int:
    """Copy a folder to storage, its manifest last; returns bytes. Stops in between if `go_on` says no.

    Raises DamagedCheckpoint if a file is not what the trainer's manifest says. A trainer that wrote none
    (another program may be one) gets its files as they are.
    """
    storage.delete_under(prefix)  # what an earlier try may have left
    if not manifest.is_whole(folder):
        manifest.finish(folder)
    files = manifest.read(folder)
    for name, expected in files.items():
        if not go_on():
            raise InterruptedError(f"copying {folder.name} was abandoned")
        source = folder / name
        if not source.is_file() or not expected.matches(source):
            raise DamagedCheckpoint(f"{name} is not what the trainer saved")
        storage.put(source, f"{prefix}/{name}", go_on=go_on)
    storage.put(folder / MANIFEST, f"{prefix}/{MANIFEST}", go_on=go_on)
    return sum(expected.size for expected in files.values())


def fetch(prefix: str, folder: Path) -> None:
    """Copy a stored checkpoint and its manifest to a folder, checking each file; raises DamagedCheckpoint."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        _fetch(prefix, folder)
    except DamagedCheckpoint:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _fetch(prefix: str, folder: Path) -> None:
    try:
        with storage.open_file(f"{prefix}/{MANIFEST}") as source:
            listing = source.read()
    except FileNotFoundError:
        raise DamagedCheckpoint("its manifest is missing") from None
    for name, expected in manifest.parse(listing).items():
        try:
            storage.get(f"{prefix}/{name}", folder / name)
        except FileNotFoundError:
            raise DamagedCheckpoint(f"{name} is missing") from None
        if not expected.matches(folder / name):
            raise DamagedCheckpoint(f"{name} is not what was stored")
    (folder / MANIFEST).write_bytes(listing)  # last, as the trainer does: it checks them once more


def record(attempt: Attempt, event: dict[str, Any], prefix: str, size: int) -> None:
    """The checkpoint below a prefix counts from now on; those that the trainer no longer keeps are removed."""
    step = int(event["step"])
    keep = {step, *(int(kept) for kept in event.get("keep") or [])}
    with transaction.atomic():
        hold(attempt)
        others = Checkpoint.objects.filter(run=attempt.run_id)
        gone = others.filter(step=step) | (
            others.exclude(step__in=keep) if event.get("keep") else others.none()
        )
        prefixes = {old.storage_prefix for old in gone} - {prefix}
        gone.delete()
        if event.get("is_best"):
            others.update(is_best=False)
        Checkpoint.objects.create(
            run_id=attempt.run_id,
            step=step,
            storage_prefix=prefix,
            size_bytes=size,
            is_best=bool(event.get("is_best")),
        )
        best = " (best so far)" if event.get("is_best") else ""
        at = f"at step {step:,}" if step else "before the first step"
        tell(attempt, "checkpoint", f"Checkpoint {at}{best}.", step=step)
        transaction.on_commit(partial(_remove, prefixes))


def forget(attempt: Attempt, step: int, reason: str) -> None:
    """A checkpoint that turned out damaged is no longer offered; the story says so."""
    with transaction.atomic():
        hold(attempt)
        damaged = Checkpoint.objects.filter(run=attempt.run_id, step=step)
        prefixes = {checkpoint.storage_prefix for checkpoint in damaged}
        damaged.delete()
        message = f"The checkpoint at step {step:,} is damaged and was skipped: {reason}."
        tell(attempt, "checkpoint_damaged", message, step=step)
        transaction.on_commit(partial(_remove, prefixes))


def resumed(attempt: Attempt, step: int) -> None:
    """The attempt goes on from this checkpoint."""
    with transaction.atomic():
        hold(attempt)
        if not Attempt.objects.filter(pk=attempt.pk, resumed_from_step=None).update(resumed_from_step=step):
            return  # said before; the answer was lost
        where = f" on {attempt.worker.host}" if attempt.worker else ""
        place = f"from step {step:,}" if step else "with what was done before the first step"
        tell(attempt, "resumed_from", f"Resumed{where} {place}.", step=step)


def keep_last(attempt: Attempt) -> None:
    """Of a run that has succeeded the newest state alone is kept, to train it for longer some day.

    In the transaction that ends the attempt. The best weights are among the run's files, and go with that
    state. A run that cannot be extended keeps none.
    """
    stored = Checkpoint.objects.filter(run=attempt.run_id)
    newest = stored.order_by("step").last() if can_be_extended(attempt.run) else None
    kept = newest.storage_prefix if newest is not None else None
    (stored.exclude(pk=newest.pk) if newest is not None else stored).delete()
    transaction.on_commit(partial(_remove_others, attempt.run_id, attempt.number, kept))


def can_be_extended(run: Run) -> bool:
    """Whether more training can follow on its end; never for a task that this version no longer has."""
    try:
        return get_task(run.task).can_be_extended(run.method)
    except KeyError:
        return False


def tell(attempt: Attempt, kind: str, message: str, **data: Any) -> None:
    """Add a line to the run's story; in the transaction of what it tells of."""
    Event.objects.create(run_id=attempt.run_id, attempt=attempt.number, kind=kind, message=message, data=data)
    Run.objects.filter(pk=attempt.run_id).update(row_version=F("row_version") + 1)


def _remove(prefixes: Iterable[str]) -> None:
    for prefix in prefixes:
        try:
            storage.delete_under(prefix)
        except Exception:  # it costs space, no more, and goes when the run is deleted
            log.warning("The old checkpoint %s could not be removed from storage.", prefix, exc_info=True)


def _remove_others(run_id: int, last_attempt: int, kept: str | None) -> None:
    """Remove whatever the attempts up to this one have left, but for a prefix; the run may be going on already."""
    root = f"runs/{run_id}/checkpoints"
    try:
        found = {key.removeprefix(f"{root}/").split("/")[0] for key in storage.keys_under(root)}
    except Exception:
        log.warning("The checkpoints of run %s stay in storage.", run_id, exc_info=True)
        return
    prefixes = {f"{root}/{name}" for name in found if int(name.rpartition("-")[2]) <= last_attempt}
    _remove(prefix for prefix in prefixes if prefix != kept)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
