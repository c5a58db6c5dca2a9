"""Nothing that is lost stays lost: workers, messages, the broker. And nothing is done twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis
from django.conf import settings as current
from django.db import connection
from django.utils import timezone

from runs import lifecycle
from runs.execution import dispatch, messages, slots
from runs.execution.pool import Pool
from runs.execution.slots import Slots
from runs.execution.tasks import wake
from runs.models import Attempt, Run, Worker

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def broker() -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(current.REDIS_URL)
    client.flushall()
    yield client
    client.flushall()
    client.close()


def waits_since(run: Run, seconds: float) -> None:
    Run.objects.filter(pk=run.pk).update(queued_at=timezone.now() - timedelta(seconds=seconds))


def test_submitting_sends_a_wake_up_to_the_queue(submit: Callable[..., Run], broker: redis.Redis) -> None:
    submit()
    assert broker.llen("cpu") == 1


def test_a_broker_that_is_away_keeps_nobody_from_submitting(
    submit: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from webapp.celery import app

    monkeypatch.setattr(app, "send_task", unreachable)
    assert submit().status == "queued"
    assert messages.wake("cpu") is False


def test_runs_that_nobody_picked_up_are_announced_again_but_do_not_pile_up(
    submit: Callable[..., Run], broker: redis.Redis
) -> None:
    first, _ = submit(), submit()
    broker.flushall()  # every message is lost
    assert dispatch.publish_waiting() == {}  # too early: workers have just been told
    waits_since(first, 60)
    for _ in range(5):
        dispatch.publish_waiting()
    assert broker.llen("cpu") == 1
    for _ in range(30):
        waits_since(submit(), 60)
    broker.flushall()
    dispatch.publish_waiting()
    assert broker.llen("cpu") == dispatch.MOST_WAKES


def test_the_run_of_a_lost_worker_goes_back_to_the_queue(
    submit: Callable[..., Run], claim: Callable[[], Attempt]
) -> None:
    run = submit()
    attempt = claim()
    assert dispatch.reap() == []
    Attempt.objects.filter(pk=attempt.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    assert [(lost.pk, lost.status) for lost in dispatch.reap()] == [(run.pk, "queued")]
    assert dispatch.reap() == []


def test_a_duty_that_fails_keeps_no_other_from_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []

    def broken() -> None:
        raise RuntimeError("broken")

    broken.__name__ = "reap"
    monkeypatch.setattr(dispatch, "reap", broken)
    monkeypatch.setattr(dispatch, "publish_waiting", lambda: done.append("publish"))
    monkeypatch.setattr(dispatch.inspection, "requeue_due", lambda: done.append("inspections"))
    for name in ("release_due", "release_followers", "move_up"):
        monkeypatch.setattr(dispatch, name, lambda name=name: done.append(name))
    dispatch.dispatch_once()
    assert done == ["release_due", "release_followers", "move_up", "publish", "inspections"]


@pytest.fixture
def serving(
    worker: Worker, scripted: None, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> Iterator[Slots]:
    """Two slots that look for work only when they are woken."""
    settings.DISPATCH_SECONDS = 3600
    running = Slots(worker, Pool([], 2))
    monkeypatch.setattr(slots, "of_this_process", running)
    running.start()
    time.sleep(0.3)
    yield running
    running.stop()


def ended(count: int, seconds: float = 30) -> list[Run]:
    end = time.monotonic() + seconds
    while len(found := list(Run.objects.filter(status="succeeded"))) < count:
        assert time.monotonic() < end, list(Run.objects.values_list("status", "failure"))
        time.sleep(0.05)
    return found


def test_one_wake_up_is_enough_for_all_that_waits(submit: Callable[..., Run], serving: Slots) -> None:
    for _ in range(5):
        submit(steps=3)
    wake()
    assert {run.attempt for run in ended(5)} == {1}


def test_a_message_delivered_many_times_runs_a_run_once(submit: Callable[..., Run], serving: Slots) -> None:
    submit(steps=3)
    threads = [threading.Thread(target=wake) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run = ended(1)[0]
    wake()
    time.sleep(0.3)
    assert run.attempts.count() == 1


def test_without_any_message_a_slot_finds_a_run_by_itself(
    submit: Callable[..., Run], worker: Worker, settings: Any
) -> None:
    settings.DISPATCH_SECONDS = 0.2
    running = Slots(worker, Pool([], 1))
    running.start()
    try:
        time.sleep(0.3)
        submit(steps=3)
        ended(1)
    finally:
        running.stop()


def test_an_idle_trainer_that_dies_is_replaced_without_fuss(
    submit: Callable[..., Run], serving: Slots
) -> None:
    for slot in serving._slots:
        assert slot._trainer is not None
        slot._trainer.process.kill()

    time.sleep(0.2)
    submit(steps=3)
    wake()
    assert ended(1)[0].attempt == 1


def test_stopping_gives_runs_back_and_ends_every_trainer(submit: Callable[..., Run], serving: Slots) -> None:
    run = submit(steps=10_000, delay=0.02)
    wake()
    end = time.monotonic() + 20
    while Run.objects.get(pk=run.pk).step == 0:
        assert time.monotonic() < end
        time.sleep(0.05)
    serving.stop()
    assert Run.objects.get(pk=run.pk).status == "queued"
    assert all(slot._trainer is None or slot._trainer.status() is not None for slot in serving._slots)


def test_a_submit_that_is_rolled_back_wakes_nobody(
    submit: Callable[..., Run], broker: redis.Redis, world: dict[str, Any]
) -> None:
    from django.db import transaction

    with pytest.raises(RuntimeError), transaction.atomic():
        submit()
        raise RuntimeError
    assert broker.llen("cpu") == 0
    assert not Run.objects.exists()


def test_lifecycle_knows_no_state_that_nothing_leads_out_of() -> None:
    sources = {status for change in lifecycle.CHANGES.values() for status in change.sources}
    assert set(Run.Status) == sources
    out_of_success = {name for name, change in lifecycle.CHANGES.items() if "succeeded" in change.sources}
    assert out_of_success == {"extended"}


def unreachable(*_: Any, **__: Any) -> None:
    from kombu.exceptions import OperationalError

    raise OperationalError("connection refused")


def test_two_dispatchers_at_once_take_a_lost_run_back_once(
    submit: Callable[..., Run], claim: Callable[[], Attempt], broker: redis.Redis
) -> None:
    run = submit()
    attempt = claim()
    Attempt.objects.filter(pk=attempt.pk).update(lease_until=timezone.now() - timedelta(seconds=1))

    def dispatch_and_leave() -> None:
        dispatch.dispatch_once()
        connection.close()

    threads = [threading.Thread(target=dispatch_and_leave) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    run.refresh_from_db()
    assert (run.status, run.attempt) == ("queued", 1)
    assert run.events.filter(kind="lost").count() == 1


def test_no_worker_is_woken_for_a_run_that_waits_for_something_else(
    new_run: Callable[..., Run], scripted: None, broker: redis.Redis
) -> None:
    run = lifecycle.submit(new_run(not_before=timezone.now() + timedelta(hours=1)), None)
    waits_since(run, 60)
    assert dispatch.publish_waiting() == {} and broker.llen("cpu") == 0
