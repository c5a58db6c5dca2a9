"""What Celery runs: a wake-up for one inspection or change. Delivered twice, the second finds it claimed."""

from __future__ import annotations

import os
import socket
import threading

from celery import shared_task

from webapp.datasets.claims import CHANGE, INSPECT


@shared_task(name=INSPECT)  # type: ignore[untyped-decorator]
def inspect(dataset_id: int) -> None:
    from webapp.datasets.inspection import run_inspection

    run_inspection(dataset_id, _worker_name())


@shared_task(name=CHANGE)  # type: ignore[untyped-decorator]
def change(change_id: int) -> None:
    from webapp.datasets.changing import run_change

    run_change(change_id, _worker_name())


def _worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}"
