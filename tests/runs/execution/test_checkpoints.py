"""Checkpoints in storage: whole or absent, checked when read, pruned to what is still of use."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runs import lifecycle
from runs.execution import checkpoints
from runs.execution.copies import Copies
from runs.execution.file_thread import FileThread
from runs.execution.lease import Lease
from runs.models import Attempt, Event, Metric, Run
from runs.training import manifest
from tests.runs.execution.supervised import Supervised, stored_weights, until, weights_of
from webapp import storage

Submit = Callable[..., Run]
Claim = Callable[[], Attempt]
Supervise = Callable[[Attempt], Supervised]


def stored(run: Run, step: int, name: str = "state.json") -> Path:
    path = storage.local_path(f"{run.checkpoints.get(step=step).storage_prefix}/{name}")
    assert path is not None
    return path


def flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / "state.json").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "state.json").write_bytes(data)


def cut_short(folder: Path) -> None:
    (folder / "state.json").write_bytes((folder / "state.json").read_bytes()[:-1])


def lose_a_file(folder: Path) -> None:
    (folder / "state.json").unlink()


def lose_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def garble_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"\xff\x00 no JSON")


def put_other_json_there(folder: Path) -> None:
    (folder / "manifest.json").write_text('["state.json"]')


def name_a_file_outside(folder: Path) -> None:
    (folder / "manifest.json").write_text(
        '{"files": {"../../../../etc/passwd": {"size": 1, "sha256": "00"}}}'
    )


def test_the_story_of_a_run_that_was_killed_and_went_on_is_told_in_sentences(
    submit: Submit, claim: Claim, supervise: Supervise
) -> None:
    submit(steps=14, checkpoint_every=4, best=4, delay=0.01, die={"1": {"step": 10, "how": "SIGKILL"}})
    supervise(claim()).wait()
    run = supervise(claim()).wait()
    story = run.events.exclude(kind__in=["phase", "message"]).order_by("id")
    said = list(story.values_list("message", flat=True))
    killed = said.pop(4)
    assert killed.endswith("; queued again for attempt 2 of 3.") and killed.count(". ") == 0
    assert said == [
        "Queued.",
        "Started on host host.",
        "Checkpoint at step 4 (best so far).",
        "Checkpoint at step 8.",
        "Started on host host (attempt 2).",
        "Resumed on host from step 8.",
        "Checkpoint at step 12.",
        "Succeeded.",
    ]


def test_steps_in_the_story_are_easy_to_read(submit: Submit, claim: Claim) -> None:
    submit()
    attempt = claim()
    checkpoints.record(attempt, {"step": 1_200, "is_best": True}, checkpoints.prefix_of(attempt, 1_200), 10)
    checkpoints.resumed(attempt, 1_200)
    checkpoints.forget(attempt, 1_200, "state.json is missing")
    told = attempt.run.events.order_by("id").values_list("message", flat=True)
    assert list(told)[2:] == [
        "Checkpoint at step 1,200 (best so far).",
        "Resumed on host from step 1,200.",
        "The checkpoint at step 1,200 is damaged and was skipped: state.json is missing.",
    ]


DAMAGE = [
    (flip_a_bit, "state.json is not what was stored"),
    (cut_short, "state.json is not what was stored"),
    (lose_a_file, "state.json is missing"),
    (lose_the_manifest, "its manifest is missing"),
    (garble_the_manifest, "its manifest cannot be read"),
    (put_other_json_there, "its manifest cannot be read"),
    (name_a_file_outside, "which is no file of a checkpoint"),
]


@pytest.mark.parametrize(("damage", "told"), DAMAGE)
def test_a_damaged_checkpoint_is_skipped_for_the_one_before(
    submit: Submit, claim: Claim, supervise: Supervise, damage: Callable[[Path], None], told: str
) -> None:
    submit(steps=20, checkpoint_every=4, delay=0.01, die={"1": {"step": 10, "how": "SIGKILL"}})
    run = supervise(claim()).wait()
    damage(stored(run, 8).parent)
    after = supervise(claim()).wait()
    assert (after.status, stored_weights(after)) == ("succeeded", weights_of(7, 20))
    assert after.attempts.get(number=2).resumed_from_step == 4
    message = Event.objects.get(run=run, kind="checkpoint_damaged").message
    assert "The checkpoint at step 8 is damaged and was skipped" in message and told in message


@pytest.mark.parametrize(("damage", "told"), DAMAGE)
def test_a_damaged_best_checkpoint_is_told_and_the_run_goes_on_from_the_newest(
    submit: Submit, claim: Claim, supervise: Supervise, damage: Callable[[Path], None], told: str
) -> None:
    submit(steps=14, checkpoint_every=4, best=4, delay=0.01, die={"1": {"step": 10, "how": "SIGKILL"}})
    run = supervise(claim()).wait()
    assert {c.step: c.is_best for c in run.checkpoints.all()} == {4: True, 8: False}
    damage(stored(run, 4).parent)
    after = supervise(claim()).wait()
    assert (after.status, stored_weights(after)) == ("succeeded", weights_of(7, 14))
    assert after.attempts.get(number=2).resumed_from_step == 8
    message = Event.objects.get(run=run, kind="checkpoint_damaged").message
    assert "The checkpoint at step 4 is damaged" in message and told in message


def test_with_every_checkpoint_damaged_the_run_begins_anew_and_says_so(
    submit: Submit, claim: Claim, supervise: Supervise
) -> None:
    submit(steps=20, checkpoint_every=4, delay=0.01, die={"1": {"step": 10, "how": "SIGKILL"}})
    run = supervise(claim()).wait()
    for step in (4, 8):
        flip_a_bit(stored(run, step).parent)
    after = supervise(claim()).wait()
    assert (after.status, stored_weights(after)) == ("succeeded", weights_of(7, 20))
    assert after.attempts.get(number=2).resumed_from_step is None
    assert Event.objects.filter(run=run, kind="checkpoint_damaged").count() == 2


def test_the_best_checkpoint_and_the_last_two_are_kept(
    submit: Submit, claim: Claim, supervise: Supervise
) -> None:
    submit(steps=30, checkpoint_every=5, best=5, delay=0.02, die={"1": {"step": 24, "how": "SIGKILL"}})
    run = supervise(claim()).wait()
    assert {c.step: c.is_best for c in run.checkpoints.all()} == {5: True, 15: False, 20: False}
    found = {key.split("/")[3] for key in storage.keys_under(f"runs/{run.pk}/checkpoints")}
    assert found == {"5-1", "15-1", "20-1"}


def test_the_trainer_may_remove_a_checkpoint_that_is_still_being_copied(
    submit: Submit, claim: Claim, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, gate, copied = storage.put, threading.Event(), []

    def slow(source: Path, key: str, **kwargs: Any) -> None:
        copied.append(int(key.split("/")[3].removesuffix("-1")))
        gate.wait(60)
        put(source, key, **kwargs)

    monkeypatch.setattr(checkpoints.storage, "put", slow)
    run = submit(steps=10_000, checkpoint_every=4, delay=0.01)
    supervised = supervise(claim())
    until(lambda: copied)
    step = copied[0]  # the first one, if the worker looked in time
    folder = supervised.supervision._workdir / "checkpoints" / f"checkpoint-{step}"
    until(lambda: not folder.exists() and Metric.objects.filter(step=step + 16).exists())
    monkeypatch.setattr(checkpoints.storage, "put", put)
    gate.set()
    until(lambda: Event.objects.filter(run=run, kind="checkpoint").exists())
    assert Event.objects.filter(run=run, kind="checkpoint").earliest("id").data == {"step": step}
    lifecycle.request_pause(run.pk, None)
    assert supervised.wait().status == "paused"


@pytest.mark.parametrize("left", ["nothing", "an empty folder"])
def test_a_checkpoint_that_the_trainer_removed_before_it_was_linked_is_no_fault(
    submit: Submit, claim: Claim, tmp_path: Path, left: str
) -> None:
    submit()
    attempt = claim()
    if left != "nothing":
        (tmp_path / "checkpoint-5").mkdir()
    lease = Lease(attempt, on_expiry=lambda: None)
    files = FileThread("files", lease)
    copies = Copies(attempt, tmp_path, files)
    copies.begin({"step": 5, "path": "checkpoint-5"})
    assert not copies and not list(tmp_path.glob("outbox/*"))
    files.abandon(last=lambda: None)
    lease.end()


def test_a_checkpoint_whose_bytes_changed_on_the_way_is_not_stored(tmp_path: Path, settings: Any) -> None:
    folder = tmp_path / "checkpoint-4"
    folder.mkdir()
    (folder / "state.json").write_text('{"step": 4}')
    manifest.finish(folder)
    flip_a_bit(folder)
    with pytest.raises(checkpoints.DamagedCheckpoint, match=r"state\.json"):
        checkpoints.store(folder, "runs/1/checkpoints/4-1", lambda: True)
    assert not storage.exists("runs/1/checkpoints/4-1/manifest.json")


def test_a_stored_checkpoint_comes_back_with_its_manifest_byte_for_byte(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-4"
    (folder / "best" / "checkpoint-2").mkdir(parents=True)
    (folder / "state.json").write_text('{"step": 4}')
    (folder / "best" / "checkpoint-2" / "weights").write_bytes(b"\x00\x01")
    manifest.finish(folder)
    size = checkpoints.store(folder, "runs/1/checkpoints/4-1", lambda: True)
    checkpoints.fetch("runs/1/checkpoints/4-1", tmp_path / "fetched")
    manifest.check(tmp_path / "fetched")
    assert size == 11 + 2
    assert {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == {
        p.relative_to(tmp_path / "fetched"): p.read_bytes()
        for p in (tmp_path / "fetched").rglob("*")
        if p.is_file()
    }


def test_a_checkpoint_counts_until_the_next_one_of_its_step_has_arrived(
    submit: Submit, claim: Claim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long evaluation makes several of one step."""
    run = submit()
    attempt = claim()
    lease = Lease(attempt, on_expiry=lambda: None)
    files = FileThread("files", lease)
    copies = Copies(attempt, tmp_path, files)
    folder, event = tmp_path / "checkpoint-5", {"step": 5, "path": "checkpoint-5", "keep": [5]}
    put, may_arrive = storage.put, threading.Event()

    def slowly(*args: Any, **more: Any) -> None:
        assert may_arrive.wait(10)
        put(*args, **more)

    monkeypatch.setattr(storage, "put", slowly)

    def saved(content: str) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "state").unlink(missing_ok=True)
        (folder / "state").write_text(content)
        manifest.finish(folder)
        copies.begin(event)

    def arrived() -> str:
        may_arrive.set()
        until(lambda: copies._under_way[0].copying.done())
        (copy,) = copies.finished()
        checkpoints.record(attempt, event, copy.prefix, copy.copying.result())
        may_arrive.clear()
        return in_storage()

    def in_storage() -> str:
        checkpoints.fetch(run.checkpoints.get().storage_prefix, tmp_path / "fetched")
        return (tmp_path / "fetched" / "state").read_text()

    try:
        saved("first")
        assert arrived() == "first"
        for before, content in (("first", "second"), ("second", "third")):
            saved(content)
            until(lambda: copies._under_way[0].copying.running())
            assert in_storage() == before
            assert arrived() == content
    finally:
        may_arrive.set()
        files.abandon(last=lambda: None)
        lease.end()
    assert {key.split("/")[3] for key in storage.keys_under(f"runs/{run.pk}/checkpoints")} == {"5.3-1"}


