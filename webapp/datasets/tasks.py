"""What Celery runs: a wake-up for one inspection. Delivered twice, the second finds it claimed."""

from __future__ import annotations

import os
import socket
import threading

from celery import shared_task

from webapp.datasets.intake import INSPECT


@shared_task(name=INSPECT)  # type: ignore[untyped-decorator]
def inspect(dataset_id: int) -> None:
    from webapp.datasets.inspection import run_inspection

    run_inspection(dataset_id, f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}")
