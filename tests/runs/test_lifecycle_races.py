"""Changes of one run from several connections at once, on real Postgres: exactly one of them counts."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from runs import lifecycle
from runs.models import Attempt, Checkpoint, Event, Run, Worker

pytestmark = pytest.mark.django_db(transaction=True)
FAILURE = {"code": "crashed", "message": "It crashed.", "hint": "", "log_tail": []}


@pytest.fixture
def world(transactional_db: None, make_world: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return make_world()


@pytest.fixture
def attempt(new_run: Callable[..., Run], worker: Worker) -> Attempt:
    lifecycle.submit(new_run(), None)
    claimed = lifecycle.claim(worker, ["cpu"])
    assert claimed is not None
    return claimed


def at_once(*actions: Callable[[], Any]) -> list[Any]:
    """What each gave or raised, all begun at the same moment on connections of their own."""
    barrier = threading.Barrier(len(actions))
    results: list[Any] = [None] * len(actions)

    def do(number: int) -> None:
        try:
            connection.ensure_connection()
            barrier.wait(10)
            results[number] = actions[number]()
        except Exception as error:
            results[number] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=do, args=(number,)) for number in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def test_many_claim_one_run_and_one_gets_it(new_run: Callable[..., Run], worker: Worker) -> None:
    for _ in range(5):
        run = lifecycle.submit(new_run(), None)
        results = at_once(*[lambda: lifecycle.claim(worker, ["cpu"])] * 12)
        won = [result for result in results if result is not None]
        assert [attempt.run_id for attempt in won] == [run.pk], results
        assert Attempt.objects.filter(run=run).count() == 1
        assert Event.objects.filter(run=run, kind="started").count() == 1


def test_many_claim_many_runs_and_each_is_taken_once(new_run: Callable[..., Run], worker: Worker) -> None:
    runs = {lifecycle.submit(new_run(), None).pk for _ in range(20)}

    def take_all() -> list[int]:
        taken = []
        while claimed := lifecycle.claim(worker, ["cpu"]):
            taken.append(claimed.run_id)
        return taken

    taken = Counter(run for part in at_once(*[take_all] * 6) for run in part)
    # A claim skips rows that another is taking just now, so a run may be left to the next wake-up.
    assert set(taken.values()) == {1}
    assert set(taken) | set(take_all()) == runs


def test_a_cancel_and_a_claim_at_once_both_count(new_run: Callable[..., Run], worker: Worker) -> None:
    outcomes = set()
    for _ in range(15):
        run = lifecycle.submit(new_run(), None)
        at_once(
            lambda: lifecycle.claim(worker, ["cpu"]),
            lambda run=run: lifecycle.request_cancel(run.pk, None),
        )
        after = Run.objects.get(pk=run.pk)
        outcomes.add((after.status, after.desired))
        if after.status == "running":
            lifecycle.leave(Attempt.objects.get(run=run))
        assert Run.objects.get(pk=run.pk).status == "cancelled"
    assert outcomes <= {("cancelled", "go_on"), ("running", "cancel")}


def test_of_all_who_end_an_attempt_at_once_one_does(attempt: Attempt) -> None:
    Attempt.objects.filter(pk=attempt.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    results = at_once(
        lambda: lifecycle.succeed(attempt, {}),
        lambda: lifecycle.fail(attempt, FAILURE),
        lambda: lifecycle.lose_expired(attempt.pk),
        lambda: lifecycle.lose_expired(attempt.pk),
        lambda: lifecycle.leave(attempt),
    )
    ended = [result for result in results if isinstance(result, Run)]
    assert len(ended) == 1, results
    assert all(isinstance(r, Run | lifecycle.LeaseLost) or r is None for r in results), results
    endings = Event.objects.filter(kind__in=["succeeded", "failed", "lost", "released"])
    assert endings.count() == 1
    assert Run.objects.get().row_version == attempt.run.row_version + 1


def test_a_reaper_leaves_an_attempt_alone_whose_beat_is_under_way(attempt: Attempt) -> None:
    Attempt.objects.filter(pk=attempt.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    reaped: list[Any] = []

    def reap() -> None:
        reaped.append(lifecycle.lose_expired(attempt.pk))
        connection.close()

    thread = threading.Thread(target=reap)
    with transaction.atomic():
        Attempt.objects.filter(pk=attempt.pk).update(lease_until=timezone.now() + timedelta(seconds=60))
        thread.start()
        thread.join(10)
        assert reaped == [None], "it waits for nobody's row: the next round looks again"
    assert lifecycle.lose_expired(attempt.pk) is None
    assert Run.objects.get().status == "running"


def test_retrying_twice_at_once_queues_once(attempt: Attempt) -> None:
    run = lifecycle.fail(attempt, FAILURE)
    results = at_once(*[lambda: lifecycle.retry(run.pk, None)] * 4)
    assert sum(isinstance(result, Run) for result in results) == 1
    assert sum(isinstance(result, lifecycle.NotAllowed) for result in results) == 3
    assert Event.objects.filter(run=run, kind="retried").count() == 1


def test_extending_twice_at_once_queues_once(attempt: Attempt) -> None:
    run = lifecycle.succeed(attempt, {})
    Checkpoint.objects.create(run=run, step=3, storage_prefix="x", size_bytes=1)
    results = at_once(
        *[
            lambda n=n: lifecycle.extend(run.pk, None, "num_train_epochs", n, f"{n} epochs")
            for n in range(4, 8)
        ]
    )
    assert sum(isinstance(result, Run) for result in results) == 1, results
    assert sum(isinstance(result, lifecycle.NotAllowed) for result in results) == 3, results
    event = Event.objects.get(run=run, kind="extended")
    assert Run.objects.get(pk=run.pk).settings["num_train_epochs"] == event.data["num_train_epochs"]


def test_a_change_of_priority_and_a_claim_at_once_both_end_well(
    new_run: Callable[..., Run], worker: Worker
) -> None:
    for _ in range(8):
        run = lifecycle.submit(new_run(), None)
        results = at_once(
            lambda: lifecycle.claim(worker, ["cpu"]),
            lambda run=run: lifecycle.prioritise(run.pk, None, Run.Priority.HIGH),
        )
        assert not any(
            isinstance(result, Exception) and not isinstance(result, lifecycle.NotAllowed)
            for result in results
        ), results
        if (
            Run.objects.get(pk=run.pk).status == "queued"
        ):  # the claim passed over a row that was being changed
            assert lifecycle.claim(worker, ["cpu"]) is not None
        assert Event.objects.filter(run=run, kind="started").count() == 1


def test_a_deletion_and_a_claim_at_once_leave_either_a_run_at_work_or_nothing(
    new_run: Callable[..., Run], worker: Worker
) -> None:
    for _ in range(15):
        run = lifecycle.submit(new_run(), None)
        claimed, deleted = at_once(
            lambda: lifecycle.claim(worker, ["cpu"]),
            lambda run=run: lifecycle.delete(run.pk),
        )
        there = Run.objects.filter(pk=run.pk).first()
        if there is None:
            assert claimed is None and deleted is None
        else:
            assert there.status == "running" and isinstance(deleted, lifecycle.NotAllowed)
            assert claimed.run_id == run.pk
            lifecycle.fail(claimed, FAILURE)
            lifecycle.delete(run.pk)
        assert not Attempt.objects.exists() and not Event.objects.exists()
