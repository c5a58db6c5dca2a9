"""Runs that wait for a time or for another run: they start when they should, and say why when they do not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from runs import lifecycle
from runs.models import Attempt, Run, Worker
from runs.queueing import release
from runs.queueing.waiting import waiting

FAILURE = {"code": "crashed", "message": "It crashed.", "hint": "", "log_tail": []}


@pytest.fixture
def first(new_run: Callable[..., Run]) -> Run:
    return lifecycle.submit(new_run(name="first"), None)


@pytest.fixture
def follower(new_run: Callable[..., Run], first: Run) -> Run:
    return lifecycle.submit(new_run(name="second", after=first), None)


def claimed(worker: Worker) -> Attempt:
    attempt = lifecycle.claim(worker, ["cpu"])
    assert attempt is not None
    return attempt


def fresh(run: Run) -> Run:
    found: Run = Run.objects.select_related("after", "workspace").get(pk=run.pk)
    return found


def told(run: Run) -> str:
    return str(run.events.latest("id").message)


def test_a_follower_starts_once_the_first_has_succeeded(first: Run, follower: Run, worker: Worker) -> None:
    assert told(follower) == "Queued, to start once “first” has succeeded."
    assert (found := waiting(fresh(follower))) and found.headline == "Starts once “first” has succeeded"
    attempt = claimed(worker)
    assert attempt.run_id == first.pk
    assert lifecycle.claim(worker, ["cpu"]) is None
    lifecycle.succeed(attempt, {})
    assert told(follower) == "“first”, which this run waited for, has succeeded."
    assert claimed(worker).run_id == follower.pk


@pytest.mark.parametrize(("end", "how"), [("fail", "failed"), ("cancel", "was cancelled")])
def test_a_follower_of_what_failed_says_so_and_can_be_started_all_the_same(
    first: Run, follower: Run, worker: Worker, end: str, how: str
) -> None:
    before = fresh(follower).row_version
    if end == "fail":
        lifecycle.fail(claimed(worker), FAILURE)
    else:
        lifecycle.request_cancel(first.pk, None)
    after = fresh(follower)
    assert after.row_version > before, "its page learns of it"
    found = waiting(after)
    assert found and found.blocked and found.may_start_now and f"That run {how}" in found.reason
    assert lifecycle.claim(worker, ["cpu"]) is None
    assert lifecycle.start_now(follower.pk, follower.created_by).waits_for == ""
    assert told(follower) == "Told by anna to start without waiting."
    assert claimed(worker).run_id == follower.pk


def test_a_first_that_is_tried_again_and_succeeds_starts_its_follower(
    first: Run, follower: Run, worker: Worker
) -> None:
    lifecycle.fail(claimed(worker), FAILURE)
    lifecycle.retry(first.pk, None)
    assert told(follower) == "“first”, which this run waits for, is queued again."
    found = waiting(fresh(follower))
    assert found and not found.blocked
    lifecycle.succeed(claimed(worker), {})
    assert fresh(follower).waits_for == ""


def test_a_follower_of_a_run_that_is_deleted_says_so(first: Run, follower: Run, worker: Worker) -> None:
    first.delete()
    found = waiting(fresh(follower))
    assert found and found.blocked and found.may_start_now and "has been deleted" in found.reason
    assert lifecycle.claim(worker, ["cpu"]) is None
    lifecycle.request_cancel(follower.pk, None)


def test_a_paused_follower_is_let_go_but_stays_paused(first: Run, follower: Run, worker: Worker) -> None:
    lifecycle.request_pause(follower.pk, None)
    lifecycle.succeed(claimed(worker), {})
    assert (fresh(follower).status, fresh(follower).waits_for) == ("paused", "")
    assert lifecycle.claim(worker, ["cpu"]) is None
    lifecycle.resume(follower.pk, None)
    assert claimed(worker).run_id == follower.pk


def test_a_paused_follower_still_waits_when_it_goes_on(first: Run, follower: Run, worker: Worker) -> None:
    lifecycle.request_pause(follower.pk, None)
    assert lifecycle.resume(follower.pk, None).waits_for == "run"


def test_a_follower_of_what_has_succeeded_already_starts_at_once(
    first: Run, new_run: Callable[..., Run], worker: Worker
) -> None:
    lifecycle.succeed(claimed(worker), {})
    assert lifecycle.submit(new_run(after=first), None).waits_for == ""


def test_a_chain_runs_in_its_order(
    new_run: Callable[..., Run], first: Run, follower: Run, worker: Worker
) -> None:
    third = lifecycle.submit(new_run(name="third", after=follower), None)
    order = []
    for _ in range(3):
        attempt = claimed(worker)
        order.append(attempt.run_id)
        lifecycle.succeed(attempt, {})
    assert order == [first.pk, follower.pk, third.pk]


def test_after_another_run_it_still_waits_for_its_time(
    new_run: Callable[..., Run], first: Run, worker: Worker
) -> None:
    tomorrow = timezone.now() + timedelta(days=1)
    run = lifecycle.submit(new_run(after=first, not_before=tomorrow), None)
    lifecycle.succeed(claimed(worker), {})
    assert fresh(run).waits_for == "time"
    assert lifecycle.claim(worker, ["cpu"]) is None


def test_the_dispatcher_frees_a_follower_that_was_left_behind(
    first: Run, follower: Run, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "tell_followers", lambda run: None)
    lifecycle.succeed(claimed(worker), {})
    assert fresh(follower).waits_for == "run"
    assert (release.release_followers(), release.release_followers()) == (1, 0)
    assert fresh(follower).waits_for == ""


def test_a_scheduled_run_starts_when_its_time_has_come_and_not_before(
    new_run: Callable[..., Run], worker: Worker
) -> None:
    moment = timezone.now() + timedelta(hours=3)
    run = lifecycle.submit(new_run(not_before=moment), None)
    assert "to start at" in told(run) and timezone.localtime(moment).strftime("%H:%M") in told(run)
    found = waiting(fresh(run))
    assert found and found.headline.startswith("Starts at ") and found.expected == "Starts in about 3 h"
    assert lifecycle.claim(worker, ["cpu"]) is None
    Run.objects.filter(pk=run.pk).update(not_before=timezone.now() - timedelta(seconds=1))
    assert claimed(worker).run_id == run.pk
    assert [event.kind for event in run.events.all()] == ["submitted", "due", "started"]


def test_a_time_that_has_passed_keeps_nothing_back(new_run: Callable[..., Run]) -> None:
    run = lifecycle.submit(new_run(not_before=timezone.now() - timedelta(days=1)), None)
    assert run.waits_for == ""


def test_retrying_waits_for_nothing_that_is_past(first: Run, follower: Run) -> None:
    lifecycle.request_cancel(follower.pk, None)
    assert lifecycle.retry(follower.pk, None).waits_for == ""


@pytest.mark.parametrize("limit", ["runs", "hours"])
def test_a_run_that_a_limit_keeps_back_says_which(
    new_run: Callable[..., Run], worker: Worker, world: dict[str, Any], limit: str
) -> None:
    place = world["workspace"]
    Worker.objects.filter(pk=worker.pk).update(queues=["cpu", "gpu1"])
    lifecycle.submit(new_run(), None)
    claimed(worker)
    run = lifecycle.submit(new_run(queue="gpu1"), None)
    if limit == "runs":
        place.max_concurrent_runs = 1
        expected = "may have 1 run at once, and 1 of them are running"
    else:
        place.gpu_hours_a_day = 0
        expected = "has used 0.0 of its 0 GPU-hours of today"
    place.save()
    found = waiting(fresh(run))
    assert found and found.blocked and expected in found.reason
    assert lifecycle.claim(worker, ["gpu1"]) is None


def test_a_run_that_no_worker_could_hold_says_what_is_missing(new_run: Callable[..., Run]) -> None:
    run = lifecycle.submit(new_run(queue="gpu1", memory_bytes=14 * 10**9), None)
    found = waiting(fresh(run))
    assert found and found.reason.startswith("No worker is online")
    devices = [{"index": 0, "name": "G", "memory_bytes": 8 * 10**9}]
    Worker.objects.create(name="g", host="g", pid=1, queues=["cpu", "gpu1"], devices=devices)
    found = waiting(fresh(run))
    assert found and found.blocked
    assert found.reason == "It needs about 14.0 GB on one GPU; the largest that is online has 8.0 GB."


def test_a_run_does_not_count_on_workers_that_drain(new_run: Callable[..., Run], worker: Worker) -> None:
    run = lifecycle.submit(new_run(), None)
    assert (found := waiting(fresh(run))) and not found.blocked and found.starts_at
    Worker.objects.filter(pk=worker.pk).update(draining=True)
    found = waiting(fresh(run))
    assert found and found.blocked and "No worker takes runs at present" in found.reason
