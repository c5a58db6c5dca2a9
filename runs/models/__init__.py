"""Every fact about runs, a file a concept."""

from runs.models.files import Artifact, Checkpoint
from runs.models.reports import Event, Metric, SampleAnswer
from runs.models.run import Attempt, Run
from runs.models.worker import Deployment, Worker, WorkerSample

__all__ = [
    "Artifact",
    "Attempt",
    "Checkpoint",
    "Deployment",
    "Event",
    "Metric",
    "Run",
    "SampleAnswer",
    "Worker",
    "WorkerSample",
]
