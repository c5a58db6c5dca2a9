"""The slots of this worker: a thread and a warm trainer each, taking one run after another.

A slot looks for work when it is woken, when it has finished a run, and by itself every now and then:
so a worker goes on while the broker is away. The GPUs are not tied to slots: a run takes as many of
those that are free as it needs, so that the same worker does one run on eight and eight on one.
"""

from __future__ import annotations

import logging
import threading

from django.conf import settings
from django.db import close_old_connections, connection

from runs import lifecycle
from runs.execution import capacity, gang, leftovers
from runs.execution.following import Following
from runs.execution.outages import AWAY
from runs.execution.pool import Pool, gpus_of
from runs.execution.supervise import Supervision
from runs.execution.trainer import Trainer
from runs.models import Attempt, Node, Worker

log = logging.getLogger(__name__)


class Slot:
    """Runs at most one run at a time, or one host's part of a run."""

    def __init__(self, number: int, worker: Worker, pool: Pool, stopping: threading.Event) -> None:
        self._worker = worker
        self._pool = pool
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
        found, devices = self._claim()
        if found is not None:
            self._carry(found, devices)
        else:
            self._woken.wait(settings.DISPATCH_SECONDS)

    def _claim(self) -> tuple[Attempt | Node | None, list[int]]:
        """(what is to be done, the GPUs for it)"""
        close_old_connections()
        try:
            with self._pool.lock:
                found = self._next()
                if found is not None:
                    run = found.run if isinstance(found, Attempt) else found.attempt.run
                    return found, self._pool.take(gpus_of(run.queue))
            leftovers.sweep()  # there is time to tidy up
        except AWAY as error:
            connection.close()
            log.warning("The database is away: %s", str(error).strip())
        return None, []

    def _next(self) -> Attempt | Node | None:
        """A part of a run on several hosts that was given to this worker; else what waits and fits now."""
        node = gang.next_node(self._worker)
        if node is not None:
            return node
        free = self._pool.free
        fitting = [queue for queue in self._worker.queues if gpus_of(queue) <= free]
        return lifecycle.claim(self._worker, capacity.reserved(self._worker, fitting, free))

    def _carry(self, found: Attempt | Node, devices: list[int]) -> None:
        trainer, self._trainer = self._warm_trainer(), None
        given = devices if self._pool.size else None
        try:
            if isinstance(found, Node):
                Following(found, trainer, self._stopping, self._worker.versions, given).run()
            else:
                Supervision(found, trainer, self._stopping, self._worker.versions, given).run()
        finally:
            self._pool.give_back(devices)

    def _warm_trainer(self) -> Trainer:
        """The idle one; another if it has died, or was used."""
        if self._trainer is None or self._trainer.status() is not None:
            if self._trainer is not None:
                log.warning("An idle trainer has ended by itself:\n%s", self._trainer.early_output())
            self._trainer = Trainer()
        return self._trainer


class Slots:
    """All slots of a worker."""

    def __init__(self, worker: Worker, pool: Pool) -> None:
        self._stopping = threading.Event()
        self._slots = [Slot(number, worker, pool, self._stopping) for number in range(1, pool.slots + 1)]

    def start(self) -> None:
        for slot in self._slots:
            slot.thread.start()

    def wake(self) -> None:
        """A run may wait: whoever is idle looks."""
        for slot in self._slots:
            slot.wake()

    def tell_to_stop(self) -> None:
        """Let every run save and go back to the queue; returns at once."""
        self._stopping.set()
        self.wake()

    def stop(self) -> None:
        """As `tell_to_stop`; returns when all are out."""
        self.tell_to_stop()
        for slot in self._slots:
            if slot.thread.is_alive():
                slot.thread.join()


of_this_process: Slots | None = None  # set by `manage.py worker`, for the Celery task
