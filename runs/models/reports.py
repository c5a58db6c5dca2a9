"""What a run tells of itself while it trains: points, story, answers."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now

from runs.models.run import Run


class Metric(models.Model):
    """One point of one series. A step repeated after a resume overwrites."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="points")
    series = models.CharField(max_length=60)  # loss, learning_rate, validation_accuracy …
    step = models.BigIntegerField()
    value = models.FloatField()
    at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "series", "step"], name="metric_chart_points")]


class Event(models.Model):
    """A line of a run's story."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events")
    attempt = models.IntegerField(default=0)
    kind = models.CharField(max_length=30)
    message = models.TextField()
    data = models.JSONField(default=dict)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ["at", "id"]


class SampleAnswer(models.Model):
    """What the model answered to a fixed prompt at an evaluation; step 0 is the base model."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="answers")
    step = models.BigIntegerField()
    number = models.IntegerField()
    prompt = models.TextField()
    expected = models.TextField(blank=True)
    answer = models.TextField()

    class Meta:
        ordering = ["number", "step"]
        constraints = [models.UniqueConstraint(fields=["run", "step", "number"], name="one_answer_a_step")]
