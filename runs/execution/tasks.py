"""What Celery runs: a poke for the slots of this process."""

from __future__ import annotations

import logging

from celery import shared_task

from runs.execution import slots
from runs.execution.messages import WAKE

log = logging.getLogger(__name__)


@shared_task(name=WAKE)  # type: ignore[untyped-decorator]
def wake() -> None:
    """Have idle slots look for a run. Delivered twice, or late, it finds nothing to do."""
    if slots.of_this_process is None:
        log.error("This Celery worker has no slots: start it with `manage.py worker`.")
        return
    slots.of_this_process.wake()
