"""Looking into what was uploaded. Whoever claims it (claims.py) converts the files (isolated.py) and writes down
what was found.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from webapp import storage
from webapp.datasets import hub_fetch, sources, suggestion
from webapp.datasets.claims import INSPECT, Claims, LeaseLost, over
from webapp.datasets.hub_fetch import Report
from webapp.datasets.intake import copy_upload
from webapp.datasets.isolated import convert_apart
from webapp.datasets.models import Dataset
from webapp.datasets.problems import Problem, Refused
from webapp.datasets.samples import get_sample
from webapp.datasets.uploading import clear_abandoned
from webapp.datasets.versions import keep_version, store

INSPECTING = Dataset.Status.INSPECTING
CLAIMS = Claims(Dataset, Q(status=INSPECTING), INSPECT)


def run_inspection(dataset_id: int, worker_name: str) -> None:
    """Claim and do it. Finds nothing to do if it is done, claimed, or the dataset is gone."""
    CLAIMS.carry_out(dataset_id, worker_name, "inspection", _inspect, _end_invalid)


def requeue_due() -> list[int]:
    """Send wake-ups for inspections that nobody works on, and end those that fail again and again."""
    clear_abandoned()
    return CLAIMS.requeue_due(
        lambda pk, attempts: _end_invalid(pk, None, [gave_up("Looking into the files", attempts).as_json()])
    )


def gave_up(what: str, attempts: int) -> Problem:
    """Of work that died as often as it may."""
    return Problem(
        "inspection_died",
        f"{what} ended without a result {attempts} times: they take more memory than there is, "
        "or break the program that reads them.",
        "Write the files again, in smaller parts or as CSV, and upload those.",
    )


def order_of(files: list[tuple[str, str]], request: dict[str, Any]) -> dict[str, Any]:
    """As conversion.Order, with what this server knows."""
    return {
        "files": files,
        "request": request,
        "tasks": [suggestion.as_json(needs) for needs in suggestion.registered().values()],
        "limits": asdict(settings.DATASET_LIMITS),
    }


def _inspect(dataset: Dataset, claim: str, folder: Path) -> None:
    output = folder / "output"
    output.mkdir()
    report = CLAIMS.reporter(dataset.pk, claim)
    order = order_of(_files(dataset, folder, report), dataset.request)
    converted, problems = convert_apart(order, output, folder, report)
    if converted is None:
        _end_invalid(dataset.pk, claim, problems)
        return
    report("storing", 0, 0)
    problems += [each.as_json() for each in sources.findings(dataset)]
    _end_ready(dataset, claim, converted | {"problems": problems}, output)


def _files(dataset: Dataset, folder: Path, report: Report) -> list[tuple[str, str]]:
    if dataset.request.get("source", {}).get("kind") == "hub":
        return hub_fetch.fetch(dataset.request["source"], folder / "hub", report)
    if dataset.sample:
        made_in = folder / "sample"
        made_in.mkdir()
        try:
            made = get_sample(dataset.sample).make(made_in)
        except KeyError as error:
            raise Refused(
                "sample_unavailable", str(error.args[0]), "Delete this dataset and choose another sample."
            ) from error
        return [(str(path), path.name) for path in made]
    uploads = list(dataset.files.order_by("pk"))
    try:
        return [(str(copy_upload(each, folder, number)), each.name) for number, each in enumerate(uploads)]
    except FileNotFoundError as error:
        raise Refused(
            "upload_missing", "The uploaded files are no longer in storage.", "Upload them again."
        ) from error


def _end_ready(dataset: Dataset, claim: str, converted: dict[str, Any], output: Path) -> None:
    """Store the files, then say in one transaction that they are there."""
    pk = dataset.pk
    store(pk, converted, output)
    with transaction.atomic():
        mine = CLAIMS.of(pk, claim).select_for_update()
        if mine.first() is not None:
            version = keep_version(pk, converted, created_by=dataset.created_by_id)
            Dataset.objects.filter(pk=pk).update(
                status=Dataset.Status.READY, version=version, problems=[], **over()
            )
            return
    if not Dataset.objects.filter(pk=pk).exists():  # deleted meanwhile: nothing of it stays
        storage.delete_under(f"datasets/{pk}")
    raise LeaseLost


def _end_invalid(dataset_id: int, claim: str | None, problems: list[dict[str, Any]]) -> None:
    """Refused: the files have no further use and go, the sentence stays."""
    if CLAIMS.of(dataset_id, claim).update(status=Dataset.Status.INVALID, problems=problems, **over()):
        storage.delete_under(f"datasets/{dataset_id}")
