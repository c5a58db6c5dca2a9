"""Changes to a dataset: each makes a new version out of another, in a worker, and leaves that one as it is.

Pages and API ask (`request_change`); the worker does it (`run_change`). While it works, the dataset stays as it is and
can be used. One change at a time: the next one is of what this one makes. What cannot be made ends as refused, with the
reason, and nothing of it is kept.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from django.core.files import File
from django.db import IntegrityError, transaction
from django.db.models import F, Q

from webapp import storage
from webapp.accounts.models import User
from webapp.datasets import intake
from webapp.datasets.claims import CHANGE, Claims, LeaseLost, over, waiting
from webapp.datasets.edits import Wrong, checked, title_of
from webapp.datasets.edits.facts import Facts
from webapp.datasets.inspection import gave_up, order_of
from webapp.datasets.intake import copy_upload
from webapp.datasets.isolated import convert_apart
from webapp.datasets.models import Change, Dataset, DatasetVersion, UploadedFile
from webapp.datasets.problems import Refused
from webapp.datasets.shards import shards_of
from webapp.datasets.uploading import ArrivedFile
from webapp.datasets.versions import keep_version, mapping_hash, store
from webapp.uploads import receiving
from webapp.uploads.incoming import clean_name

WAITING = Change.Status.WAITING


def _touch(pk: int) -> None:
    """The page of a dataset shows how far its change is."""
    Dataset.objects.filter(changes=pk).update(row_version=F("row_version") + 1)


CLAIMS = Claims(Change, Q(status=WAITING), CHANGE, _touch)


class Busy(Exception):
    """A version is being made already, or the dataset cannot be changed; the message is for who asked."""


def facts_of(version: DatasetVersion) -> Facts:
    return Facts(version.columns, version.splits, version.suggested)


def request_change(
    version: DatasetVersion,
    asked: Any,
    user: User | None,
    files: Sequence[File[bytes]] = (),
) -> Change:
    """Have a version made out of this one. Raises edits.Wrong, Busy, or intake.IntakeError for the files.

    `asked`: {op, …} as edits/ know it. `files` come with add_files alone.
    """
    dataset = version.dataset
    names = [clean_name(file.name or "") for file in files]
    if files and isinstance(asked, dict):
        asked = {**asked, "names": names}
    whole = checked(asked, facts_of(version))
    if (whole["op"] == "add_files") != bool(files):
        raise Wrong(file="Choose the files to add." if not files else "Files come with add_files alone.")
    if dataset.status != Dataset.Status.READY:
        raise Busy("The dataset cannot be changed: it has no version yet.")
    if files:
        intake.check_files(dataset.workspace, files)
    kept: list[UploadedFile] = []
    try:
        with transaction.atomic():
            change = Change.objects.create(
                dataset=dataset,
                parent=version,
                asked=whole,
                title=title_of(whole)[:300],
                created_by=user,
                **waiting(),
            )
            for file, name in zip(files, names, strict=True):
                kept.append(intake.keep_file(dataset, file, name))
            if kept:
                change.asked = whole | {"files": [each.pk for each in kept]}
                change.save(update_fields=["asked"])
            _touch(change.pk)
            CLAIMS.publish_on_commit(change.pk)
    except BaseException as error:
        for each in kept:
            storage.delete_file(each.storage_key)
        if isinstance(error, IntegrityError):
            raise Busy("A new version is being made already; wait until it is there.") from error
        raise
    return change


def add_uploads(version: DatasetVersion, uploads: Sequence[uuid.UUID], split: str, user: User) -> Change:
    """Add files that came piece by piece; afterwards they are the dataset's. Raises as request_change."""
    workspace = version.dataset.workspace
    try:
        whole = receiving.find_whole(user, workspace, list(dict.fromkeys(uploads)))
        with transaction.atomic():
            receiving.lock(whole)
            files = [ArrivedFile(upload) for upload in whole]
            change = request_change(version, {"op": "add_files", "split": split}, user, files)
            receiving.release(whole)
    except receiving.Refused as error:
        raise intake.IntakeError({"file": str(error)}) from error
    return change


def run_change(change_id: int, worker_name: str) -> None:
    """Claim and do it. Finds nothing to do if it is done, claimed, or the dataset is gone."""
    CLAIMS.carry_out(change_id, worker_name, "change", _make, _end_refused)


def requeue_due() -> list[int]:
    """Send wake-ups for changes that nobody works on, and end those that fail again and again."""
    return CLAIMS.requeue_due(
        lambda pk, attempts: _end_refused(pk, None, [gave_up("Making the version", attempts).as_json()])
    )


