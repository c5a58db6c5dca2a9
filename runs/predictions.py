"""A dataset of what a finished run said of its held-out rows (runs/training/predictions.py writes the file)."""

from __future__ import annotations

from django.db.models import QuerySet

from runs.models import Artifact, Run
from runs.training.events import PREDICTIONS
from webapp import storage
from webapp.accounts.models import User
from webapp.datasets import intake, suggestion
from webapp.datasets.models import Dataset
from webapp.datasets.uploading import KeptFile


class NoPredictions(Exception):
    """The run keeps none; the message says why."""


def find(run: Run) -> Artifact | None:
    """The file, if the run has one."""
    found: Artifact | None = run.artifacts.filter(name=PREDICTIONS).first()
    return found


def without(artifacts: QuerySet[Artifact]) -> QuerySet[Artifact]:
    """The model folder as people pass it on: rows of a dataset are no part of it."""
    return artifacts.exclude(name=PREDICTIONS)


def make_dataset(run: Run, user: User) -> Dataset:
    """Keep the file as a dataset of the run's workspace and have it inspected.

    Raises NoPredictions, or IntakeError where there is no room for it.
    """
    artifact = find(run)
    if artifact is None or not storage.exists(artifact.storage_key):
        raise NoPredictions(
            "This run keeps no predictions: it has not succeeded yet, was made before they were kept, or its files "
            "were removed."
        )
    known = run.task in suggestion.registered()
    file = KeptFile(artifact.storage_key, artifact.name, artifact.size, artifact.sha256)
    return intake.create_dataset(
        workspace=run.workspace,
        user=user,
        files=[file],
        name=f"Predictions of {run.name}",
        request={"task": run.task, "columns": run.columns} if known else {},
        source={"kind": "predictions", "run": run.pk, "name": run.name, "dataset": run.dataset_name},
    )