def test_a_checkpoint_that_cannot_be_stored_is_told_and_training_goes_on(
    submit: Submit, claim: Claim, supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> int:
        raise ConnectionError("the bucket does not answer")

    monkeypatch.setattr(checkpoints, "store", away)
    submit(steps=8, checkpoint_every=3, delay=0.05)
    run = supervise(claim()).wait()
    assert run.status == "succeeded"
    assert "the bucket does not answer" in " ".join(run.events.values_list("message", flat=True))


def test_a_succeeded_run_goes_on_from_its_last_state_when_it_is_made_longer(
    submit: Submit, claim: Claim, supervise: Supervise
) -> None:
    submit(steps=10, checkpoint_every=5)
    run = supervise(claim()).wait()
    assert run.status == "succeeded"
    Run.objects.filter(pk=run.pk).update(
        status="queued", settings={**run.settings, "steps": 20}, attempts_allowed=3
    )
    after = supervise(claim()).wait()
    assert (after.status, stored_weights(after)) == ("succeeded", weights_of(7, 20))
    assert after.attempts.get(number=2).resumed_from_step == 10
    assert [checkpoint.step for checkpoint in after.checkpoints.all()] == [20]
    assert {key.split("/")[3] for key in storage.keys_under(f"runs/{run.pk}/checkpoints")} == {"20-2"}


def test_a_run_that_cannot_be_extended_keeps_no_checkpoint(
    submit: Submit, claim: Claim, supervise: Supervise, world: dict[str, Any]
) -> None:
    world["method"] = "head"
    submit(steps=10, checkpoint_every=5)
    run = supervise(claim()).wait()
    assert run.status == "succeeded"
    assert not run.checkpoints.exists()
    assert not list(storage.keys_under(f"runs/{run.pk}/checkpoints"))