def _make(change: Change, claim: str, folder: Path) -> None:
    output = folder / "output"
    output.mkdir()
    report = CLAIMS.reporter(change.pk, claim)
    parent = change.parent
    facts = facts_of(parent)
    order = order_of(_added(change, folder), {})
    order["parent"] = {
        "files": _files(parent, folder),
        "facts": vars(facts),
        "details": parent.details,
    }
    order["change"] = change.asked
    converted, problems = convert_apart(order, output, folder, report)
    if converted is None:
        _end_refused(change.pk, claim, problems)
        return
    if (converted["content_hash"], mapping_hash(converted["suggested"])) == (
        parent.content_hash,
        parent.mapping,
    ):
        raise Refused(
            "no_change", "This changes nothing: every row stays as it is.", "There is nothing to do."
        )
    report("storing", 0, 0)
    _end_done(change, claim, converted | {"problems": problems}, output)


def _files(version: DatasetVersion, folder: Path) -> dict[str, str]:
    """{split: local path} of the version's Parquet files."""
    found: dict[str, str] = {}
    for number, shard in enumerate(shards_of(version)):
        path = storage.local_path(shard.key)
        if path is None:
            path = folder / f"parent-{number}.parquet"
            try:
                storage.get(shard.key, path)
            except FileNotFoundError:
                found = {}
                break
        found[shard.split] = str(path)
    if set(found) != set(version.splits):
        raise Refused(
            "version_missing",
            f"The files of version {version.number} are no longer in storage.",
            "Upload the dataset again, or change another version.",
        )
    return found


def _added(change: Change, folder: Path) -> list[tuple[str, str]]:
    files = UploadedFile.objects.filter(pk__in=change.asked.get("files", [])).order_by("pk")
    try:
        return [(str(copy_upload(each, folder, number)), each.name) for number, each in enumerate(files)]
    except FileNotFoundError as error:
        raise Refused(
            "upload_missing", "The added files are no longer in storage.", "Add them again."
        ) from error


def _end_done(change: Change, claim: str, converted: dict[str, Any], output: Path) -> None:
    """Store what is new, then say in one transaction that it is there and that new runs get it."""
    dataset_id = change.dataset_id
    same = DatasetVersion.objects.filter(
        dataset_id=dataset_id, content_hash=converted["content_hash"]
    ).first()
    if same is None or not shards_of(same):
        store(dataset_id, converted, output)
    else:  # the same rows under another mapping: their files are there
        converted["details"]["stored"] = (same.details or {}).get("stored") or {}
        converted["size_bytes"] = same.size_bytes
    said = {key: value for key, value in change.asked.items() if key != "files"}
    with transaction.atomic():
        dataset = Dataset.objects.select_for_update().filter(pk=dataset_id).first()
        if dataset is not None and CLAIMS.of(change.pk, claim).exists():
            version = keep_version(
                dataset_id,
                converted,
                parent=change.parent,
                change=said | {"says": converted["says"]},
                created_by=change.created_by_id,
            )
            CLAIMS.of(change.pk, claim).update(status=Change.Status.DONE, result=version, **over())
            Dataset.objects.filter(pk=dataset_id).update(version=version, row_version=F("row_version") + 1)
            _ask_for_next_fold(change)
            return
    if dataset is None:  # deleted meanwhile: nothing of it stays
        storage.delete_under(f"datasets/{dataset_id}")
    raise LeaseLost


def _ask_for_next_fold(change: Change) -> None:
    """Of a split into folds that all are asked for, a version each."""
    asked = change.asked
    if (
        asked["op"] == "split"
        and asked["how"] == "kfold"
        and asked["every"]
        and asked["fold"] < asked["folds"]
    ):
        request_change(change.parent, asked | {"fold": asked["fold"] + 1}, change.created_by)


def _end_refused(change_id: int, claim: str | None, problems: list[dict[str, Any]]) -> None:
    """The version that was to be changed stays as it is, the sentence stays, files that were to be added go."""
    with transaction.atomic():
        if not CLAIMS.of(change_id, claim).update(status=Change.Status.REFUSED, problems=problems, **over()):
            return
        _touch(change_id)
        change = Change.objects.get(pk=change_id)
        added = list(UploadedFile.objects.filter(pk__in=change.asked.get("files", [])))
        UploadedFile.objects.filter(pk__in=[each.pk for each in added]).delete()
        for each in added:
            transaction.on_commit(partial(storage.delete_file, each.storage_key))
