"""A worker says that it is there and what its host does, every few seconds, and hears whether it is to drain.

Two threads: asking a broken GPU may take for ever, and a worker whose GPU hangs is still there.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connection

from runs.execution import admission, capacity, samples, telemetry
from runs.execution.outages import AWAY
from runs.models import Worker
from runs.models.worker import count_as_gone

log = logging.getLogger(__name__)
PRUNE_EVERY = 60  # beats


class Presence:
    """Of one worker, from its start until `end`."""

    def __init__(self, worker: Worker, register: Callable[[], Worker]) -> None:
        """`register` makes the worker's row anew, should somebody have taken it off the list."""
        self._worker = worker
        self._register = register
        self._gone = threading.Event()
        self._leaving = False
        self._sample: dict[str, Any] = telemetry.sample(worker.devices)
        self._stored: dict[str, Any] | None = None
        self._said: dict[str, str] = {}
        self._beats = 0
        self._seen = threading.Thread(target=self._be_seen, name="presence", daemon=True)

    def start(self) -> None:
        threading.Thread(target=self._look, name="telemetry", daemon=True).start()
        self._seen.start()

    def leave(self) -> None:
        """The worker has been told to stop: it is to be given nothing more while its runs save."""
        self._leaving = True
        self._unless_away(lambda: capacity.leave(self._worker))

    def end(self) -> None:
        """The worker is done: it counts as gone from now on."""
        self._gone.set()
        if self._seen.is_alive():
            self._seen.join(5)  # or its last beat would come after this
        self.leave()
        self._unless_away(lambda: count_as_gone(Worker.objects.filter(pk=self._worker.pk)))

    def _look(self) -> None:
        while not self._gone.wait(max(1.0, settings.SAMPLE_SECONDS)):
            try:
                self._sample = telemetry.sample(self._worker.devices)
            except Exception:  # whatever a driver does, the worker goes on without its numbers
                log.warning("The devices of this host could not be looked at.", exc_info=True)

    def _be_seen(self) -> None:
        every = min(max(1.0, settings.SAMPLE_SECONDS), settings.HEARTBEAT_SECONDS, settings.LEASE_SECONDS / 3)
        while True:
            try:
                self._unless_away(self.beat)
            except Exception:  # or a worker that trains would look as if it were gone
                log.exception("This worker could not say that it is there.")
            if self._gone.wait(every):
                break
        connection.close()

    def beat(self) -> None:
        """Once. Says in the log what has changed about whether this worker takes runs."""
        sample = self._sample
        draining = samples.beat(self._worker.pk, sample, is_new=sample is not self._stored)
        if draining is None:
            self._worker.pk = self._register().pk
            draining = samples.beat(self._worker.pk, sample, is_new=True)
        self._stored = sample
        if self._leaving:  # it could not be said before, or the row is new
            capacity.leave(self._worker)
        self._say("draining", DRAINING if draining else "", "This worker takes runs again.")
        refused = admission.refusal(self._worker, admission.deployed())
        self._say("refused", refused, "This worker is no longer refused.")
        if self._beats % PRUNE_EVERY == 0:
            samples.prune()
        self._beats += 1

    def _say(self, subject: str, sentence: str, otherwise: str) -> None:
        before = self._said.get(subject, "")
        if sentence != before:
            log.warning("%s", sentence or otherwise)
            self._said[subject] = sentence

    @staticmethod
    def _unless_away(operation: Callable[[], object]) -> None:
        try:
            close_old_connections()
            operation()
        except AWAY as error:
            connection.close()
            log.debug("The database is away: %s", error)


DRAINING = "This worker drains: it finishes the runs that it has and takes no more."
