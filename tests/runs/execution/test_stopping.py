"""From the click to a trainer that has stopped: what happens in which order, and how long a run may take."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from runs import lifecycle
from runs.execution import inputs
from runs.models import Attempt, Run
from runs.queueing.waiting import waiting
from tests.runs.execution.supervised import Supervised, stored_weights, until, weights_of

Submit = Callable[..., Run]
Claim = Callable[[], Attempt]
Supervise = Callable[[Attempt], Supervised]


def kinds(run: Run) -> list[str]:
    return list(run.events.order_by("id").values_list("kind", flat=True))


@pytest.mark.parametrize(
    ("ask", "asked", "told", "ended"),
    [
        (lifecycle.request_pause, "pause_requested", "Pausing: saving a checkpoint.", "paused"),
        (lifecycle.request_cancel, "cancel_requested", "Stopping: saving a checkpoint.", "stopped"),
    ],
)
def test_a_click_is_answered_saved_for_and_done_in_this_order(
    submit: Submit,
    claim: Claim,
    supervise: Supervise,
    ask: Callable[..., Run],
    asked: str,
    told: str,
    ended: str,
) -> None:
    run = submit(steps=100_000, delay=0.01)
    supervised = supervise(claim())
    until(lambda: Run.objects.get(pk=run.pk).step > 2)
    ask(run.pk, None)
    supervised.wait()
    story = [kind for kind in kinds(run) if kind in {asked, "stopping", "checkpoint", ended}]
    assert story == [asked, "stopping", "checkpoint", ended]
    assert run.events.get(kind="stopping").message == told
    assert supervised.trainer.status() is not None


def test_the_page_says_what_a_pause_waits_for(submit: Submit, claim: Claim, settings: Any) -> None:
    run = submit()
    attempt = claim()
    lifecycle.request_pause(run.pk, None)
    silent = timezone.now() - timedelta(seconds=14)
    lease = silent + timedelta(seconds=settings.LEASE_SECONDS)
    Attempt.objects.filter(pk=attempt.pk).update(lease_until=lease)
    found = waiting(Run.objects.get(pk=run.pk))
    assert found and found.headline == "Pausing …"
    assert found.reason.startswith("Waiting for the worker's answer: its last heartbeat was 14 s ago")


def test_while_a_checkpoint_is_saved_the_page_says_that(
    submit: Submit, claim: Claim, supervise: Supervise, settings: Any
) -> None:
    settings.STOP_GRACE_SECONDS = 30
    run = submit(steps=100_000, delay=0.01, deaf=True)
    supervised = supervise(claim())
    until(lambda: Run.objects.get(pk=run.pk).step > 2)
    lifecycle.request_pause(run.pk, None)
    until(lambda: "stopping" in kinds(run))
    found = waiting(Run.objects.get(pk=run.pk))
    assert found and (found.headline, found.reason) == ("Pausing …", "Saving a checkpoint …")
    supervised.trainer.kill()
    assert supervised.wait().status == "paused"


def test_a_run_that_still_fetches_its_inputs_does_not_finish_that_first(
    submit: Submit, claim: Claim, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetching, may_end = threading.Event(), threading.Event()

    def slow(*_: Any) -> Any:
        fetching.set()
        may_end.wait(60)
        raise OSError("nobody waits for this any more")

    monkeypatch.setattr(inputs, "fetch", slow)
    run = submit()
    supervised = supervise(claim())
    assert fetching.wait(20)
    lifecycle.request_cancel(run.pk, None)
    try:
        assert supervised.wait().status == "cancelled"
        assert not may_end.is_set()
    finally:
        may_end.set()


def test_a_runs_own_time_limit_ends_it_with_a_checkpoint_to_go_on_from(
    submit: Submit, claim: Claim, supervise: Supervise
) -> None:
    run = submit(steps=60, delay=0.05)
    Run.objects.filter(pk=run.pk).update(time_limit_seconds=1)
    after = supervise(claim()).wait()
    assert (after.status, after.failure["code"]) == ("failed", "time_limit")
    assert after.failure["message"] == "The run reached its time limit of 1 s."
    assert after.checkpoints.exists() and 0 < after.step < 60
    assert "The time limit is reached: saving a checkpoint." in run.events.values_list("message", flat=True)
    Run.objects.filter(pk=run.pk).update(time_limit_seconds=3600)
    lifecycle.retry(run.pk, None)
    again = supervise(claim()).wait()
    assert (again.status, stored_weights(again)) == ("succeeded", weights_of(7, 60))


def test_earlier_attempts_count_towards_the_limit_until_somebody_tries_again(
    submit: Submit, claim: Claim
) -> None:
    from runs.execution.stopping import limit_of

    run = submit()
    Run.objects.filter(pk=run.pk).update(time_limit_seconds=3600)
    first = claim()
    Attempt.objects.filter(pk=first.pk).update(started_at=timezone.now() - timedelta(minutes=40))
    lifecycle.lose(first, {"code": "worker_lost", "message": "It was lost.", "hint": "", "log_tail": []})
    second = claim()
    found = limit_of(second)
    assert found is not None and found.seconds == pytest.approx(20 * 60, abs=20)
    lifecycle.fail(second, {"code": "crashed", "message": "It crashed.", "hint": "", "log_tail": []})
    lifecycle.retry(run.pk, None)
    found = limit_of(claim())
    assert found is not None and found.seconds == 3600


def test_the_deployments_limit_stays(submit: Submit, claim: Claim, settings: Any) -> None:
    from runs.execution.stopping import limit_of

    settings.RUN_TIME_LIMIT_SECONDS = 100
    run = submit()
    Run.objects.filter(pk=run.pk).update(time_limit_seconds=3600)
    found = limit_of(claim())
    assert found is not None and (found.seconds, found.of_run) == (100, None)


def test_an_extended_run_keeps_its_files_until_the_longer_one_has_its_own(
    submit: Submit, claim: Claim, supervise: Supervise
) -> None:
    from webapp import storage

    run = supervise(claim_of(submit(steps=5, checkpoint_every=5), claim)).wait()
    old = run.artifacts.get(name="weights.txt").storage_key
    assert run.checkpoints.get().step == 5, "the last one is kept after a success"
    lifecycle.extend(run.pk, None, "steps", 9, "9 steps")
    assert run.artifacts.count() == 2 and storage.exists(old)
    again = supervise(claim()).wait()
    assert (again.status, stored_weights(again)) == ("succeeded", weights_of(7, 9))
    assert again.artifacts.get(name="weights.txt").storage_key != old
    assert not storage.exists(old)
    assert again.attempts.get(number=2).resumed_from_step == 5


def test_an_extension_that_fails_keeps_the_files(submit: Submit, claim: Claim, supervise: Supervise) -> None:
    from runs.models import Checkpoint

    run = supervise(claim_of(submit(steps=5), claim)).wait()
    Checkpoint.objects.create(run=run, step=5, storage_prefix="gone", size_bytes=1)
    Run.objects.filter(pk=run.pk).update(
        settings={**run.settings, "die": {"2": {"step": 3, "how": "failed"}}}
    )
    lifecycle.extend(run.pk, None, "steps", 9, "9 steps")
    again = supervise(claim()).wait()
    assert (again.status, again.failure["code"]) == ("failed", "diverged")
    assert stored_weights(again) == weights_of(7, 5)


def claim_of(run: Run, claim: Claim) -> Attempt:
    attempt = claim()
    assert attempt.run_id == run.pk
    return attempt
