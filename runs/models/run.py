"""Runs and their attempts. States are changed in runs/lifecycle.py alone."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from runs.models.worker import Worker
from webapp.accounts.models import OwnedModel
from webapp.catalog.models import BaseModel
from webapp.datasets.models import DatasetVersion


class Run(OwnedModel):
    """One fine-tuning of one base model on one dataset version."""

    class Status(models.TextChoices):
        QUEUED = "queued", "Queued"
        RUNNING = "running", "Running"
        PAUSED = "paused", "Paused"
        SUCCEEDED = "succeeded", "Succeeded"
        FAILED = "failed", "Failed"
        CANCELLED = "cancelled", "Cancelled"

    class Desired(models.TextChoices):
        GO_ON = "go_on", "Go on"
        PAUSE = "pause", "Pause"
        CANCEL = "cancel", "Cancel"

    name = models.CharField(max_length=200)
    base_model = models.ForeignKey(BaseModel, on_delete=models.PROTECT, related_name="runs")
    dataset_version = models.ForeignKey(
        DatasetVersion, null=True, on_delete=models.SET_NULL, related_name="runs"
    )
    dataset_name = models.CharField(max_length=200)  # stays when the dataset is deleted
    dataset_hash = models.CharField(max_length=64)
    task = models.CharField(max_length=50)
    method = models.CharField(max_length=30)
    columns = models.JSONField()  # {role: column}
    settings = models.JSONField()  # every setting with its value, defaults filled in
    queue = models.CharField(max_length=20, default="cpu")  # what it needs of each host: cpu, gpu1 …
    nodes = models.IntegerField(default=1)  # hosts that train it together
    processes = models.IntegerField(default=1)  # on each host: one a GPU
    strategy = models.CharField(max_length=10, blank=True)  # how they share the work: ddp, fsdp2; "": alone

    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    desired = models.CharField(max_length=10, choices=Desired.choices, default=Desired.GO_ON)
    attempt = models.IntegerField(default=0)  # number of the newest attempt; 0: none yet
    attempts_allowed = models.IntegerField(default=3)
    phase = models.CharField(max_length=20, blank=True)
    step = models.BigIntegerField(default=0)
    total_steps = models.BigIntegerField(default=0)
    epoch = models.FloatField(default=0)
    rate = models.FloatField(null=True)  # examples a second, newest
    eta_seconds = models.FloatField(null=True)
    metrics = models.JSONField(default=dict)  # newest of each series; final ones once it ended
    baseline = models.JSONField(default=dict)  # {name, title, metrics {…}} on the same rows
    results = models.JSONField(default=dict)  # what a page shows beside numbers: confusion matrix …
    failure = models.JSONField(default=dict)  # {code, message, hint, log_tail [lines]}
    queued_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    row_version = models.BigIntegerField(default=1)  # rises with every change: the poll's tag

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["workspace", "-created_at"], name="run_list_of_workspace"),
            models.Index(
                fields=["queue", "queued_at"], condition=models.Q(status="queued"), name="run_next_to_claim"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def world_size(self) -> int:
        """How many processes train it together."""
        return self.nodes * self.processes

    @property
    def is_over(self) -> bool:
        """True once the status can change no more."""
        return self.status in {self.Status.SUCCEEDED, self.Status.FAILED, self.Status.CANCELLED}


class Attempt(models.Model):
    """One try of a run on one worker, held by a lease that heartbeats extend."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="attempts")
    number = models.IntegerField()
    worker = models.ForeignKey(Worker, null=True, on_delete=models.SET_NULL, related_name="attempts")
    lease_until = models.DateTimeField()
    # How far the trainer's events.jsonl has been taken in; moves in the transaction of the rows.
    events_offset = models.BigIntegerField(default=0)
    resumed_from_step = models.BigIntegerField(null=True)
    # host:port where the processes of several hosts meet; set by the leader once it is about to start.
    rendezvous = models.CharField(max_length=300, blank=True)
    log_tail = models.TextField(blank=True)  # last lines of the trainer's output
    started_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=20, blank=True)  # succeeded, failed, cancelled, paused, lost

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="one_attempt_a_number")]
        indexes = [
            models.Index(
                fields=["lease_until"], condition=models.Q(finished_at=None), name="attempt_lease_to_reap"
            )
        ]
