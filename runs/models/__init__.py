"""Every fact about runs, a file a concept."""

from runs.models.files import Artifact, Checkpoint
from runs.models.logs import Log, LogChunk
from runs.models.node import Node
from runs.models.notification import Channel, Delivery
from runs.models.reports import Event, Metric, SampleAnswer
from runs.models.retention import HousekeepingReport, Removal, RetentionRule, StorageRemoval, StorageUse
from runs.models.run import Attempt, Run
from runs.models.usage import Usage
from runs.models.worker import Deployment, Worker, WorkerSample

__all__ = [
    "Artifact",
    "Attempt",
    "Channel",
    "Checkpoint",
    "Delivery",
    "Deployment",
    "Event",
    "HousekeepingReport",
    "Log",
    "LogChunk",
    "Metric",
    "Node",
    "Removal",
    "RetentionRule",
    "Run",
    "SampleAnswer",
    "StorageRemoval",
    "StorageUse",
    "Usage",
    "Worker",
    "WorkerSample",
]
