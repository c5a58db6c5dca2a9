"""One attempt from claim to end, whatever its trainer does."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from runs import lifecycle
from runs.execution import checkpoints, outputs
from runs.models import Attempt, Metric, Run
from tests.runs.execution.supervised import Supervised, alive, stored_weights, until, weights_of
from webapp import storage

Submit = Callable[..., Run]
Claim = Callable[[], Attempt]
Supervise = Callable[[Attempt], Supervised]


def steps_of(run: Run) -> list[int]:
    return list(Metric.objects.filter(run=run, series="loss").order_by("step").values_list("step", flat=True))


def test_a_run_trains_and_everything_it_made_is_stored(
    submit: Submit, claim: Claim, supervise: Supervise, settings: Any
) -> None:
    submit(steps=12, checkpoint_every=5, say="hello")
    run = supervise(claim()).wait()
    assert (run.status, run.step, run.total_steps) == ("succeeded", 12, 12)
    assert run.metrics["accuracy"] == 0.5
    assert steps_of(run) == list(range(1, 13))
    assert not Metric.objects.filter(series="bad").exists()  # null is no point
    assert stored_weights(run) == weights_of(7, 12)
    assert sorted(row.name for row in run.artifacts.all()) == ["sub/config.json", "weights.txt"]
    log_key = f"runs/{run.pk}/logs/attempt-1.log"
    assert b"hello" in storage.open_file(log_key).read()
    assert "hello  attempt 1" in run.attempts.get().log_tail  # without the NUL, which Postgres refuses
    assert run.attempts.get().outcome == "succeeded"
    # Its weights are among its files; its last state is kept, to train it for longer some day.
    assert [checkpoint.step for checkpoint in run.checkpoints.all()] == [10]
    assert list(storage.keys_under(f"runs/{run.pk}/checkpoints")) == [
        f"runs/{run.pk}/checkpoints/10-1/manifest.json",
        f"runs/{run.pk}/checkpoints/10-1/state.json",
    ]
    assert list(settings.WORK_DIR.iterdir()) == []


def test_the_trainer_sees_no_address_and_no_secret(
    submit: Submit, claim: Claim, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "hidden-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-aws")
    monkeypatch.setenv("HF_TOKEN", "needed-token")
    submit()
    log = supervise(claim()).wait().attempts.get().log_tail
    assert "needed-token" in log
    for secret in ("hidden-key", "hidden-aws", os.environ["DATABASE_URL"], os.environ["REDIS_URL"]):
        assert secret not in log


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV"])
def test_a_killed_trainer_goes_on_from_its_last_checkpoint(
    submit: Submit, claim: Claim, supervise: Supervise, how: str
) -> None:
    submit(steps=20, checkpoint_every=4, delay=0.01, die={"1": {"step": 10, "how": how}})
    first = supervise(claim()).wait()
    assert (first.status, first.attempts.get().outcome) == ("queued", "lost")
    assert [c.step for c in first.checkpoints.order_by("step")] == [4, 8]
    run = supervise(claim()).wait()
    assert run.status == "succeeded"
    assert run.attempts.get(number=2).resumed_from_step == 8
    assert steps_of(run) == list(range(1, 21))
    assert stored_weights(run) == weights_of(7, 20)
    assert "Resumed on host from step 8." in run.events.values_list("message", flat=True)


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV"])
def test_a_trainer_that_keeps_dying_fails_with_the_signal_and_the_last_lines(
    submit: Submit, claim: Claim, supervise: Supervise, how: str
) -> None:
    death = {"step": 2, "how": how}
    submit(say="last words", die={"1": death, "2": death, "3": death})
    for _ in range(3):
        run = supervise(claim()).wait()
    assert run.status == "failed"
    assert run.failure["code"] == "crashed" and how in run.failure["message"]
    assert any("last words" in line for line in run.failure["log_tail"])


def test_a_kill_by_the_kernel_is_told_as_lack_of_memory(
    submit: Submit, claim: Claim, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter([3, 4])  # the kernel's counter cannot be raised in a test
    monkeypatch.setattr("runs.execution.supervise.oom_kills", lambda: next(counts))
    run = submit(die={"1": {"step": 2, "how": "SIGKILL"}})
    Run.objects.filter(pk=run.pk).update(attempts_allowed=1)
    assert supervise(claim()).wait().failure["code"] == "out_of_memory"


@pytest.mark.parametrize(("how", "code"), [("failed", "diverged"), ("exit", "crashed")])
def test_a_trainer_that_gives_up_is_not_tried_again(
    submit: Submit, claim: Claim, supervise: Supervise, how: str, code: str
) -> None:
    submit(die={"1": {"step": 3, "how": how}})
    run = supervise(claim()).wait()
    assert (run.status, run.failure["code"]) == ("failed", code)
    assert steps_of(run) == [1, 2, 3]  # what it wrote last is there
    assert run.failure["log_tail"]


@pytest.mark.parametrize(
    ("ask", "status"), [(lifecycle.request_cancel, "cancelled"), (lifecycle.request_pause, "paused")]
)
def test_what_is_asked_for_is_done_after_a_checkpoint(
    submit: Submit, claim: Claim, supervise: Supervise, ask: Callable[..., Run], status: str
) -> None:
    run = submit(steps=2000, delay=0.02)
    supervised = supervise(claim())
    until(lambda: Metric.objects.filter(run=run).exists())
    ask(run.pk, None)
    after = supervised.wait()
    assert after.status == status
    assert after.checkpoints.get().step == steps_of(run)[-1] == after.step


def test_a_paused_run_ends_with_the_weights_of_one_that_was_never_stopped(
    submit: Submit, claim: Claim, supervise: Supervise
) -> None:
    run = submit(steps=60, delay=0.02)
    supervised = supervise(claim())
    until(lambda: Metric.objects.filter(run=run).exists())
    lifecycle.request_pause(run.pk, None)
    assert supervised.wait().status == "paused"
    lifecycle.resume(run.pk, None)
    after = supervise(claim()).wait()
    assert (after.status, stored_weights(after)) == ("succeeded", weights_of(7, 60))
    assert steps_of(run) == list(range(1, 61))


def test_a_deaf_trainer_is_killed_with_its_children_after_the_grace(
    submit: Submit, claim: Claim, supervise: Supervise, tmp_path: Path
) -> None:
    child = tmp_path / "child"
    run = submit(steps=10_000, delay=0.02, deaf=True, child=str(child))
    supervised = supervise(claim())
    until(lambda: Metric.objects.filter(run=run).exists())
    lifecycle.request_cancel(run.pk, None)
    assert supervised.wait().status == "cancelled"
    until(lambda: not alive(int(child.read_text())))


def test_a_worker_that_leaves_gives_the_run_back(submit: Submit, claim: Claim, supervise: Supervise) -> None:
    run = submit(steps=2000, delay=0.02)
    supervised = supervise(claim())
    until(lambda: Metric.objects.filter(run=run).exists())
    supervised.stopping.set()
    after = supervised.wait()
    assert (after.status, after.attempts.get().outcome) == ("queued", "released")
    assert after.checkpoints.exists()


def test_who_has_lost_the_lease_kills_the_trainer_and_writes_nothing_more(
    submit: Submit, claim: Claim, supervise: Supervise, settings: Any
) -> None:
    run = submit(steps=10_000, delay=0.01)
    supervised = supervise(claim())
    until(lambda: Metric.objects.filter(run=run).exists())
    Attempt.objects.filter(run=run).update(lease_until=timezone.now())
    # A row that is being written to at that moment is passed over: the next look finds it.
    until(lambda: lifecycle.lose_expired(supervised.attempt.pk))
    written = Metric.objects.filter(run=run).count()
    after = supervised.wait()
    assert not alive(supervised.trainer.pid)
    assert Metric.objects.filter(run=run).count() == written
    assert (after.status, after.attempt) == ("queued", 1)
    assert list(settings.WORK_DIR.iterdir()) == []


def test_a_run_that_is_deleted_stops(submit: Submit, claim: Claim, supervise: Supervise) -> None:
    run = submit(steps=10_000, delay=0.01)
    supervised = supervise(claim())
    until(lambda: Metric.objects.filter(run=run).exists())
    with transaction.atomic():  # or else its worker writes of it between two of these statements
        Attempt.objects.select_for_update().get(run=run)
        Run.objects.filter(pk=run.pk).delete()
    supervised.join()
    assert not alive(supervised.trainer.pid)


def test_a_database_away_for_longer_than_the_lease_ends_the_trainer(
    submit: Submit, claim: Claim, supervise: Supervise, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError

    settings.LEASE_SECONDS, settings.HEARTBEAT_SECONDS = 2.0, 0.3
    submit(steps=10_000, delay=0.01)
    supervised = supervise(claim())
    until(lambda: Metric.objects.exists())

    def away(*_: Any) -> None:
        raise OperationalError("the database is away")

    monkeypatch.setattr("runs.execution.supervise.take_in", away)
    monkeypatch.setattr("runs.execution.lease.Lease._beat", away)
    monkeypatch.setattr("runs.execution.lease.Lease._look", away)
    supervised.wait()
    assert not alive(supervised.trainer.pid)


def test_a_supervisor_that_hangs_does_not_keep_its_trainer_past_the_lease(
    submit: Submit, claim: Claim, supervise: Supervise, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.LEASE_SECONDS, settings.HEARTBEAT_SECONDS = 1.5, 0.3
    hanging, free = threading.Event(), threading.Event()

    def hang(*_: Any) -> None:
        hanging.set()
        free.wait(30)

    monkeypatch.setattr("runs.execution.supervise.take_in", hang)
    submit(steps=10_000, delay=0.01)
    supervised = supervise(claim())
    assert hanging.wait(20)
    until(lambda: not alive(supervised.trainer.pid))
    free.set()
    supervised.join()


def test_a_full_disk_is_told_as_such(
    submit: Submit, claim: Claim, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.storage, "put", full)
    submit(steps=10_000, delay=0.01, checkpoint_every=3)
    run = supervise(claim()).wait()
    assert (run.status, run.failure["code"]) == ("failed", "disk_full")


def test_a_disk_that_the_trainer_has_filled_is_told_as_such(
    submit: Submit, claim: Claim, supervise: Supervise, settings: Any, small_disk: Path
) -> None:
    """A file system of its own that is really full: the trainer could not even write why it left."""
    settings.WORK_DIR = small_disk / "work"
    submit(steps=10, die={"1": {"step": 3, "how": "fill"}}, say="before the end")
    run = supervise(claim()).wait()
    assert (run.status, run.failure["code"]) == ("failed", "disk_full")
    assert any("before the end" in line for line in run.failure["log_tail"])


def test_storage_that_is_away_for_a_moment_costs_no_result(
    submit: Submit, claim: Claim, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tries = outputs.store_artifacts, []

    def flaky(*args: Any) -> Any:
        tries.append(args)
        if len(tries) < 3:
            raise ConnectionError("the bucket does not answer")
        return real(*args)

    monkeypatch.setattr(outputs, "store_artifacts", flaky)
    monkeypatch.setattr("runs.execution.file_thread.STORAGE_WAITS", (0.01, 0.01))
    submit()
    assert supervise(claim()).wait().status == "succeeded"
    tries.clear()
    monkeypatch.setattr("runs.execution.file_thread.STORAGE_WAITS", (0.01,))
    submit()
    run = supervise(claim()).wait()
    assert run.status == "failed" and "could not be stored" in run.failure["message"]


def test_storage_that_is_away_at_the_start_costs_an_attempt_and_no_more(
    submit: Submit, claim: Claim, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise ConnectionError("the bucket does not answer")

    monkeypatch.setattr("runs.execution.file_thread.STORAGE_WAITS", (0.01,))
    with monkeypatch.context() as patched:
        patched.setattr("runs.execution.inputs.fetch", away)
        submit()
        first = supervise(claim()).wait()
    assert (first.status, first.attempts.get().outcome) == ("queued", "lost")
    assert "the bucket does not answer" in first.events.latest("id").message
    assert supervise(claim()).wait().status == "succeeded"


def test_files_with_other_bytes_than_announced_are_refused(
    submit: Submit, claim: Claim, supervise: Supervise
) -> None:
    submit(lie=True)
    run = supervise(claim()).wait()
    assert run.status == "failed" and "other bytes than announced" in run.failure["message"]
    assert not run.artifacts.exists()


def test_a_time_limit_ends_the_run_with_a_checkpoint(
    submit: Submit, claim: Claim, supervise: Supervise, settings: Any
) -> None:
    settings.RUN_TIME_LIMIT_SECONDS = 0.7
    submit(steps=10_000, delay=0.01)
    run = supervise(claim()).wait()
    assert (run.status, run.failure["code"]) == ("failed", "time_limit")
    assert run.checkpoints.exists()


def test_a_deleted_dataset_is_told(submit: Submit, claim: Claim, supervise: Supervise) -> None:
    run = submit()
    Run.objects.filter(pk=run.pk).update(dataset_version=None)
    after = supervise(claim()).wait()
    assert (after.status, after.failure["code"]) == ("failed", "bad_data")
    assert "was deleted" in after.failure["message"]


def test_a_trainer_that_cannot_start_says_why(
    submit: Submit, claim: Claim, supervise: Supervise, settings: Any
) -> None:
    settings.TRAINER_COMMAND = [settings.TRAINER_COMMAND[0], "-c", "import a_module_that_is_not_there"]
    submit()
    run = supervise(claim()).wait()
    assert run.status == "failed"
    assert any("a_module_that_is_not_there" in line for line in run.failure["log_tail"])
