"""A dataset, the files it came as, and its immutable versions in canonical form."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils import timezone

from webapp.accounts.models import OwnedModel, User
from webapp.catalog.models import BaseModel
from webapp.datasets.claims import Claimed


class Dataset(OwnedModel, Claimed):
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
    # Why it cannot be used, as a version's problems; of one that can, its version has what was found.
    problems = models.JSONField(default=list, blank=True)
    version = models.ForeignKey("DatasetVersion", null=True, on_delete=models.SET_NULL, related_name="+")

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

    @property
    def findings(self) -> list[dict[str, Any]]:
        """What was found in the version that runs get, or why there is none."""
        found: list[dict[str, Any]] = self.version.problems if self.version else self.problems
        return found


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
    number = models.IntegerField(default=1)  # from 1, in the order in which they were made
    parent = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="children")
    # What made it out of its parent: {op, …, says: a sentence}, as edits/ knows them; empty of an upload.
    change = models.JSONField(default=dict, blank=True)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
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
    mapping = models.CharField(max_length=32, blank=True)  # versions.mapping_hash of `suggested`
    # [{severity: error|serious|warning, code, message, file, split, row, column, hint, count, other_split,
    # other_row, values}] as problems.Problem says, worst first.
    problems = models.JSONField(default=list, blank=True)
    preview = models.JSONField(default=list)  # first rows: [{column: value}], long text cut
    # How the split was made, seed, dialect; stored {file name: {size, sha256}} of the Parquet files.
    details = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    LARGE = ("columns", "preview", "problems", "details")  # left in the database where they are not shown

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["dataset", "content_hash", "mapping"], name="one_version_a_content_and_mapping"
            ),
            models.UniqueConstraint(fields=["dataset", "number"], name="one_version_a_number"),
        ]


class Change(Claimed):
    """A new version that is asked for: made by a worker, out of `parent`."""

    class Status(models.TextChoices):
        WAITING = "waiting", "Being made"
        DONE = "done", "Done"
        REFUSED = "refused", "Cannot be made"

    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="changes")
    parent = models.ForeignKey(DatasetVersion, on_delete=models.CASCADE, related_name="+")
    asked = models.JSONField()  # {op, …}, checked
    title = models.CharField(max_length=300)  # of what is being done, in words
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.WAITING)
    problems = models.JSONField(default=list, blank=True)  # why it cannot be made
    result = models.ForeignKey(DatasetVersion, null=True, on_delete=models.SET_NULL, related_name="+")
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["dataset"], condition=models.Q(status="waiting"), name="one_change_at_a_time"
            )
        ]


class TokenLengths(Claimed):
    """How long a version's texts are in tokens of a model: counted by a worker once somebody asks, and kept."""

    class Status(models.TextChoices):
        WAITING = "waiting", "Being counted"
        DONE = "done", "Done"
        REFUSED = "refused", "Cannot be counted"

    version = models.ForeignKey(DatasetVersion, on_delete=models.CASCADE, related_name="token_lengths")
    model = models.ForeignKey(BaseModel, on_delete=models.CASCADE, related_name="+")
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.WAITING)
    result = models.JSONField(default=dict, blank=True)  # as token_counting.count_tokens gives it
    problems = models.JSONField(default=list, blank=True)  # why it cannot be counted
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["version", "model"], name="one_count_a_version_and_model")
        ]
