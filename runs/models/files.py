"""What a run keeps in storage: checkpoints to go on from, files to download."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from runs.models.run import Run


class Checkpoint(models.Model):
    """What an attempt can resume from; the row is made after the manifest stands in storage."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="checkpoints")
    step = models.BigIntegerField()
    storage_prefix = models.CharField(max_length=500)
    size_bytes = models.BigIntegerField()
    is_best = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "step"], name="one_checkpoint_a_step")]


class Artifact(models.Model):
    """A file that people download."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="artifacts")
    name = models.CharField(max_length=300)  # path inside the model folder, forward slashes
    storage_key = models.CharField(max_length=500)
    size = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)

    class Meta:
        ordering = ["name"]
        constraints = [models.UniqueConstraint(fields=["run", "name"], name="one_artifact_a_name")]
