"""Every fact about runs, a file a concept."""

from runs.models.files import Artifact, Checkpoint
from runs.models.node import Node
from runs.models.reports import Event, Metric, SampleAnswer
from runs.models.run import Attempt, Run
from runs.models.usage import Usage
from runs.models.worker import Worker

__all__ = [
    "Artifact",
    "Attempt",
    "Checkpoint",
    "Event",
    "Metric",
    "Node",
    "Run",
    "SampleAnswer",
    "Usage",
    "Worker",
]
