"""Looking into what was uploaded: claimed, renewed and ended by compare-and-set on the dataset's row.

Whoever claims it converts the files (isolated.py) and writes down what was found. A worker that dies lets
its lease run out; `requeue_due` then has the inspection claimed again, at most MAX_ATTEMPTS times.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from webapp import storage
from webapp.datasets import hub_fetch, sources, suggestion
from webapp.datasets.hub_fetch import Report
from webapp.datasets.intake import PATIENCE_SECONDS, copy_upload, publish
from webapp.datasets.isolated import Crashed, convert_apart
from webapp.datasets.models import Dataset, DatasetVersion
from webapp.datasets.problems import Problem, Refused
from webapp.datasets.samples import get_sample
from webapp.datasets.uploading import clear_abandoned

log = logging.getLogger(__name__)
INSPECTING = Dataset.Status.INSPECTING


class LeaseLost(Exception):
    """Someone else has the inspection now, or the dataset is gone: what was done is void."""


def run_inspection(dataset_id: int, worker_name: str) -> None:
    """Claim and do it. Finds nothing to do if it is done, claimed, or the dataset is gone."""
    claim = f"{worker_name[:150]}/{uuid.uuid4().hex[:12]}"
    dataset = _claim(dataset_id, claim)
    if dataset is None:
        return
    try:
        with _scratch() as scratch:
            _inspect(dataset, claim, scratch)
    except LeaseLost:
        log.warning("Dataset %s: its inspection is no longer %s's.", dataset_id, worker_name)
    except Refused as refused:
        _end_invalid(dataset_id, claim, [refused.problem.as_json()])
    except Crashed as crash:
        log.error("Dataset %s: the inspection crashed: %s", dataset_id, crash)
        _give_back(dataset_id, claim)


def requeue_due() -> list[int]:
    """Send wake-ups for inspections that nobody works on, and end those that fail again and again."""
    clear_abandoned()
    due = Q(lease_until=None) | Q(lease_until__lt=Now())
    waiting = Dataset.objects.filter(due, status=INSPECTING)
    sent = []
    for pk, attempts in waiting.values_list("pk", "attempts"):
        if attempts >= settings.MAX_ATTEMPTS:
            _end_invalid(pk, None, [_gave_up(attempts).as_json()])
        elif waiting.filter(pk=pk).update(claimed_by="", lease_until=_in(PATIENCE_SECONDS)):
            publish(pk)
            sent.append(pk)
    return sent


def _in(seconds: float) -> Any:
    return Now() + timedelta(seconds=seconds)


def _gave_up(attempts: int) -> Problem:
    return Problem(
        "inspection_died",
        f"Looking into the files ended without a result {attempts} times: they take more memory than there is, "
        "or break the program that reads them.",
        "Write the files again, in smaller parts or as CSV, and upload those.",
    )


def _claim(dataset_id: int, claim: str) -> Dataset | None:
    free = Q(claimed_by="") | Q(lease_until=None) | Q(lease_until__lt=Now())
    claimed = Dataset.objects.filter(
        free, pk=dataset_id, status=INSPECTING, attempts__lt=settings.MAX_ATTEMPTS
    ).update(
        claimed_by=claim,
        lease_until=_in(settings.LEASE_SECONDS),
        attempts=F("attempts") + 1,
        stage="starting",
        progress_done=0,
        progress_total=0,
        row_version=F("row_version") + 1,
    )
    found: Dataset | None = Dataset.objects.get(pk=dataset_id) if claimed else None
    return found


def _inspect(dataset: Dataset, claim: str, scratch: Path) -> None:
    output = scratch / "output"
    output.mkdir()
    report = _Reporter(dataset.pk, claim)
    order = {
        "files": _files(dataset, scratch, report),
        "request": dataset.request,
        "tasks": [suggestion.as_json(needs) for needs in suggestion.registered().values()],
        "limits": asdict(settings.DATASET_LIMITS),
    }
    converted, problems = convert_apart(order, output, scratch, report)
    if converted is None:
        _end_invalid(dataset.pk, claim, problems)
        return
    report("storing", 0, 0)
    problems += [each.as_json() for each in sources.findings(dataset)]
    _end_ready(dataset.pk, claim, converted, problems, output)


def _files(dataset: Dataset, scratch: Path, report: Report) -> list[tuple[str, str]]:
    if dataset.request.get("source", {}).get("kind") == "hub":
        return hub_fetch.fetch(dataset.request["source"], scratch / "hub", report)
    if dataset.sample:
        folder = scratch / "sample"
        folder.mkdir()
        try:
            made = get_sample(dataset.sample).make(folder)
        except KeyError as error:
            raise Refused(
                "sample_unavailable", str(error.args[0]), "Delete this dataset and choose another sample."
            ) from error
        return [(str(path), path.name) for path in made]
    uploads = list(dataset.files.order_by("pk"))
    try:
        return [(str(copy_upload(each, scratch, number)), each.name) for number, each in enumerate(uploads)]
    except FileNotFoundError as error:
        raise Refused(
            "upload_missing", "The uploaded files are no longer in storage.", "Upload them again."
        ) from error


class _Reporter:
    """Writes progress where a page sees it and, by the same statement, keeps the lease."""

    def __init__(self, dataset_id: int, claim: str) -> None:
        self._mine = Dataset.objects.filter(pk=dataset_id, claimed_by=claim, status=INSPECTING)
        self._last: tuple[str, int, int] | None = None
        self._renewed = time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Raises LeaseLost if the inspection is no longer ours."""
        said = (stage[:50], done, total)
        lease_is_old = time.monotonic() - self._renewed > settings.LEASE_SECONDS / 4
        if said == self._last and not lease_is_old:
            return
        changes: dict[str, Any] = {"lease_until": _in(settings.LEASE_SECONDS)}
        if said != self._last:
            changes |= {
                "stage": said[0],
                "progress_done": done,
                "progress_total": total,
                "row_version": F("row_version") + 1,
            }
        if not self._mine.update(**changes):
            raise LeaseLost
        self._last, self._renewed = said, time.monotonic()


