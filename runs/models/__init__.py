"""Every fact about runs, a file a concept."""

from runs.models.files import Artifact, Checkpoint
from runs.models.reports import Event, Metric, SampleAnswer
from runs.models.retention import HousekeepingReport, Removal, RetentionRule, StorageRemoval, StorageUse
from runs.models.run import Attempt, Run
from runs.models.worker import Worker

__all__ = [
    "Artifact",
    "Attempt",
    "Checkpoint",
    "Event",
    "HousekeepingReport",
    "Metric",
    "Removal",
    "RetentionRule",
    "Run",
    "SampleAnswer",
    "StorageRemoval",
    "StorageUse",
    "Worker",
]
