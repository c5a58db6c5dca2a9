"""What scripts can do with tasks and runs, a file a subject; mounted in webapp/urls.py."""

from runs.api.housekeeping import router as storage_router
from runs.api.runs import router
from runs.api.tasks import router as tasks_router

__all__ = ["router", "storage_router", "tasks_router"]
