"""A dataset, the files it came as, and its immutable versions in canonical form."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from webapp.accounts.models import OwnedModel


class Dataset(OwnedModel):
    """What a person uploaded or a sample made. Facts about rows are the version's."""

    class Status(models.TextChoices):
        INSPECTING = "inspecting", "Inspecting"
        READY = "ready", "Ready"
        INVALID = "invalid", "Cannot be used"

    name = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.INSPECTING)
    # What the uploader said: {task, columns {role: column}, has_header, split_column, seed}; all optional.
    request = models.JSONField(default=dict, blank=True)
    sample = models.CharField(max_length=50, blank=True)  # slug of the sample that made it
    # [{severity: error|serious|warning, code, message, file, split, row, column, hint, count, other_split,
    # other_row, values}] as problems.Problem says, worst first.
    problems = models.JSONField(default=list, blank=True)
    version = models.ForeignKey("DatasetVersion", null=True, on_delete=models.SET_NULL, related_name="+")
    # The inspection is claimed by compare-and-set on these; one that dies is claimed again.
    claimed_by = models.CharField(max_length=200, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    attempts = models.IntegerField(default=0)
    stage = models.CharField(max_length=50, blank=True)
    progress_done = models.BigIntegerField(default=0)  # bytes or rows, of progress_total
    progress_total = models.BigIntegerField(default=0)
    row_version = models.BigIntegerField(default=1)  # rises with every change: the poll's tag

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["workspace", "-created_at"], name="dataset_list_of_workspace"),
            models.Index(
                fields=["lease_until"], condition=models.Q(status="inspecting"), name="dataset_to_inspect"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class UploadedFile(models.Model):
    """One file as it arrived, in storage until its dataset is deleted."""

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="files")
    name = models.CharField(max_length=300)  # as the user called it; never a path
    storage_key = models.CharField(max_length=500)
    size = models.BigIntegerField()
    sha256 = models.CharField(max_length=64)


class DatasetVersion(models.Model):
    """Immutable rows in canonical Parquet: `<storage_prefix>/<split>-00000-of-0000N.parquet`.

    The schema's `huggingface` metadata carries the `datasets` features, so that
    `datasets.load_dataset("parquet", …)` gives labels as named classes and images as images.
    """

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="versions")
    content_hash = models.CharField(max_length=64)
    storage_prefix = models.CharField(max_length=500)
    size_bytes = models.BigIntegerField()
    rows = models.BigIntegerField()
    splits = models.JSONField()  # {"train": rows, "validation": rows, "test": rows}
    # [{name, kind, nulls, distinct, …}]; kind: as docs/architecture.md lists them. Of classes: names [...],
    # counts {split: {name: n}}. text: chars {mean, p50, p95, max}. text, integer, float: histogram {of, edges,
    # counts {split: [n a bin, n beyond]}}. The rest: Tally.facts.
    columns = models.JSONField()
    suggested = models.JSONField(default=dict)  # {task, columns {role: column}, reason}
    preview = models.JSONField(default=list)  # first rows: [{column: value}], long text cut
    # How the split was made, seed, dialect; stored {file name: {size, sha256}} of the Parquet files.
    details = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["dataset", "content_hash"], name="one_version_a_content")
        ]
