"""What scripts can do with tasks and runs, a file a subject; mounted in webapp/urls.py."""

from runs.api.hosts import router as hosts_router
from runs.api.runs import router
from runs.api.tasks import router as tasks_router

__all__ = ["hosts_router", "router", "tasks_router"]
