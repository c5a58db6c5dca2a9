"""The hosts of an attempt beside the one that leads it; each holds its part by a lease of its own."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from runs.models.run import Attempt
from runs.models.worker import Worker


class Node(models.Model):
    """What one more worker does for an attempt on several hosts. All of them are made with the attempt."""

    attempt = models.ForeignKey(Attempt, on_delete=models.CASCADE, related_name="nodes")
    rank = models.IntegerField()  # from 1; 0 is the attempt's own worker
    worker = models.ForeignKey(Worker, null=True, on_delete=models.SET_NULL, related_name="nodes")
    lease_until = models.DateTimeField()
    devices = models.JSONField(default=list)  # indexes of the GPUs that it has of that host
    started_at = models.DateTimeField(null=True)  # its worker has taken it up
    leaving = models.BooleanField(default=False)  # its worker is shutting down: the run has to save and leave
    log_tail = models.TextField(blank=True)
    created_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)  # its worker has let go
    outcome = models.CharField(max_length=20, blank=True)  # done, lost, failed
    failure = models.JSONField(default=dict)  # {code, message, hint, log_tail} unless it is done

    class Meta:
        ordering = ["rank"]
        constraints = [models.UniqueConstraint(fields=["attempt", "rank"], name="one_node_a_rank")]
        indexes = [
            models.Index(fields=["worker"], condition=models.Q(finished_at=None), name="node_of_worker")
        ]
