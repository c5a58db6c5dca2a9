"""How much storage holds: by kind and workspace, how it grows, and how much room is left."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from runs.housekeeping import daily
from runs.housekeeping.use import measure, use_of
from runs.models import Run, StorageUse
from tests.runs.conftest import Lab, text_of
from webapp.accounts.models import Workspace


def test_the_page_shows_what_the_workspace_holds_by_kind(
    lab: Lab, browser: Client, ended: Callable[..., Run], write: Callable[..., str]
) -> None:
    ended()
    ended(workspace=Workspace.objects.get(slug="elsewhere"))
    write(f"datasets/{lab.dataset.pk}/uploads/0.csv", b"x" * 300)
    assert "not counted yet" in text_of(browser.get("/storage/").content.decode())
    text = text_of(browser.post("/storage/count/", follow=True).content.decode())
    assert "In storage 2.3 KB" in text and "counted just now" in text
    for told in ("Datasets 300 B", "Model files 1.0 KB", "Checkpoints 1.0 KB", "Logs 14 B"):
        assert told in text
    assert "Free on the disk" in text


def test_growth_is_told_once_there_is_an_earlier_count(
    lab: Lab, browser: Client, ended: Callable[..., Run]
) -> None:
    ended()
    measure()
    assert "Growth" not in text_of(browser.get("/storage/").content.decode())
    StorageUse.objects.update(day=timezone.now().date() - timedelta(days=7))
    ended()
    measure()
    held = use_of(lab.workspace)
    assert (held.size_bytes, held.growth_bytes, held.growth_days) == (4040, 2020, 7)
    assert "Growth +2.0 KB in 7 days" in text_of(browser.get("/storage/").content.decode())


def test_the_dispatcher_counts_again_soon_unless_counting_takes_long(
    lab: Lab, ended: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("runs.housekeeping.daily.time.monotonic", lambda: clock[0])
    count = daily.Counting()
    ended()
    assert not count() and use_of(lab.workspace).measured_at is None, "the round of the start has counted"
    clock[0] += 61
    assert count() and use_of(lab.workspace).size_bytes == 2020
    ended()
    assert not count()
    monkeypatch.setattr("runs.housekeeping.use.measure", lambda: clock.append(clock.pop() + 30))
    clock[0] += 61
    assert count()
    clock[0] += 2999
    assert not count(), "thirty seconds of counting are paid once in fifty minutes"
    clock[0] += 2
    assert count()


def test_counting_twice_a_day_counts_once(lab: Lab, ended: Callable[..., Run]) -> None:
    ended()
    measure()
    measure()
    assert use_of(lab.workspace).size_bytes == 2020


def test_administrators_see_every_workspace_and_what_nobody_owns(
    lab: Lab, admin: Client, browser: Client, ended: Callable[..., Run], write: Callable[..., str]
) -> None:
    ended()
    ended(workspace=Workspace.objects.get(slug="elsewhere"))
    write("runs/999999/artifacts/attempt-1/a", b"o" * 70)
    measure()
    text = text_of(admin.get("/storage/site/").content.decode())
    for told in ("Lab 2.0 KB", "Elsewhere 2.0 KB", "Nobody’s 70 B", "In storage 4.1 KB"):
        assert told in text
    assert "Elsewhere" not in text_of(browser.get("/storage/").content.decode())


def test_a_run_says_what_it_holds(browser: Client, ended: Callable[..., Run]) -> None:
    text = text_of(browser.get(f"/runs/{ended().pk}/").content.decode())
    assert "Storage 2.0 KB Model files 2 files, 1.0 KB Checkpoints 2, 1.0 KB" in text


@pytest.mark.usefixtures("no_storage")
def test_a_storage_that_is_not_there_yet_is_empty(lab: Lab, browser: Client) -> None:
    assert browser.post("/storage/count/", follow=True).status_code == 200
    assert use_of(lab.workspace).size_bytes == 0
