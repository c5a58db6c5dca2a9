"""What Celery runs: a wake-up for one inspection, change or count of tokens. Delivered twice, the second finds it claimed."""

from __future__ import annotations

import os
import socket
import threading

from celery import shared_task

from webapp.datasets.claims import CHANGE, COUNT_TOKENS, INSPECT


@shared_task(name=INSPECT)  # type: ignore[untyped-decorator]
def inspect(dataset_id: int) -> None:
    from webapp.datasets.inspection import run_inspection

    run_inspection(dataset_id, _worker_name())


@shared_task(name=CHANGE)  # type: ignore[untyped-decorator]
def change(change_id: int) -> None:
    from webapp.datasets.changing import run_change

    run_change(change_id, _worker_name())


@shared_task(name=COUNT_TOKENS)  # type: ignore[untyped-decorator]
def count_tokens(lengths_id: int) -> None:
    from webapp.datasets.token_lengths import run_count

    run_count(lengths_id, _worker_name())


def _worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}"
