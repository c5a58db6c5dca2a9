"""A worker: its row in the database, its slots, and a Celery worker that hears wake-ups."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from typing import Any

import psutil
from celery.signals import worker_shutting_down
from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from runs.execution import hosts, leftovers, slots
from runs.execution.messages import queue_of
from runs.execution.outages import through_outages
from runs.execution.pool import Pool
from runs.execution.presence import Presence
from runs.models import Worker

log = logging.getLogger(__name__)
DATA_THREADS = 2  # for inspecting datasets


class WorkerProcess:
    """`manage.py worker`, from its start to its end."""

    def __init__(self) -> None:
        name, self._lock = hosts.claim_name()
        devices = hosts.gpus()
        self._pool = hosts.pool_of(devices, settings.WORKER_SLOTS)
        if not hosts.can_train():
            log.warning(
                "torch and transformers are not installed here, so this worker only inspects datasets. "
                "For training, install Tuneboard with its extra [training]."
            )
            self._pool = Pool([], 0)
        self._values: dict[str, Any] = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "queues": hosts.queues_for(self._pool),
            "slots": self._pool.slots,
            "devices": devices,
            "versions": hosts.versions(),
            "cpus": psutil.cpu_count() or 0,
            "memory_bytes": psutil.virtual_memory().total,
            "cost_setting": settings.COST_PER_HOUR or None,
        }
        self._name = name

    def run(self) -> int:
        """Until a signal says to leave; returns the exit status."""
        self._worker = through_outages(self._register, give_up=lambda: False)
        through_outages(lambda: leftovers.clear(self._worker), give_up=lambda: False)
        connection.close()
        slots.of_this_process = slots.Slots(self._worker, self._pool)
        self._presence = Presence(self._worker, self._register)
        self._presence.start()
        slots.of_this_process.start()
        worker_shutting_down.connect(self._on_shutting_down)
        log.info(
            "Worker %s: %s slot(s) for %s.",
            self._name,
            self._pool.slots,
            ", ".join(self._worker.queues) or "no runs",
        )
        try:
            return self._hear_messages()
        finally:
            slots.of_this_process.stop()
            self._presence.end()

    def _register(self) -> Worker:
        values = self._values | {
            "leaving": False,
            "started_at": Now(),
            "last_seen_at": Now(),
        }  # one clock for all: the database's
        return Worker.objects.update_or_create(name=self._name, defaults=values)[0]

    def _hear_messages(self) -> int:
        from webapp.celery import app

        celery = app.Worker(
            hostname=f"{self._values['host']}-{os.getpid()}@tuneboard",
            queues=["data", *self._worker.queues, queue_of(self._worker)],
            concurrency=DATA_THREADS + 1,
            pool="threads",
            loglevel="WARNING",
            quiet=True,  # no banner: what this worker is stands in a line of ours
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            optimization="fair",
        )
        try:
            celery.start()
        except SystemExit as left:
            return int(left.code or 0) if isinstance(left.code, int) else 0
        return int(celery.exitcode or 0)

    def _on_shutting_down(self, **_: object) -> None:
        """Celery has been told to stop: so are the slots, while it waits for inspections."""
        threading.Thread(target=self._leave, name="leave", daemon=True).start()

    def _leave(self) -> None:
        assert slots.of_this_process is not None
        slots.of_this_process.tell_to_stop()
        self._presence.leave()
        slots.of_this_process.stop()
        # An inspection is done again by another worker; leaving does not wait for hours.
        time.sleep(10)
        self._presence.end()
        os._exit(0)
