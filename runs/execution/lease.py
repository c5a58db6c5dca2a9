"""The lease of an attempt: extended by heartbeats; whoever lets it expire must have stopped by then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from django.conf import settings
from django.db import connection

from runs.execution.outages import AWAY, through_outages
from runs.lifecycle import LeaseLost
from runs.models import Attempt, Run

T = TypeVar("T")

# One statement, by the database's clock: extends the lease and says what the user now wants.
BEAT = """
    UPDATE runs_attempt SET lease_until = statement_timestamp() + %s * interval '1 second'
    FROM runs_run
    WHERE runs_attempt.id = %s AND runs_attempt.finished_at IS NULL AND runs_run.id = runs_attempt.run_id
      AND runs_run.attempt = runs_attempt.number AND runs_run.status = 'running'
    RETURNING runs_run.desired
"""
# Leases go by clocks that nobody sets, and by one that goes on while the host sleeps or its machine is paused.
CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
WATCH_SECONDS = 1.0
LOOK_SECONDS = 1.0  # how soon a cancel is seen; a read of one row by its key


def now() -> float:
    """Seconds by this host's own clock; only differences mean something."""
    return time.clock_gettime(CLOCK)


class Lease:
    """What lets this process write about an attempt, and its trainer run."""

    def __init__(self, attempt: Attempt, on_expiry: Callable[[], None]) -> None:
        """The claim has just begun the lease. `on_expiry` is called from another thread, at most once."""
        self.attempt = attempt
        self.desired = str(Run.Desired.GO_ON)
        begun = now()
        self._expires = begun + settings.LEASE_SECONDS
        # The answer to the claim may have been long under way: the first beat makes the two clocks agree.
        self._next_beat = self._next_look = begun
        self._over = threading.Event()
        self._on_expiry = on_expiry
        # A thread of its own: the one that beats may hang in a read from a disk or a database.
        self._watchdog = threading.Thread(target=self._watch, name=f"lease-{attempt.pk}", daemon=True)
        self._watchdog.start()

    @property
    def expired(self) -> bool:
        """By this host's clock, counted from before the last beat was sent."""
        return now() >= self._expires

    def keep(self) -> str:
        """Beat or look if it is time to; returns what the user wants. Raises LeaseLost."""
        moment = now()
        if moment >= self._next_beat:
            self.desired = self.through_outages(self._beat)
        elif moment >= self._next_look:
            self.desired = self.through_outages(self._look)
        else:
            return self.desired
        self._next_look = now() + LOOK_SECONDS
        return self.desired

    def through_outages(self, operation: Callable[[], T]) -> T:
        """Do it though the database may be away for a while, but no longer than the lease lasts."""
        try:
            return through_outages(operation, give_up=lambda: self.expired)
        except AWAY as error:
            raise LeaseLost("the database was away for longer than the lease lasts") from error

    def end(self) -> None:
        """Stop watching: the attempt is over."""
        self._over.set()
        self._watchdog.join()

    def _beat(self) -> str:
        sent = now()
        with connection.cursor() as cursor:
            cursor.execute(BEAT, [settings.LEASE_SECONDS, self.attempt.pk])
            row = cursor.fetchone()
        if row is None:
            raise LeaseLost(f"attempt {self.attempt.number} of run {self.attempt.run_id} is over")
        self._expires = sent + settings.LEASE_SECONDS
        self._next_beat = sent + settings.HEARTBEAT_SECONDS
        return str(row[0])

    def _look(self) -> str:
        mine = Run.objects.filter(pk=self.attempt.run_id, attempt=self.attempt.number, status="running")
        desired = mine.values_list("desired", flat=True).first()
        if desired is None:
            raise LeaseLost(f"attempt {self.attempt.number} of run {self.attempt.run_id} is over")
        return str(desired)

    def _until_it_expires(self) -> float:
        # Not in one go: a wait is counted in time that stands still while the host sleeps.
        return min(max(0.05, self._expires - now()), WATCH_SECONDS)

    def _watch(self) -> None:
        while not self._over.wait(self._until_it_expires()):
            if self.expired:
                self._on_expiry()
                return
