"""Each change of a run's state is allowed from the states of the table, and from no other."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from runs import lifecycle
from runs.lifecycle import changes
from runs.models import Attempt, Checkpoint, Event, Run, Worker

S = Run.Status
FAILURE = {"code": "crashed", "message": "It crashed.", "hint": "", "log_tail": []}


@pytest.fixture(autouse=True)
def woken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The queues for which a worker was woken."""
    queues: list[str] = []
    monkeypatch.setattr(changes, "wake", queues.append)
    return queues


@pytest.fixture
def run_in(new_run: Callable[..., Run], worker: Worker) -> Callable[[str], Run]:
    """Makes a run and brings it into a state by allowed changes alone."""

    def bring(state: str) -> Run:
        run = lifecycle.submit(new_run(), None)
        if state == S.CANCELLED:
            lifecycle.request_cancel(run.pk, None)
        elif state == S.PAUSED:
            lifecycle.request_pause(run.pk, None)
        elif state != S.QUEUED:
            attempt = lifecycle.claim(worker, ["cpu"])
            assert attempt is not None
            if state == S.SUCCEEDED:
                lifecycle.succeed(attempt, {})
            elif state == S.FAILED:
                lifecycle.fail(attempt, FAILURE)
        run.refresh_from_db()
        assert run.status == state
        return run

    return bring


def attempt_of(run: Run) -> Attempt:
    return Attempt.objects.get(run=run, number=run.attempt)


PEOPLE: dict[Any, str] = {
    (lifecycle.request_cancel, S.QUEUED): S.CANCELLED,
    (lifecycle.request_cancel, S.PAUSED): S.CANCELLED,
    (lifecycle.request_cancel, S.RUNNING): S.RUNNING,
    (lifecycle.request_pause, S.QUEUED): S.PAUSED,
    (lifecycle.request_pause, S.RUNNING): S.RUNNING,
    (lifecycle.resume, S.PAUSED): S.QUEUED,
    (lifecycle.retry, S.FAILED): S.QUEUED,
    (lifecycle.retry, S.CANCELLED): S.QUEUED,
    **{("extend", state): S.QUEUED for state in (S.SUCCEEDED, S.FAILED, S.CANCELLED, S.PAUSED)},
    **{("prioritise", state): state for state in (S.QUEUED, S.PAUSED)},
}


def extend(run_id: int, by: Any) -> Run:
    """With a checkpoint in storage, as the page offers it only then."""
    Checkpoint.objects.get_or_create(run_id=run_id, step=3, defaults={"storage_prefix": "x", "size_bytes": 1})
    return lifecycle.extend(run_id, by, "num_train_epochs", 6.0, "6 epochs")


def prioritise(run_id: int, by: Any) -> Run:
    return lifecycle.prioritise(run_id, by, Run.Priority.HIGH)


ACTIONS = (
    lifecycle.request_cancel, lifecycle.request_pause, lifecycle.resume, lifecycle.retry, extend, prioritise,
)  # fmt: skip


@pytest.mark.parametrize("state", S.values)
@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
def test_people_may_do_what_the_table_says_and_nothing_else(
    run_in: Callable[[str], Run], action: Callable[..., Run], state: str
) -> None:
    run = run_in(state)
    stories = Event.objects.filter(run=run).count()
    key = action if (action, state) in PEOPLE else action.__name__
    if (key, state) in PEOPLE:
        changed = action(run.pk, run.created_by)
        assert changed.status == PEOPLE[key, S(state)]
        assert changed.row_version == run.row_version + 1
        assert Event.objects.filter(run=run).count() == stories + 1
        assert "by anna" in Event.objects.filter(run=run).latest("id").message
    else:
        with pytest.raises(lifecycle.NotAllowed, match=run.get_status_display().lower()):
            action(run.pk, run.created_by)
        run_after = Run.objects.get(pk=run.pk)
        assert (run_after.status, run_after.row_version) == (state, run.row_version)
        assert Event.objects.filter(run=run).count() == stories


