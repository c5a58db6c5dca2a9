"""The processes that take runs, and what they say of their hosts."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class Worker(models.Model):
    """A host process that takes runs. Gone when `last_seen_at` is older than a lease."""

    name = models.CharField(max_length=200, unique=True)  # host:home, stable over restarts
    host = models.CharField(max_length=200)
    pid = models.IntegerField()
    queues = models.JSONField(default=list)
    slots = models.IntegerField(default=1)
    devices = models.JSONField(default=list)  # [{name, memory_bytes}]
    versions = models.JSONField(default=dict)  # {tuneboard, torch, transformers, …}
    started_at = models.DateTimeField(default=timezone.now)
    last_seen_at = models.DateTimeField(default=timezone.now)

    def __str__(self) -> str:
        return self.name
