"""Whoever has lost a lease writes no more, and whoever froze or died holds nobody else up."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import InternalError, connection
from django.db.backends.signals import connection_created

from runs import lifecycle
from runs.execution import checkpoints, lease, tidying
from runs.execution.dispatch import reap
from runs.execution.lease import Lease
from runs.execution.outages import through_outages
from runs.execution.pool import Pool
from runs.execution.slots import Slot
from runs.lifecycle import LeaseLost
from runs.models import Artifact, Attempt, Checkpoint, Run, Worker
from tests.runs.execution.supervised import Supervised, alive, until
from webapp import storage
from webapp.database import end_forgotten_transactions

Submit = Callable[..., Run]
Claim = Callable[[], Attempt]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"w" * (3 * storage.CHUNK))
    return path


def test_a_copy_to_storage_stops_between_two_pieces(file: Path) -> None:
    asked: list[int] = []

    def go_on() -> bool:
        asked.append(1)
        return len(asked) < 4

    with pytest.raises(storage.Abandoned):
        storage.put(file, "fenced/weights", go_on=go_on)
    assert list(storage.keys_under("fenced")) == [] and len(asked) == 4
    with pytest.raises(storage.Abandoned):
        storage.put(file, "fenced/weights", move=True, go_on=lambda: False)
    assert file.exists()
    storage.put(file, "fenced/weights", go_on=lambda: True)
    assert list(storage.keys_under("fenced")) == ["fenced/weights"]
    storage.delete_under("fenced")


def test_nothing_goes_to_storage_once_the_lease_has_expired(
    submit: Submit, claim: Claim, supervise: Callable[[Attempt], Supervised], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time has passed while this process stood still, as after SIGSTOP and SIGCONT."""
    run = submit(steps=10_000, delay=0.01, checkpoint_every=3)
    supervised = supervise(claim())
    until(lambda: run.checkpoints.exists())
    real, moves = lease.now, checkpoints.storage.put
    began: list[str] = []

    def put(path: Path, key: str, **rest: Any) -> None:
        began.append(key)
        moves(path, key, **rest)

    lifecycle.lose(supervised.attempt, lifecycle.worker_lost(supervised.attempt))
    monkeypatch.setattr(lease, "now", lambda: real() + 3600)
    monkeypatch.setattr(checkpoints.storage, "put", put)
    supervised.join()
    assert not alive(supervised.trainer.pid)
    owned = tuple(run.checkpoints.values_list("storage_prefix", flat=True))
    stored = list(storage.keys_under(f"runs/{run.pk}"))
    assert all(key.startswith(owned) for key in stored), stored
    assert not set(began) & set(stored), "not one that it began afterwards, not even the log"


def test_the_first_thing_a_lease_does_is_beat(submit: Submit, claim: Claim) -> None:
    """The claim's answer may have come late: then the lease is over, whatever this host counts."""
    submit()
    attempt = claim()
    Attempt.objects.filter(pk=attempt.pk).update(lease_until=attempt.started_at)
    mine = Lease(attempt, on_expiry=lambda: None)
    try:
        assert mine.keep() == "go_on"
        attempt.refresh_from_db()
        assert attempt.lease_until > attempt.started_at
        lifecycle.lose(attempt, lifecycle.worker_lost(attempt))
        late = Lease(attempt, on_expiry=lambda: None)
        with pytest.raises(LeaseLost):
            late.keep()
        late.end()
    finally:
        mine.end()


def test_a_lease_goes_on_while_the_host_sleeps() -> None:
    import time

    assert time.clock_gettime_ns(lease.CLOCK) // 10**9 == pytest.approx(lease.now(), abs=2)
    assert lease.CLOCK == time.CLOCK_BOOTTIME


@pytest.fixture
def other() -> Iterator[psycopg.Connection[Any]]:
    """A session of somebody else: of a worker that froze in the middle of a transaction."""
    parameters = {
        k: v for k, v in connection.get_connection_params().items() if k not in {"cursor_factory", "context"}
    }
    with psycopg.connect(**parameters) as session:
        yield session


def expire(attempt: Attempt) -> None:
    Attempt.objects.filter(pk=attempt.pk).update(lease_until=attempt.started_at - tidying.UNTIL)


def test_a_frozen_worker_with_locks_keeps_no_other_run_from_being_reaped(
    submit: Submit, claim: Claim, other: psycopg.Connection[Any]
) -> None:
    submit()
    submit()
    frozen, lost = claim(), claim()
    expire(frozen)
    expire(lost)
    other.execute("SELECT 1 FROM runs_attempt WHERE id = %s FOR UPDATE", [frozen.pk])
    assert [run.pk for run in reap()] == [lost.run_id]
    other.rollback()
    assert [run.pk for run in reap()] == [frozen.run_id]


