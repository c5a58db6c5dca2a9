"""What keeps runs moving when a worker, a message or the broker is lost. Two at once are harmless."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

from django.conf import settings
from django.db import close_old_connections, connection
from django.db.models import Count
from django.db.models.functions import Now
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from runs import lifecycle
from runs.execution import capacity
from runs.execution.messages import wake
from runs.execution.outages import AWAY
from runs.execution.tidying import Tidying
from runs.housekeeping.daily import keep_house
from runs.lifecycle import LeaseLost
from runs.models import Attempt, Run
from runs.models.run import READY
from runs.notifications.duty import notify
from runs.queueing.release import move_up, release_due, release_followers
from webapp.datasets import changing, inspection, token_lengths

log = logging.getLogger(__name__)
tidy_up = Tidying()
MOST_WAKES = 8  # a round and a queue; a worker that has finished a run looks for the next by itself


def reap() -> list[Run]:
    """Take runs from workers that have let their lease expire; returns those runs."""
    expired = Attempt.objects.filter(finished_at=None, lease_until__lt=Now()).values_list("pk", flat=True)
    lost = []
    for attempt_id in expired:
        try:
            run = lifecycle.lose_expired(attempt_id)
        except LeaseLost:  # the run itself is gone, or was reaped by another dispatcher meanwhile
            continue
        if run is not None:
            log.warning("Run %s: its worker was lost; it is %s now.", run.pk, run.status)
            lost.append(run)
    return lost


def publish_waiting() -> dict[str, int]:
    """Wake a worker again for runs that nobody has picked up; returns messages sent by queue.

    No more than there are runs, counting what already lies in the broker: a queue that no worker serves
    does not pile up messages.
    """
    since = Now() - timedelta(seconds=settings.DISPATCH_SECONDS)
    waiting = Run.objects.filter(READY, queued_at__lt=since)
    sent = {}
    for queue, runs in waiting.values_list("queue").annotate(runs=Count("pk")).order_by():
        missing = min(runs, MOST_WAKES) - _messages_in(queue)
        sent[queue] = sum(1 for _ in range(missing) if wake(queue))
    return sent


def _messages_in(queue: str) -> int:
    from webapp.celery import app

    try:
        with app.connection_for_write() as broker:
            return int(broker.default_channel.client.llen(queue))
    except (BrokerError, RedisError, OSError):
        return 0


def dispatch_once() -> None:
    """One round; each duty by itself, so that a failing one does not keep the others from theirs."""
    for duty in (
        reap,
        capacity.finish_forgotten,
        release_due,
        release_followers,
        move_up,
        publish_waiting,
        inspection.requeue_due,
        changing.requeue_due,
        token_lengths.requeue_due,
        notify,
        tidy_up,
    ):
        close_old_connections()
        try:
            duty()
        except AWAY as error:
            connection.close()
            log.warning("The database is away: %s", str(error).strip())
            return
        except Exception:  # a fault in one duty must not end them all; the next round tries again
            log.exception("Dispatching: %s failed.", getattr(duty, "__name__", type(duty).__name__))


def dispatch(stopping: threading.Event) -> None:
    """Rounds every DISPATCH_SECONDS until told to stop, through outages of database and broker."""
    threading.Thread(target=keep_house, args=(stopping,), name="house-keeping", daemon=True).start()
    while not stopping.is_set():
        dispatch_once()
        stopping.wait(settings.DISPATCH_SECONDS)