def test_no_attempt_ends_twice(run_in: Callable[[str], Run]) -> None:
    run = run_in(S.RUNNING)
    attempt = attempt_of(run)
    lifecycle.fail(attempt, FAILURE)
    before = Run.objects.get(pk=run.pk)
    for end in (
        lambda: lifecycle.succeed(attempt, {"accuracy": 1.0}),
        lambda: lifecycle.fail(attempt, FAILURE),
        lambda: lifecycle.leave(attempt),
        lambda: lifecycle.lose(attempt, FAILURE),
        lambda: lifecycle.hold(attempt),
    ):
        with pytest.raises(lifecycle.LeaseLost):
            end()
    after = Run.objects.get(pk=run.pk)
    assert (after.status, after.row_version, after.metrics) == (S.FAILED, before.row_version, {})


def test_submit_saves_as_queued_with_its_story_and_wakes_its_queue(
    new_run: Callable[..., Run], woken: list[str], django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        run = lifecycle.submit(new_run(queue="gpu1"), None)
    assert (run.status, run.attempt) == (S.QUEUED, 0)
    assert [event.kind for event in run.events.all()] == ["submitted"]
    assert woken == ["gpu1"]
    with pytest.raises(lifecycle.NotAllowed):
        lifecycle.submit(run, None)


def test_claim_takes_the_oldest_of_its_queues_and_leases_it(
    new_run: Callable[..., Run], worker: Worker, settings: Any
) -> None:
    settings.LEASE_SECONDS = 30
    lifecycle.submit(new_run(name="other queue", queue="gpu8"), None)
    second = lifecycle.submit(new_run(name="second"), None)
    first = lifecycle.submit(new_run(name="first", queued_at=timezone.now() - timedelta(hours=1)), None)
    attempt = lifecycle.claim(worker, ["cpu", "gpu1"])
    assert attempt is not None and attempt.run.name == first.name
    assert (attempt.number, attempt.run.status, attempt.run.phase) == (1, S.RUNNING, "preparing")
    assert 25 < (attempt.lease_until - timezone.now()).total_seconds() <= 30
    again = lifecycle.claim(worker, ["cpu", "gpu1"])
    assert again is not None and again.run_id == second.pk
    assert lifecycle.claim(worker, ["cpu", "gpu1"]) is None


@pytest.mark.parametrize(
    ("ask", "target", "outcome"),
    [
        (None, S.QUEUED, "released"),
        (lifecycle.request_pause, S.PAUSED, "paused"),
        (lifecycle.request_cancel, S.CANCELLED, "cancelled"),
    ],
)
def test_a_stopped_attempt_ends_as_the_user_wants(
    run_in: Callable[[str], Run], ask: Callable[..., Run] | None, target: str, outcome: str
) -> None:
    run = run_in(S.RUNNING)
    if ask:
        ask(run.pk, None)
    after = lifecycle.leave(attempt_of(run))
    assert (after.status, after.desired) == (target, "go_on")
    assert attempt_of(run).outcome == outcome
    assert (after.finished_at is not None) == after.is_over


def test_a_cancel_outlives_a_pause_but_not_the_other_way_round(run_in: Callable[[str], Run]) -> None:
    run = run_in(S.RUNNING)
    lifecycle.request_pause(run.pk, None)
    assert lifecycle.request_cancel(run.pk, None).desired == "cancel"
    version = lifecycle.request_cancel(run.pk, None).row_version
    assert version == run.row_version + 2  # asking again changed nothing
    with pytest.raises(lifecycle.NotAllowed):
        lifecycle.request_pause(run.pk, None)


def test_a_lost_attempt_is_tried_again_in_its_old_place_until_none_is_left(
    new_run: Callable[..., Run], worker: Worker
) -> None:
    run = lifecycle.submit(new_run(attempts_allowed=2), None)
    attempt = lifecycle.claim(worker, ["cpu"])
    assert attempt is not None
    once = lifecycle.lose(attempt, FAILURE)
    assert (once.status, once.queued_at, once.failure) == (S.QUEUED, run.queued_at, {})
    assert "attempt 2 of 2" in Event.objects.filter(run=run).latest("id").message
    attempt = lifecycle.claim(worker, ["cpu"])
    assert attempt is not None and attempt.number == 2
    twice = lifecycle.lose(attempt, FAILURE)
    assert (twice.status, twice.failure["code"]) == (S.FAILED, "crashed")


def test_what_was_asked_to_stop_is_not_tried_again(run_in: Callable[[str], Run]) -> None:
    run = run_in(S.RUNNING)
    lifecycle.request_cancel(run.pk, None)
    assert lifecycle.lose(attempt_of(run), FAILURE).status == S.CANCELLED


def test_neither_a_pause_nor_a_workers_leaving_counts_as_an_attempt(
    new_run: Callable[..., Run], worker: Worker
) -> None:
    run = lifecycle.submit(new_run(attempts_allowed=1), None)
    for _ in range(3):
        attempt = lifecycle.claim(worker, ["cpu"])
        assert attempt is not None
        lifecycle.request_pause(run.pk, None)
        lifecycle.leave(attempt)
        lifecycle.resume(run.pk, None)
    attempt = lifecycle.claim(worker, ["cpu"])
    assert attempt is not None
    assert lifecycle.leave(attempt).status == S.QUEUED
    attempt = lifecycle.claim(worker, ["cpu"])
    assert attempt is not None and attempt.number == 5
    assert lifecycle.lose(attempt, FAILURE).status == S.FAILED


def test_retry_gives_new_attempts_and_clears_the_failure(run_in: Callable[[str], Run]) -> None:
    run = run_in(S.FAILED)
    assert run.failure == FAILURE
    again = lifecycle.retry(run.pk, None)
    assert (again.failure, again.finished_at, again.attempts_allowed) == ({}, None, 1 + 3)


def test_only_an_expired_lease_is_reaped(run_in: Callable[[str], Run]) -> None:
    run = run_in(S.RUNNING)
    attempt = attempt_of(run)
    assert lifecycle.lose_expired(attempt.pk) is None
    Attempt.objects.filter(pk=attempt.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    lost = lifecycle.lose_expired(attempt.pk)
    assert lost is not None and lost.status == S.QUEUED
    assert lifecycle.lose_expired(attempt.pk) is None


def test_success_keeps_the_newest_metrics_and_adds_the_final_ones(run_in: Callable[[str], Run]) -> None:
    run = run_in(S.RUNNING)
    Run.objects.filter(pk=run.pk).update(metrics={"loss": 0.5, "accuracy": 0.1})
    after = lifecycle.succeed(attempt_of(run), {"accuracy": 0.9})
    assert after.metrics == {"loss": 0.5, "accuracy": 0.9}
    assert after.finished_at is not None


def test_a_deleted_run_says_so(db: None) -> None:
    with pytest.raises(lifecycle.NotAllowed, match="deleted"):
        lifecycle.request_cancel(10**6, None)


def test_extending_keeps_the_place_of_nothing_but_the_checkpoint(run_in: Callable[[str], Run]) -> None:
    run = run_in(S.SUCCEEDED)
    with pytest.raises(lifecycle.NotAllowed, match="no checkpoint"):
        lifecycle.extend(run.pk, None, "num_train_epochs", 6.0, "6 epochs")
    after = extend(run.pk, run.created_by)
    assert after.settings == {"seed": 7, "num_train_epochs": 6.0}
    assert (after.attempt, after.attempts_allowed, after.finished_at) == (1, 1 + 3, None)
    assert Event.objects.filter(run=run).latest("id").message == "Extended by anna to 6 epochs."


def test_a_run_that_waits_for_nothing_cannot_be_told_to_start(run_in: Callable[[str], Run]) -> None:
    with pytest.raises(lifecycle.NotAllowed, match="it is queued"):
        lifecycle.start_now(run_in(S.QUEUED).pk, None)


def test_every_change_of_the_table_is_made_by_somebody() -> None:
    runs = Path(lifecycle.__file__).parents[1]
    places = [*runs.glob("lifecycle/*.py"), *runs.glob("queueing/*.py")]
    code = "".join(path.read_text() for path in places)
    for name in lifecycle.CHANGES:
        assert code.count(f'"{name}"') > 1, name
