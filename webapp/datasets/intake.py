"""Takes files in and makes a dataset of them; looking into them is the worker's business (inspection.py)."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files import File
from django.db import transaction
from django.db.models import BigIntegerField, Max, Sum
from django.db.models.fields.json import KT
from django.db.models.functions import Cast

from webapp import storage
from webapp.accounts.models import User, Workspace
from webapp.datasets import suggestion
from webapp.datasets.claims import INSPECT, publish, waiting
from webapp.datasets.formats import all_extensions
from webapp.datasets.models import Dataset, DatasetVersion, UploadedFile
from webapp.datasets.splitting import seed_trouble
from webapp.datasets.uploading import ArrivedFile, IncomingFile, KeptFile
from webapp.storable import fault_of
from webapp.templatetags.ui import size
from webapp.uploads import quota, receiving
from webapp.uploads.incoming import clean_name, incoming_folder

log = logging.getLogger(__name__)
MAX_FILES = 50
REQUEST_KEYS = {"task", "columns", "has_header", "split_column", "seed"}


class IntakeError(Exception):
    """The files or what was said about them cannot be taken; `fields` says which."""

    def __init__(self, fields: dict[str, str], status: int = 422) -> None:
        super().__init__(" ".join(fields.values()))
        self.fields, self.status = fields, status


def create_dataset(
    *,
    workspace: Workspace,
    user: User | None,
    files: Sequence[File[bytes]],
    name: str = "",
    request: dict[str, Any] | None = None,
    source: dict[str, Any] | None = None,
) -> Dataset:
    """Keep the files and have them inspected. Raises IntakeError; then nothing is kept.

    `source`: where they come from (sources.py), if nobody uploaded them.
    """
    asked = checked_request(request or {})
    check_files(workspace, files)
    names = [clean_name(file.name or "") for file in files]
    title = " ".join(name.split())[:200] or Path(names[0]).stem[:200]
    dataset: Dataset | None = None
    try:
        with transaction.atomic():
            dataset = Dataset.objects.create(
                workspace=workspace,
                created_by=user,
                name=title,
                request={**asked, "source": source} if source else asked,
                **waiting(),
            )
            for file, said in zip(files, names, strict=True):
                keep_file(dataset, file, said)
    except BaseException:
        if dataset is not None:
            storage.delete_under(f"datasets/{dataset.pk}")
        raise
    publish_inspection(dataset)
    return dataset


def create_of_uploads(
    *,
    workspace: Workspace,
    user: User,
    uploads: Sequence[uuid.UUID],
    name: str = "",
    request: dict[str, Any] | None = None,
) -> Dataset:
    """The same of files that came piece by piece. Raises IntakeError; then the uploads stay as they are."""
    try:
        whole = receiving.find_whole(user, workspace, list(dict.fromkeys(uploads)))
        with transaction.atomic():
            receiving.lock(whole)
            files = [ArrivedFile(upload) for upload in whole]
            dataset = create_dataset(workspace=workspace, user=user, files=files, name=name, request=request)
            receiving.release(whole)
    except receiving.Refused as error:
        raise IntakeError({"file": str(error)}) from error
    return dataset


def held_bytes(workspace: Workspace) -> int:
    """What datasets of a workspace take, of its quota: files as they came, versions, and what is being fetched."""
    files = UploadedFile.objects.filter(dataset__workspace=workspace).aggregate(all=Sum("size"))["all"]
    versions = DatasetVersion.objects.filter(dataset__workspace=workspace)
    once = versions.values("dataset", "content_hash").annotate(
        size=Max("size_bytes")
    )  # their files are shared
    fetching = Dataset.objects.filter(workspace=workspace, status=Dataset.Status.INSPECTING)
    coming = fetching.aggregate(all=Sum(Cast(KT("request__source__size"), BigIntegerField())))["all"]
    return (files or 0) + (once.aggregate(all=Sum("size"))["all"] or 0) + (coming or 0)


def size_refusal(workspace: Workspace, wanted: int) -> str:
    """Why so many bytes cannot be taken from elsewhere, as a sentence; empty if they can."""
    if wanted > settings.UPLOAD_MAX_BYTES:
        return f"It has {size(wanted)}; this server takes up to {size(settings.UPLOAD_MAX_BYTES)} at once."
    return quota.refusal(workspace, wanted)


def publish_inspection(dataset: Dataset) -> None:
    """Wake a worker for the inspection once the row can be seen."""
    pk = dataset.pk
    transaction.on_commit(lambda: publish(INSPECT, pk))


def checked_request(request: dict[str, Any]) -> dict[str, Any]:
    """What the uploader said, with everything empty left out; raises IntakeError."""
    said = {key: value for key, value in request.items() if value not in (None, "", {})}
    wrong: dict[str, str] = {key: "There is no such option." for key in said if key not in REQUEST_KEYS}
    if "task" in said and said["task"] not in suggestion.registered():
        offered = ", ".join(suggestion.registered())
        wrong["task"] = f"There is no task “{said['task']}”. Leave it out, or choose one of: {offered}."
    columns = said.get("columns", {})
    if not isinstance(columns, dict) or not all(
        isinstance(role, str) and isinstance(column, str) for role, column in columns.items()
    ):
        wrong["columns"] = 'Say it as {"role": "column"}, for example {"text": "review", "label": "stars"}.'
    elif columns and "task" not in wrong:
        wrong |= _unknown_roles(said.get("task", ""), columns)
    if not isinstance(said.get("has_header", True), bool):
        wrong["has_header"] = "Say true or false, or leave it out."
    if not isinstance(said.get("split_column", ""), str):
        wrong["split_column"] = "Say the name of a column."
    wrong |= {key: f"This {fault}." for key, value in said.items() if (fault := fault_of(value))}
    if trouble := seed_trouble(said.get("seed", 0)):
        wrong["seed"] = trouble
    if wrong:
        raise IntakeError(wrong)
    return said


def _unknown_roles(task: str, columns: dict[str, str]) -> dict[str, str]:
    registered = suggestion.registered()
    tasks = [registered[task]] if task else list(registered.values())
    known = {role for needs in tasks for role in needs.roles}
    unknown = sorted(set(columns) - known)
    if not unknown or not tasks:
        return {}
    return {"columns": f"No role is called “{unknown[0]}”. There are: {', '.join(sorted(known))}."}


def check_files(workspace: Workspace, files: Sequence[File[bytes]]) -> None:
    """That so many files, of this size, can be taken. Raises IntakeError."""
    _check_sizes(files)
    _check_quota(workspace, files)


def _check_sizes(files: Sequence[File[bytes]]) -> None:
    if not files:
        raise IntakeError({"file": f"Choose at least one file: {', '.join(all_extensions())}."})
    if len(files) > MAX_FILES:
        raise IntakeError({"file": f"These are {len(files)} files; at most {MAX_FILES} make one dataset."})
    if sum(file.size or 0 for file in files) > settings.UPLOAD_MAX_BYTES:
        limit = settings.UPLOAD_MAX_BYTES / 1e9
        raise IntakeError(
            {"file": f"Together the files are over the limit of {limit:.1f} GB of this server."}, status=413
        )


def _check_quota(workspace: Workspace, files: Sequence[File[bytes]]) -> None:
    """Of files that came in one request; what came piece by piece was counted before it came."""
    wanted = sum(file.size or 0 for file in files if not isinstance(file, ArrivedFile))
    if wanted and (reason := quota.refusal(workspace, wanted)):
        raise IntakeError({"file": reason}, status=413)


def keep_file(dataset: Dataset, file: File[bytes], name: str) -> UploadedFile:
    """Into storage under a key of ours: nothing of the name that people chose, but a known extension."""
    number = str(dataset.files.count())
    if dataset.version_id is not None:  # one that was added and refused may be on its way out of storage
        number += f"-{uuid.uuid4().hex[:8]}"
    extension = Path(name).suffix.lower()
    key = f"datasets/{dataset.pk}/uploads/{number}{extension if extension in all_extensions() else ''}"
    if isinstance(file, KeptFile):
        length, digest = file.size or 0, file.sha256
        storage.copy(file.key, key)
    elif isinstance(file, IncomingFile):
        length, digest = file.size or 0, file.sha256
        storage.put(file.path, key, move=True)
    else:
        path = incoming_folder() / f"{dataset.pk}-{number}"
        hashed, length = hashlib.sha256(), 0
        try:
            with path.open("wb") as target:
                for chunk in file.chunks(storage.CHUNK):
                    hashed.update(chunk)
                    length += target.write(chunk)
            digest = hashed.hexdigest()
            storage.put(path, key, move=True)
        finally:
            path.unlink(missing_ok=True)
    kept: UploadedFile = UploadedFile.objects.create(
        dataset=dataset, name=name, storage_key=key, size=length, sha256=digest
    )
    return kept


def copy_upload(upload: UploadedFile, folder: Path, number: int) -> Path:
    """A local file to read: where storage has it, or a copy."""
    local = storage.local_path(upload.storage_key)
    if local is not None:
        return local
    path = folder / f"upload-{number}"
    storage.get(upload.storage_key, path)
    return path
