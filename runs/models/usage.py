"""What workspaces have used: added up by day, so that limits and fair shares are cheap to look up."""

from __future__ import annotations

from django.db import models

from webapp.accounts.models import Workspace


class Usage(models.Model):
    """The time that a workspace's attempts took on a day of the server's time zone, once they ended."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+")
    day = models.DateField()
    gpu_seconds = models.FloatField(default=0)  # GPUs × time
    slot_seconds = models.FloatField(default=0)  # the same, but a run without GPUs counts as one device

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "day"], name="one_usage_a_day")]
