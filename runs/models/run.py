"""Runs and their attempts. States are changed in runs/lifecycle/ alone."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from runs.models.worker import Worker
from webapp.accounts.models import OwnedModel
from webapp.catalog.models import BaseModel
from webapp.datasets.models import DatasetVersion

READY = models.Q(status="queued", waits_for="")  # for a worker: nothing else has to happen before


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

    class Priority(models.IntegerChoices):
        LOW = -1, "Low"
        NORMAL = 0, "Normal"
        HIGH = 1, "High"

    class WaitsFor(models.TextChoices):
        NOTHING = "", "a worker"
        TIME = "time", "its time"
        RUN = "run", "another run"

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
    made_from = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="copies")

    # When and where it may start; runs/queueing/ decides which is next.
    priority = models.SmallIntegerField(choices=Priority.choices, default=Priority.NORMAL)
    rank = models.SmallIntegerField(default=0)  # its priority, raised while it waits for long
    waits_for = models.CharField(max_length=4, choices=WaitsFor.choices, default="", blank=True)
    not_before = models.DateTimeField(null=True)
    after = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="followers")
    memory_bytes = models.BigIntegerField(null=True)  # of one device; an estimate, or what a person said
    time_limit_seconds = models.IntegerField(null=True)
    limit_counts_after = models.IntegerField(default=0)  # attempts up to this number count no more

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
    queued_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    last_step_at = models.DateTimeField(null=True)  # when it last got on: a step, or a new phase
    stalled_since = models.DateTimeField(null=True)  # last sign of progress before a stall that was told of
    keep = models.BooleanField(default=False)  # no retention rule removes anything of it
    row_version = models.BigIntegerField(default=1)  # rises with every change: the poll's tag

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            models.Index(fields=["workspace", "-created_at"], name="run_list_of_workspace"),
            # Skipped through by workspace and queue; the first of each pair is what may be claimed there.
            models.Index(
                fields=["workspace", "queue", "-rank", "queued_at", "id"],
                include=["memory_bytes"],
                condition=READY,
                name="run_next_to_claim",
            ),
            models.Index(fields=["queued_at"], condition=READY & models.Q(rank__lt=1), name="run_to_move_up"),
            models.Index(
                fields=["not_before"],
                condition=models.Q(status="queued", waits_for="time"),
                name="run_due_by_time",
            ),
            models.Index(
                fields=["workspace"], condition=models.Q(status="running"), name="run_running_by_workspace"
            ),
            models.Index(
                fields=["id"], condition=models.Q(stalled_since__isnull=False), name="run_that_stalls"
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

    @property
    def gpus(self) -> int:
        """How many it needs on all of its hosts, by its queue."""
        named = self.queue.startswith("gpu") and self.queue[3:].isdecimal()
        return int(self.queue[3:]) * self.nodes if named else 0


class Attempt(models.Model):
    """One try of a run on one worker, held by a lease that heartbeats extend."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="attempts")
    number = models.IntegerField()
    worker = models.ForeignKey(Worker, null=True, on_delete=models.SET_NULL, related_name="attempts")
    lease_until = models.DateTimeField()
    devices = models.JSONField(default=list)  # indexes of the GPUs that it has of its worker's host
    # How far the trainer's events.jsonl has been taken in; moves in the transaction of the rows.
    events_offset = models.BigIntegerField(default=0)
    resumed_from_step = models.BigIntegerField(null=True)
    # host:port where the processes of several hosts meet; set by the leader once it is about to start.
    rendezvous = models.CharField(max_length=300, blank=True)
    log_tail = models.TextField(blank=True)  # last lines of the trainer's output
    started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=20, blank=True)  # succeeded, failed, cancelled, paused, lost

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="one_attempt_a_number")]
        indexes = [
            models.Index(
                fields=["lease_until"], condition=models.Q(finished_at=None), name="attempt_lease_to_reap"
            )
        ]