def _end_ready(
    dataset_id: int, claim: str, converted: dict[str, Any], problems: list[dict[str, Any]], output: Path
) -> None:
    """Store the files, then say in one transaction that they are there."""
    version_hash = converted["content_hash"]
    prefix = f"datasets/{dataset_id}/versions/{version_hash}"
    stored: dict[str, dict[str, Any]] = {}
    for path in sorted(output.glob("*.parquet")):
        stored[path.name] = {"size": path.stat().st_size, "sha256": storage.sha256_of(path)}
        storage.put(path, f"{prefix}/{path.name}", move=True)
    for path in sorted((output / "previews").glob("*")):
        storage.put(path, f"datasets/{dataset_id}/previews/{version_hash}/{path.name}", move=True)
    converted["details"]["stored"] = stored  # of the bytes: the content hash is of the rows
    with transaction.atomic():
        mine = Dataset.objects.select_for_update().filter(pk=dataset_id, claimed_by=claim, status=INSPECTING)
        if mine.first() is not None:
            version, _ = DatasetVersion.objects.update_or_create(
                dataset_id=dataset_id,
                content_hash=version_hash,
                defaults={
                    "storage_prefix": prefix,
                    **{k: v for k, v in converted.items() if k != "content_hash"},
                },
            )
            Dataset.objects.filter(pk=dataset_id).update(
                status=Dataset.Status.READY, version=version, problems=problems, **_over()
            )
            return
    if not Dataset.objects.filter(pk=dataset_id).exists():  # deleted meanwhile: nothing of it stays
        storage.delete_under(f"datasets/{dataset_id}")
    raise LeaseLost


def _end_invalid(dataset_id: int, claim: str | None, problems: list[dict[str, Any]]) -> None:
    """Refused: the files have no further use and go, the sentence stays."""
    mine = Dataset.objects.filter(pk=dataset_id, status=INSPECTING)
    mine = (
        mine.filter(claimed_by=claim)
        if claim is not None
        else mine.filter(Q(lease_until=None) | Q(lease_until__lt=Now()))
    )
    if mine.update(status=Dataset.Status.INVALID, problems=problems, **_over()):
        storage.delete_under(f"datasets/{dataset_id}")


def _over() -> dict[str, Any]:
    return {
        "claimed_by": "",
        "lease_until": None,
        "stage": "",
        "progress_done": 0,
        "progress_total": 0,
        "row_version": F("row_version") + 1,
    }


def _give_back(dataset_id: int, claim: str) -> None:
    """Let it be tried again soon, or ended if this was the last time."""
    Dataset.objects.filter(pk=dataset_id, claimed_by=claim, status=INSPECTING).update(
        claimed_by="", lease_until=Now(), stage="waiting", row_version=F("row_version") + 1
    )


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for one inspection, on the disk that is meant for work in progress."""
    settings.WORK_DIR.mkdir(parents=True, exist_ok=True)
    for left in settings.WORK_DIR.glob("inspection-*"):
        if not _is_running(left.name.split("-")[1]):
            shutil.rmtree(left, ignore_errors=True)  # of a worker that was killed
    folder = Path(tempfile.mkdtemp(prefix=f"inspection-{os.getpid()}-", dir=settings.WORK_DIR))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass
    return True
