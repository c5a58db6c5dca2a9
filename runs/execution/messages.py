"""Waking workers up. A message carries nothing: which run is next, Postgres knows.

Whatever is lost here is sent again by the dispatcher, so a broker that is away is no error.
"""

from __future__ import annotations

import logging

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from runs.models import Worker

log = logging.getLogger(__name__)
WAKE = "runs.wake"


def queue_of(worker: Worker) -> str:
    """The queue that this worker alone hears."""
    return f"worker-{worker.pk}"


def wake(queue: str) -> bool:
    """Tell a worker of this queue that a run waits; False if the broker cannot be reached."""
    from webapp.celery import app

    try:
        # It never expires: that would go by the clock of whoever hears it, and cost nothing saved. The dispatcher
        # sends no more than there are runs.
        app.send_task(WAKE, queue=queue, retry=False)
    except (OperationalError, RedisError, OSError) as error:
        log.warning("The broker cannot be reached (%s); the dispatcher will send this wake-up again.", error)
        return False
    return True
