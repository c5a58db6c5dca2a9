"""What scripts can do with tasks and runs, a file a subject; mounted in webapp/urls.py."""

import runs.api.logs  # noqa: F401 – adds to the router of runs
from runs.api.controls import router as controls_router
from runs.api.hosts import router as hosts_router
from runs.api.housekeeping import router as storage_router
from runs.api.notifications import router as notifications_router
from runs.api.predictions import router as predictions_router
from runs.api.runs import router
from runs.api.tasks import router as tasks_router

__all__ = [
    "controls_router",
    "hosts_router",
    "notifications_router",
    "predictions_router",
    "router",
    "storage_router",
    "tasks_router",
]