def test_a_transaction_that_nobody_ends_is_ended_after_a_lease(
    transactional_db: None, settings: Any, other: psycopg.Connection[Any]
) -> None:
    settings.LEASE_SECONDS = 0.5
    connection.close()
    end_forgotten_transactions()
    try:
        with connection.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT pg_backend_pid()")
            pid = cursor.fetchone()[0]
            other.autocommit = True
            until(
                lambda: not other.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone()
            )
    except InternalError:
        pass  # leaving the cursor may meet it already
    finally:
        connection_created.disconnect(dispatch_uid="end_forgotten_transactions")
        connection.close()


def test_a_session_that_was_ended_is_an_outage_and_no_fault(transactional_db: None) -> None:
    tries: list[int] = []

    def ended_once() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise InternalError("terminating connection due to idle-in-transaction timeout")
        return "done"

    assert through_outages(ended_once, give_up=lambda: False) == "done"


def test_a_slot_lives_on_after_a_fault(worker: Worker, transactional_db: None, scripted: None, settings: Any,
    monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    settings.DISPATCH_SECONDS = 0.05
    stopping, looked = threading.Event(), []

    def fail_first(*_: Any) -> None:
        looked.append(1)
        if len(looked) == 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(lifecycle, "claim", fail_first)
    slot = Slot(1, worker, Pool([], 1), stopping)
    slot.thread.start()
    try:
        until(lambda: len(looked) > 2)
    finally:
        stopping.set()
        slot.wake()
        slot.thread.join(20)


# -- what is left in storage -----------------------------------------------------------------------
def leave(tmp_path: Path, *keys: str) -> None:
    path = tmp_path / "left"
    for key in keys:
        path.write_text(key)
        storage.put(path, key)


def test_what_an_attempt_left_without_a_row_goes_and_the_rest_stays(
    submit: Submit, claim: Claim, tmp_path: Path
) -> None:
    run = submit()
    first = claim()
    prefix = f"runs/{run.pk}"
    leave(
        tmp_path,
        f"{prefix}/checkpoints/10-1/state",
        f"{prefix}/checkpoints/20.2-1/state",
        f"{prefix}/artifacts/attempt-1/weights",
        f"{prefix}/logs/attempt-1.log",
        f"{prefix}/logs/.attempt-1.log.ab12.partial",
    )
    assert tidying.tidy(run.pk) == 0, "the attempt is under way"
    Checkpoint.objects.create(run=run, step=10, storage_prefix=f"{prefix}/checkpoints/10-1", size_bytes=1)
    lifecycle.lose(first, lifecycle.worker_lost(first))
    second = claim()
    leave(tmp_path, f"{prefix}/checkpoints/30-2/state", f"{prefix}/artifacts/attempt-2/weights")
    assert tidying.tidy(run.pk) == 3
    kept = {key.removeprefix(f"{prefix}/") for key in storage.keys_under(prefix)}
    mine = {"checkpoints/30-2/state", "artifacts/attempt-2/weights"}
    assert kept == {"checkpoints/10-1/state", "logs/attempt-1.log"} | mine
    Artifact.objects.create(
        run=run, name="weights", storage_key=f"{prefix}/artifacts/attempt-2/weights", size=1, sha256=""
    )
    lifecycle.succeed(second, {})
    assert tidying.tidy(run.pk) == 1
    storage.delete_under(prefix)


def test_the_dispatcher_tidies_once_after_each_attempt(
    submit: Submit, claim: Claim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = submit()
    attempt = claim()
    lifecycle.lose(attempt, lifecycle.worker_lost(attempt))
    key = f"runs/{run.pk}/checkpoints/5-1/state"
    leave(tmp_path, key)
    rounds = tidying.Tidying()
    rounds()
    assert storage.exists(key), "its worker may not know yet that it is over"
    Attempt.objects.filter(pk=attempt.pk).update(finished_at=attempt.started_at - tidying.AFTER)
    rounds()
    assert not storage.exists(key)
    leave(tmp_path, key)
    rounds()
    assert storage.exists(key), "it has looked here before"
    storage.delete_under(f"runs/{run.pk}")


def test_a_failed_run_leaves_nothing_half_stored(
    submit: Submit, claim: Claim, supervise: Callable[[Attempt], Supervised], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = checkpoints.storage.put

    def full_at_the_manifest(path: Path, key: str, **rest: Any) -> None:
        if key.endswith(checkpoints.MANIFEST):
            raise OSError(28, "No space left on device")
        real(path, key, **rest)

    monkeypatch.setattr(checkpoints.storage, "put", full_at_the_manifest)
    run = submit(steps=10_000, delay=0.01, checkpoint_every=3)
    assert supervise(claim()).wait().failure["code"] == "disk_full"
    until(lambda: not [key for key in storage.keys_under(f"runs/{run.pk}") if "/logs/" not in key])
