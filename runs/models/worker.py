"""The processes that take runs, and what they say of their hosts."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.db import models, transaction
from django.db.models import F
from django.db.models.functions import Least, Now
from django.utils import timezone


class Worker(models.Model):
    """A host process that takes runs. Gone when `last_seen_at` is older than a lease."""

    name = models.CharField(max_length=200, unique=True)  # host:home, stable over restarts
    host = models.CharField(max_length=200)
    pid = models.IntegerField()
    queues = models.JSONField(default=list)
    slots = models.IntegerField(default=1)
    devices = models.JSONField(default=list)  # [{index, uuid, name, memory_bytes}]
    versions = models.JSONField(default=dict)  # {tuneboard, python, torch, transformers, driver, cuda, …}
    cpus = models.IntegerField(default=0)
    memory_bytes = models.BigIntegerField(default=0)  # of the host
    telemetry = models.JSONField(default=dict)  # newest sample: {devices: […], host: {…}}
    # Asked for by an admin: finish what runs here and take no more. Outlives restarts of the worker.
    draining = models.BooleanField(default=False)
    # Told to stop: its runs save and go back to the queue. Until it is started again it is given nothing.
    leaving = models.BooleanField(default=False)
    cost_setting = models.FloatField(null=True)  # TUNEBOARD_COST_PER_HOUR of that host
    cost_edited = models.FloatField(null=True)  # said on the page, and goes before the setting
    started_at = models.DateTimeField(db_default=Now())
    last_seen_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.name

    @property
    def cost_per_hour(self) -> float | None:
        return self.cost_setting if self.cost_edited is None else self.cost_edited

    @property
    def is_online(self) -> bool:
        """Whether it has been heard of within a lease."""
        return (timezone.now() - self.last_seen_at).total_seconds() <= settings.LEASE_SECONDS


def online() -> models.QuerySet[Worker]:
    """Workers that have been heard of within a lease, by the database's clock."""
    found: models.QuerySet[Worker] = Worker.objects.filter(
        last_seen_at__gte=Now() - timedelta(seconds=settings.LEASE_SECONDS)
    )
    return found


def count_as_gone(workers: models.QuerySet[Worker]) -> None:
    """These are not online any more until they are heard of again.

    A beat that comes meanwhile waits for the row and is stored after this: so a worker that was frozen or cut
    off is back with its next beat, and one that is dead is not.
    """
    with transaction.atomic():
        # One after the other, in one order: two that do this for the same workers do not wait for each other.
        held = workers.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True)
        gone = Now() - timedelta(seconds=settings.LEASE_SECONDS + 1)
        Worker.objects.filter(pk__in=list(held)).update(last_seen_at=Least(F("last_seen_at"), gone))


class WorkerSample(models.Model):
    """What a worker's devices and host were doing at a moment; kept for SAMPLES_KEEP_HOURS."""

    worker = models.ForeignKey(Worker, on_delete=models.CASCADE, related_name="samples")
    at = models.DateTimeField()
    values = models.JSONField()  # {series: number}, as runs/execution/samples.py names them

    class Meta:
        indexes = [models.Index(fields=["worker", "at"], name="sample_chart_points")]


class Deployment(models.Model):
    """What the web server says of itself when it starts: workers compare themselves with it. One row."""

    version = models.CharField(max_length=100)
    refuse_other_versions = models.BooleanField(default=False)
    started_at = models.DateTimeField(db_default=Now())
