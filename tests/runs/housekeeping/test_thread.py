"""The dispatcher keeps house beside its rounds, through a database that is away."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connection

from runs.execution.dispatch import dispatch
from runs.housekeeping import daily, removal
from runs.housekeeping.deleting import delete_run
from runs.models import HousekeepingReport, Run, StorageUse
from tests.runs.conftest import Lab
from tests.runs.execution.supervised import until

from .conftest import keys


@pytest.fixture
def world(transactional_db: None, make_world: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return make_world()


def test_files_go_and_the_day_is_kept_without_anybody_asking(
    lab: Lab, ended: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setattr(daily, "ROUND_SECONDS", 0.1)
    settings.DISPATCH_SECONDS = 0.1
    honest, failures = removal.remove_due, [OperationalError("the database is away"), RuntimeError("a fault")]

    def first_fails() -> int:
        if failures:
            raise failures.pop(0)
        return honest()

    monkeypatch.setattr(removal, "remove_due", first_fails)
    gone, old = ended(), ended(days=40)
    delete_run(gone, lab.member)
    stopping = threading.Event()
    others = set(threading.enumerate())

    def run() -> None:
        dispatch(stopping)
        connection.close()

    dispatcher = threading.Thread(target=run)
    dispatcher.start()
    try:
        until(lambda: keys(f"runs/{gone.pk}") == [], 60)
        until(
            lambda: HousekeepingReport.objects.filter(is_daily=True, finished_at__isnull=False).exists(), 60
        )
        until(lambda: not any("/checkpoints/" in key for key in keys(f"runs/{old.pk}")), 60)
        assert StorageUse.objects.filter(workspace=lab.workspace).exists()
        assert not old.checkpoints.exists()
    finally:
        stopping.set()
        dispatcher.join(60)
        until(lambda: set(threading.enumerate()) <= others, 60)
