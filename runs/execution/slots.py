"""The slots of this worker: a thread and a warm trainer each, taking one run after another.

A slot looks for work when it is woken, when it has finished a run, and by itself every now and then:
so a worker goes on while the broker is away.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from django.conf import settings
from django.db import close_old_connections, connection

from runs import lifecycle
from runs.execution import leftovers
from runs.execution.outages import AWAY
from runs.execution.supervise import Supervision
from runs.execution.trainer import Trainer
from runs.models import Attempt, Worker

log = logging.getLogger(__name__)


class Slot:
    """Runs at most one run at a time."""

    def __init__(
        self, number: int, worker: Worker, devices: Sequence[int] | None, stopping: threading.Event
    ) -> None:
        self._worker = worker
        self._devices = devices
        self._stopping = stopping
        self._woken = threading.Event()
        self._trainer: Trainer | None = None
        self.thread = threading.Thread(target=self._serve, name=f"slot-{number}", daemon=True)

    def wake(self) -> None:
        self._woken.set()

    def _serve(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._take_one()
                except Exception:  # a full disk, a fault of ours: the next run may fare better
                    log.exception("A slot could not take a run; trying again.")
                    connection.close()
                    self._stopping.wait(settings.DISPATCH_SECONDS)
        except BaseException:
            log.exception("A slot has failed; this worker takes fewer runs until it is restarted.")
            raise
        finally:
            if self._trainer is not None:
                self._trainer.kill()
            connection.close()

    def _take_one(self) -> None:
        """One run from claim to end, or a wait where there is none."""
        self._woken.clear()  # before looking, so that a wake-up meanwhile counts
        self._warm_trainer()
        attempt = self._claim()
        if attempt is not None:
            self._supervise(attempt)
        else:
            self._woken.wait(settings.DISPATCH_SECONDS)

    def _claim(self) -> Attempt | None:
        close_old_connections()
        try:
            attempt = lifecycle.claim(self._worker, self._worker.queues, self._devices)
            if attempt is None:  # there is time to tidy up
                leftovers.sweep()
            return attempt
        except AWAY as error:
            connection.close()
            log.warning("The database is away: %s", str(error).strip())
            return None

    def _supervise(self, attempt: Attempt) -> None:
        trainer, self._trainer = self._warm_trainer(), None
        Supervision(attempt, trainer, self._stopping, self._worker.versions).run()

    def _warm_trainer(self) -> Trainer:
        """The idle one; another if it has died, or was used."""
        if self._trainer is None or self._trainer.status() is not None:
            if self._trainer is not None:
                log.warning("An idle trainer has ended by itself:\n%s", self._trainer.early_output())
            self._trainer = Trainer(self._devices)
        return self._trainer


class Slots:
    """All slots of a worker."""

    def __init__(self, worker: Worker, devices: Sequence[Sequence[int] | None]) -> None:
        self._stopping = threading.Event()
        self._slots = [Slot(n, worker, each, self._stopping) for n, each in enumerate(devices, 1)]

    def start(self) -> None:
        for slot in self._slots:
            slot.thread.start()

    def wake(self) -> None:
        """A run may wait: whoever is idle looks."""
        for slot in self._slots:
            slot.wake()

    def stop(self) -> None:
        """Let every run save and go back to the queue; returns when all are out."""
        self._stopping.set()
        self.wake()
        for slot in self._slots:
            if slot.thread.is_alive():
                slot.thread.join()


of_this_process: Slots | None = None  # set by `manage.py worker`, for the Celery task
