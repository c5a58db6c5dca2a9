"""How much storage holds, by kind and workspace: counted each day, so that growth can be shown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Max, Sum

from runs.models import Removal, Run, StorageUse
from webapp import clock, storage
from webapp.accounts.models import Workspace
from webapp.datasets.models import Dataset
from webapp.storage import Stored
from webapp.uploads.models import Upload

Kind = StorageUse.Kind
OF_A_RUN = {"artifacts": Kind.FILES, "checkpoints": Kind.CHECKPOINTS, "logs": Kind.LOGS}
KEPT_DAYS = 400


def measure(files: Iterable[Stored] | None = None) -> None:
    """Count what storage holds, and keep it as the count of today."""
    counted: dict[tuple[int | None, Kind], list[int]] = defaultdict(lambda: [0, 0])
    listed = storage.listing() if files is None else files
    workspace_of_run = dict(Run.objects.values_list("pk", "workspace"))
    workspace_of_dataset = dict(Dataset.objects.values_list("pk", "workspace"))
    workspace_of_upload = {
        str(pk): workspace for pk, workspace in Upload.objects.values_list("pk", "workspace")
    }
    for file in listed:
        parts = file.key.split("/")
        number = int(parts[1]) if len(parts) > 2 and parts[1].isdecimal() else None
        workspace, kind = None, Kind.OTHER
        if parts[0] == "runs" and number is not None:
            workspace, kind = workspace_of_run.get(number), OF_A_RUN.get(parts[2], Kind.OTHER)
        elif parts[0] == "datasets" and number is not None:
            workspace, kind = workspace_of_dataset.get(number), Kind.DATASETS
        elif parts[0] == "uploads" and len(parts) > 2:
            workspace, kind = workspace_of_upload.get(parts[1]), Kind.DATASETS
        cell = counted[workspace, kind]
        cell[0] += 1
        cell[1] += file.size
    today = clock.now().date()
    there = set(Workspace.objects.values_list("pk", flat=True))
    with transaction.atomic():
        StorageUse.objects.filter(day=today).delete()
        StorageUse.objects.filter(day__lt=today - timedelta(days=KEPT_DAYS)).delete()
        rows = [
            StorageUse(day=today, workspace_id=workspace, kind=kind, files=count, size_bytes=size)
            for (workspace, kind), (count, size) in counted.items()
            if workspace is None or workspace in there
        ]
        if not any(row.workspace_id is None for row in rows):  # says that an empty storage was counted, too
            rows.append(StorageUse(day=today, kind=Kind.OTHER, files=0, size_bytes=0))
        StorageUse.objects.bulk_create(rows, ignore_conflicts=True)


@dataclass(frozen=True)
class KindUse:
    title: str
    files: int
    size_bytes: int


@dataclass(frozen=True)
class Use:
    """What a workspace holds, or with all of them the site."""

    measured_at: datetime | None
    kinds: list[KindUse]
    size_bytes: int
    growth_bytes: int | None  # since `growth_days` days ago; None while there is no earlier count
    growth_days: int


def use_of(workspace: Workspace | None) -> Use:
    """The newest count; None: of everything in storage, whoever it belongs to."""
    newest = StorageUse.objects.aggregate(day=Max("day"), at=Max("measured_at"))
    if newest["day"] is None:
        return Use(None, [], 0, None, 0)
    mine = StorageUse.objects.filter(workspace=workspace) if workspace else StorageUse.objects.all()
    today = mine.filter(day=newest["day"]).values_list("kind").annotate(Sum("files"), Sum("size_bytes"))
    found = {kind: (files, size) for kind, files, size in today.order_by()}
    kinds = [
        KindUse(kind.label, *found.get(str(kind), (0, 0)))
        for kind in Kind
        if kind != Kind.OTHER or found.get(str(kind), (0, 0))[0]
    ]
    total = sum(kind.size_bytes for kind in kinds)
    days = StorageUse.objects.values_list("day", flat=True).distinct().order_by("day")
    since = days.filter(day__gte=newest["day"] - timedelta(days=30), day__lt=newest["day"]).first()
    growth, passed = None, 0
    if since is not None:
        before = mine.filter(day=since).aggregate(size=Sum("size_bytes"))["size"] or 0
        growth, passed = total - before, (newest["day"] - since).days
    return Use(newest["at"], kinds, total, growth, passed)


def by_workspace() -> list[tuple[str, int, int]]:
    """(workspace, files, bytes) of the newest count, largest first; the last may be what nobody owns."""
    newest = StorageUse.objects.aggregate(day=Max("day"))["day"]
    found = (
        StorageUse.objects.filter(day=newest)
        .values_list("workspace__name")
        .annotate(files=Sum("files"), size=Sum("size_bytes"))
    )
    return [(name or "Nobody’s", files, size) for name, files, size in found.order_by("-size") if files]


@dataclass(frozen=True)
class RunUse:
    """What one run keeps in storage, as its rows say."""

    files: int
    file_bytes: int
    checkpoints: int
    checkpoint_bytes: int
    removed: list[Removal]

    @property
    def size_bytes(self) -> int:
        return self.file_bytes + self.checkpoint_bytes

    @property
    def removed_files(self) -> Removal | None:
        """The removal of the model files, if none have come since."""
        if self.files:
            return None
        return next((item for item in self.removed if item.kind == Removal.Kind.FILES), None)


def use_of_run(run: Run, files: Sequence[int]) -> RunUse:
    """`files`: bytes of each of its model files."""
    saved = list(run.checkpoints.values_list("size_bytes", flat=True))
    removed = list(Removal.objects.filter(run=run).order_by("-at", "-pk"))
    return RunUse(len(files), sum(files), len(saved), sum(saved), removed)
