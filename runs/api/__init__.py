"""What scripts can do with tasks and runs, a file a subject; mounted in webapp/urls.py."""

from runs.api.controls import router as controls_router
from runs.api.runs import router
from runs.api.tasks import router as tasks_router

__all__ = ["controls_router", "router", "tasks_router"]
