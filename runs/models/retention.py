"""What goes by itself, what has gone, and what is still to be removed from storage."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Coalesce, Now

from runs.models.run import Run
from webapp.accounts.models import User, Workspace


class RetentionRule(models.Model):
    """After how many days the parts of a run go; None: never. Counted from the end of the run.

    Without a workspace it is the site's: it counts for the workspaces that have none of their own.
    """

    class KeepCheckpoint(models.TextChoices):
        NONE = "none", "None"
        LAST = "last", "The last (a run can be extended)"
        BEST = "best", "The best"
        BOTH = "both", "The last and the best"

    class Points(models.TextChoices):
        THIN = "thin", "Thin out to 1,000 a series"
        REMOVE = "remove", "Remove all"

    workspace = models.ForeignKey(Workspace, null=True, on_delete=models.CASCADE, related_name="+")
    checkpoint_days = models.PositiveIntegerField(null=True, blank=True)  # of runs that succeeded
    unfinished_checkpoint_days = models.PositiveIntegerField(null=True, blank=True)  # failed, cancelled
    checkpoint_keep = models.CharField(
        max_length=4, choices=KeepCheckpoint.choices, default=KeepCheckpoint.NONE
    )
    log_days = models.PositiveIntegerField(null=True, blank=True)
    file_days = models.PositiveIntegerField(null=True, blank=True)  # model files of runs that succeeded
    unfinished_file_days = models.PositiveIntegerField(null=True, blank=True)  # failed, cancelled
    metric_days = models.PositiveIntegerField(null=True, blank=True)
    metric_action = models.CharField(max_length=6, choices=Points.choices, default=Points.THIN)
    run_days = models.PositiveIntegerField(null=True, blank=True)
    remove_orphans = models.BooleanField(default=False)  # the site's alone
    updated_at = models.DateTimeField(auto_now=True)
    updated_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(Coalesce("workspace", models.Value(0)), name="one_retention_rule_each")
        ]


class HousekeepingReport(models.Model):
    """One round of house-keeping; its `removals` are what went."""

    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)
    # The round of each day looks at all workspaces; others are asked for, by whom it says.
    is_daily = models.BooleanField(default=False)
    asked_by = models.CharField(max_length=200, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        ordering = ["-started_at"]


class Removal(models.Model):
    """A part of a run that is gone, or a whole one: what a page says where it would be."""

    class Kind(models.TextChoices):
        CHECKPOINTS = "checkpoints", "Checkpoints"
        LOGS = "logs", "Logs"
        FILES = "files", "Model files"
        POINTS = "points", "Points of metrics"
        RUN = "run", "Whole run"
        ORPHANS = "orphans", "Files without an owner"

    report = models.ForeignKey(
        HousekeepingReport, null=True, on_delete=models.CASCADE, related_name="removals"
    )
    workspace = models.ForeignKey(Workspace, null=True, on_delete=models.CASCADE, related_name="+")
    run = models.ForeignKey(Run, null=True, on_delete=models.SET_NULL, related_name="removals")
    run_name = models.CharField(max_length=200, blank=True)
    kind = models.CharField(max_length=12, choices=Kind.choices)
    count = models.BigIntegerField(default=0)  # files, or points
    size_bytes = models.BigIntegerField(default=0)
    reason = models.TextField()
    details = models.JSONField(default=dict)  # files: [{name, size}], of model files
    at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["-at", "-id"]
        indexes = [models.Index(fields=["workspace", "-at"], name="removals_of_workspace")]


class StorageRemoval(models.Model):
    """Files that no row owns any more and that have to leave storage; stays until they have.

    Made in the transaction that takes their owner away, so that neither a crash nor a storage that
    refuses leaves them behind.
    """

    prefix = models.CharField(max_length=500)
    keys = models.JSONField(default=list)  # these alone; empty: everything below the prefix
    # Again after a while where a worker that has lost its run without knowing may still write.
    passes_left = models.IntegerField(default=1)
    due_at = models.DateTimeField(db_default=Now())
    tries = models.IntegerField(default=0)
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = [models.Index(fields=["due_at"], name="storage_removal_to_do")]


class StorageUse(models.Model):
    """How much storage held of a kind on a day, as it was counted."""

    class Kind(models.TextChoices):
        DATASETS = "datasets", "Datasets"
        FILES = "files", "Model files"
        CHECKPOINTS = "checkpoints", "Checkpoints"
        LOGS = "logs", "Logs"
        OTHER = "other", "Other"

    day = models.DateField()
    measured_at = models.DateTimeField(db_default=Now())
    workspace = models.ForeignKey(Workspace, null=True, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=12, choices=Kind.choices)
    files = models.BigIntegerField()
    size_bytes = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                "day", "kind", Coalesce("workspace", models.Value(0)), name="one_count_a_day"
            )
        ]
