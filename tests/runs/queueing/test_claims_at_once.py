"""Many workers and dispatchers at the same moment, on real Postgres: limits hold, and everything happens once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from runs import lifecycle
from runs.models import Attempt, Event, Run, Worker
from runs.queueing import choice, release

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world(transactional_db: None, make_world: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return make_world()


def at_once(count: int, action: Callable[[], Any]) -> list[Any]:
    barrier = threading.Barrier(count)
    results: list[Any] = [None] * count

    def do(number: int) -> None:
        try:
            connection.ensure_connection()
            barrier.wait(10)
            results[number] = action()
        except Exception as error:
            results[number] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=do, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_many_workers_together_keep_to_a_workspaces_limit(
    new_run: Callable[..., Run], worker: Worker
) -> None:
    runs = [lifecycle.submit(new_run(), None) for _ in range(10)]
    place = runs[0].workspace
    place.max_concurrent_runs = 3
    place.save()
    results = at_once(8, lambda: lifecycle.claim(worker, ["cpu"]))
    assert sum(isinstance(result, Attempt) for result in results) == 3, results
    assert Run.objects.filter(status="running").count() == 3


def test_as_many_workers_as_runs_all_get_one(new_run: Callable[..., Run], worker: Worker) -> None:
    for _ in range(6):
        lifecycle.submit(new_run(), None)
    results = at_once(6, lambda: lifecycle.claim(worker, ["cpu"]))
    assert len({attempt.run_id for attempt in results}) == 6


def test_a_run_that_somebody_is_changing_is_passed_over_and_not_waited_for(
    new_run: Callable[..., Run], worker: Worker
) -> None:
    first, second = (lifecycle.submit(new_run(), None) for _ in range(2))
    holds, may_go = threading.Event(), threading.Event()

    def change() -> None:
        with transaction.atomic():
            Run.objects.select_for_update().get(pk=first.pk)
            holds.set()
            may_go.wait(60)
        connection.close()

    changing = threading.Thread(target=change)
    changing.start()
    assert holds.wait(10)
    try:
        attempt = lifecycle.claim(worker, ["cpu"])
        assert attempt is not None and attempt.run_id == second.pk
        assert lifecycle.claim(worker, ["cpu"]) is None
    finally:
        may_go.set()
        changing.join(30)
    attempt = lifecycle.claim(worker, ["cpu"])
    assert attempt is not None and attempt.run_id == first.pk


def test_two_dispatchers_and_workers_release_a_due_run_once(
    new_run: Callable[..., Run], worker: Worker
) -> None:
    later = timezone.now() + timedelta(hours=1)
    run = lifecycle.submit(new_run(not_before=later), None)
    assert lifecycle.claim(worker, ["cpu"]) is None
    Run.objects.filter(pk=run.pk).update(not_before=timezone.now() - timedelta(seconds=1))
    results = at_once(4, release.release_due)
    assert sum(results) == 1, results
    assert Event.objects.filter(run=run, kind="due").count() == 1
    assert at_once(3, lambda: lifecycle.claim(worker, ["cpu"]) is not None).count(True) == 1


def test_a_run_that_is_made_to_follow_one_that_ends_at_that_moment_is_not_forgotten(
    new_run: Callable[..., Run], worker: Worker
) -> None:
    for _ in range(8):
        first = lifecycle.submit(new_run(), None)
        attempt = lifecycle.claim(worker, ["cpu"])
        assert attempt is not None
        barrier = threading.Barrier(2)
        made: list[Run] = []

        def follow(first: Run = first, barrier: threading.Barrier = barrier, made: list[Run] = made) -> None:
            barrier.wait(10)
            made.append(lifecycle.submit(new_run(after=Run.objects.get(pk=first.pk)), None))
            connection.close()

        thread = threading.Thread(target=follow)
        thread.start()
        barrier.wait(10)
        lifecycle.succeed(attempt, {})
        thread.join(30)
        assert Run.objects.get(pk=made[0].pk).waits_for == ""
        Run.objects.filter(pk=made[0].pk).update(status="cancelled")


def test_a_worker_that_hangs_amid_a_claim_holds_up_the_others_for_seconds_only(
    new_run: Callable[..., Run], worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "STUCK_SECONDS", 1)
    lifecycle.submit(new_run(), None)
    holds, may_go = threading.Event(), threading.Event()

    def hang() -> None:
        try:
            with transaction.atomic():
                choice.take_turn()
                holds.set()
                may_go.wait(60)
                choice.next_run({"cpu": None})
        except Exception:  # Postgres has ended its session
            holds.clear()
        finally:
            connection.close()

    stuck = threading.Thread(target=hang)
    stuck.start()
    assert holds.wait(10)
    assert lifecycle.claim(worker, ["cpu"]) is not None
    may_go.set()
    stuck.join(30)
    assert not holds.is_set(), "its session was ended, so it can change nothing any more"
