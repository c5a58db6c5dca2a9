"""Deleting a run: its rows at once, its files whatever storage says, and nothing of anybody else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from runs import lifecycle
from runs.housekeeping.removal import remove_due
from runs.models import Attempt, Event, Metric, Removal, Run, StorageRemoval, Worker
from tests.runs.conftest import Lab, Script, text_of
from webapp import storage
from webapp.accounts.models import Membership, Workspace
from webapp.catalog.models import BaseModel

from .conftest import keys, remove_now


def test_a_run_is_deleted_with_everything_that_belongs_to_it(
    browser: Client, ended: Callable[..., Run]
) -> None:
    gone, stays = ended(name="Old one"), ended(name="Neighbour")
    before = keys(f"runs/{stays.pk}")
    answer = browser.post(f"/runs/{gone.pk}/delete/", follow=True)
    assert "“Old one” is deleted, with everything that belonged to it." in text_of(answer.content.decode())
    assert browser.get(f"/runs/{gone.pk}/").status_code == 404
    for kind in (Metric, Event, Attempt):
        assert not kind.objects.filter(run=gone.pk).exists()
    remove_now()
    assert keys(f"runs/{gone.pk}") == []
    assert keys(f"runs/{stays.pk}") == before and len(before) == 7
    assert browser.get(f"/runs/{stays.pk}/").status_code == 200


def test_a_script_deletes_a_run(lab: Lab, script: Script, ended: Callable[..., Run]) -> None:
    run = ended()
    answer = script.client.delete(f"/api/v1/runs/{run.pk}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert script.get(f"runs/{run.pk}").status_code == 404
    assert script.client.delete(f"/api/v1/runs/{run.pk}").status_code == 404


@pytest.mark.parametrize("status", ["queued", "paused", "failed", "cancelled", "succeeded"])
def test_a_run_that_no_worker_has_can_be_deleted(lab: Lab, browser: Client, status: str) -> None:
    run = lab.run(status=status)
    browser.post(f"/runs/{run.pk}/delete/")
    assert not Run.objects.filter(pk=run.pk).exists()


def test_a_run_at_work_is_not_deleted_and_says_what_to_do(lab: Lab, browser: Client, script: Script) -> None:
    run = lab.run(status="running", attempt=1)
    page = text_of(browser.post(f"/runs/{run.pk}/delete/", follow=True).content.decode())
    assert "This run cannot be deleted: it is running. Cancel it first." in page
    assert "Delete run" not in page
    refused = script.client.delete(f"/api/v1/runs/{run.pk}")
    assert refused.status_code == 409 and refused.json()["error"]["code"] == "not_allowed"
    assert Run.objects.filter(pk=run.pk).exists() and not StorageRemoval.objects.exists()


def test_a_worker_whose_run_is_deleted_has_lost_it(lab: Lab, worker: Worker) -> None:
    lifecycle.submit(Run(**{**values_of(lab.run()), "name": "waits"}), None)
    Run.objects.filter(name="First try").delete()
    attempt = lifecycle.claim(worker, ["cpu"])
    assert attempt is not None
    lifecycle.lose(attempt, lifecycle.worker_lost(attempt))
    lifecycle.delete(attempt.run_id)
    with pytest.raises(lifecycle.LeaseLost):
        lifecycle.succeed(attempt, {})
    assert lifecycle.claim(worker, ["cpu"]) is None


def values_of(run: Run) -> dict[str, Any]:
    names = (
        "workspace", "base_model", "dataset_version", "dataset_name", "dataset_hash", "task", "method",
        "columns", "settings",
    )  # fmt: skip
    return {name: getattr(run, name) for name in names}


def test_files_go_once_storage_lets_them_however_long_it_refuses(
    browser: Client, ended: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ended()
    browser.post(f"/runs/{run.pk}/delete/")

    def refuse(prefix: str) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as away:
        away.setattr(storage, "delete_under", refuse)
        for _ in range(12):
            StorageRemoval.objects.update(due_at=timezone.now())
            assert remove_due() == 0
    waiting = StorageRemoval.objects.get()
    assert "Read-only file system" in waiting.error and waiting.tries == 12
    assert timezone.now() < waiting.due_at <= timezone.now() + timedelta(minutes=10, seconds=5)
    assert len(keys(f"runs/{run.pk}")) == 7
    remove_now()
    assert keys(f"runs/{run.pk}") == []


def test_a_storage_that_keeps_files_without_a_word_is_noticed(
    browser: Client, ended: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ended()
    browser.post(f"/runs/{run.pk}/delete/")
    monkeypatch.setattr(storage, "delete_under", lambda prefix: None)
    assert remove_due() == 0
    assert "is still there" in StorageRemoval.objects.get().error


def test_what_a_lost_worker_writes_after_the_deletion_goes_too(
    browser: Client, ended: Callable[..., Run], write: Callable[..., str]
) -> None:
    run = ended()
    browser.post(f"/runs/{run.pk}/delete/")
    assert remove_due() == 1 and keys(f"runs/{run.pk}") == []
    write(f"runs/{run.pk}/checkpoints/30-1/model.bin")
    assert remove_due() == 0, "the second look comes later"
    remove_now()
    assert keys(f"runs/{run.pk}") == []


def test_a_run_whose_files_are_a_model_of_the_catalogue_is_kept(
    lab: Lab, browser: Client, ended: Callable[..., Run]
) -> None:
    run = ended()
    BaseModel.objects.create(
        slug="mine", name="Mine", kind="text-encoder", source="run", workspace=lab.workspace,
        reference=f"runs/{run.pk}/artifacts/attempt-1",
    )  # fmt: skip
    page = text_of(browser.post(f"/runs/{run.pk}/delete/", follow=True).content.decode())
    assert "“Mine” in the catalogue is made of this run&#x27;s files" in page
    assert Run.objects.filter(pk=run.pk).exists()


def test_who_only_looks_deletes_nothing_even_where_they_own_another_workspace(
    lab: Lab, ended: Callable[..., Run]
) -> None:
    run = ended()
    stranger = Client()
    Membership.objects.create(user=lab.stranger, workspace=lab.workspace, role=Membership.Role.VIEWER)
    lab.stranger.last_workspace = lab.stranger.memberships.exclude(workspace=lab.workspace).get().workspace
    lab.stranger.save()
    stranger.force_login(lab.stranger)
    for action in ("delete", "keep"):
        assert stranger.post(f"/runs/{run.pk}/{action}/").status_code == 403
    assert Run.objects.filter(pk=run.pk, keep=False).exists()


def test_the_page_asks_before_and_names_what_goes(browser: Client, ended: Callable[..., Run]) -> None:
    run = ended(name='<b>"Odd"</b>')
    page = browser.get(f"/runs/{run.pk}/").content.decode()
    assert 'data-confirm-title="Delete the run “&lt;b&gt;&quot;Odd&quot;&lt;/b&gt;”?"' in page
    assert "its 2 model files go for good: 2.0 KB." in page


def test_the_workspace_reads_who_deleted_what(browser: Client, ended: Callable[..., Run]) -> None:
    run = ended(name="Old one")
    browser.post(f"/runs/{run.pk}/delete/")
    assert "The run Old one. Deleted by anna." in text_of(browser.get("/storage/").content.decode())
    assert Removal.objects.get().size_bytes == 2002


def test_several_are_ticked_and_deleted_at_once(lab: Lab, browser: Client, ended: Callable[..., Run]) -> None:
    good, bad, worse = (
        ended(name="Good"),
        ended(name="Bad", status="failed"),
        ended(name="Worse", status="failed"),
    )
    lab.run(name="At work", status="running")
    assert "/runs/delete/?status=failed" in browser.get("/runs/?status=failed&page=1").content.decode()
    text = text_of(browser.get("/runs/delete/?status=failed").content.decode())
    assert "Bad Tiny Failed 2.0 KB" in text and "Worse" in text and "Good" not in text
    assert "At work" not in text_of(browser.get("/runs/delete/").content.decode())
    answer = browser.post("/runs/delete/", {"run": [bad.pk, worse.pk, "nonsense", "9" * 30]}, follow=True)
    assert "2 runs deleted." in text_of(answer.content.decode())
    assert set(Run.objects.values_list("name", flat=True)) == {"Good", "At work"}
    assert good.artifacts.count() == 2


def test_of_several_those_at_work_and_of_others_stay(
    lab: Lab, browser: Client, ended: Callable[..., Run]
) -> None:
    busy = lab.run(name="Busy", status="running")
    theirs = ended(workspace=Workspace.objects.get(slug="elsewhere"))
    answer = browser.post("/runs/delete/", {"run": [busy.pk, theirs.pk]}, follow=True)
    assert "“Busy”: This run cannot be deleted: it is running. Cancel it first." in text_of(
        answer.content.decode()
    )
    assert Run.objects.filter(pk__in=[busy.pk, theirs.pk]).count() == 2
