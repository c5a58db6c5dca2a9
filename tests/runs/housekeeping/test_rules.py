"""Retention by rule: seen before it is saved, applied to what has ended, told where it was."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from runs import lifecycle
from runs.housekeeping import daily, planning, rules
from runs.housekeeping.applying import apply
from runs.models import (
    Checkpoint,
    HousekeepingReport,
    Metric,
    RetentionRule,
    Run,
    StorageRemoval,
)
from tests.runs.conftest import Lab, Script, text_of
from webapp.accounts.models import Membership, Workspace

from .conftest import keys, remove_now


def went(lab: Lab, **rule: Any) -> HousekeepingReport:
    """The saved rule of the workspace is applied, and files leave storage."""
    RetentionRule.objects.update_or_create(workspace=lab.workspace, defaults=rule)
    report = daily.now(lab.workspace, "test")
    remove_now()
    return report


def kinds(lab: Lab, **rule: Any) -> set[tuple[int, str]]:
    found = planning.plan(RetentionRule(**rule), lab.workspace)
    return {(item.run_id, str(item.kind)) for item in found.items}


# -- what a rule names -----------------------------------------------------------------------------
def test_without_any_rule_checkpoints_of_successful_runs_go_after_a_month_and_nothing_else(
    lab: Lab, ended: Callable[..., Run]
) -> None:
    old, young, failed = ended(days=31), ended(days=29), ended(days=300, status="failed")
    found = planning.plan(rules.rule_for(lab.workspace), lab.workspace)
    assert [(item.run_id, item.kind) for item in found.items] == [(old.pk, "checkpoints")]
    assert found.size_bytes == 1000
    assert {young.pk, failed.pk}.isdisjoint(item.run_id for item in found.items)


@pytest.mark.parametrize("status", ["queued", "running", "paused"])
@pytest.mark.parametrize("field", [name for name in rules.FIELDS if name.endswith("_days")])
def test_a_run_that_is_not_over_loses_nothing(
    lab: Lab, ended: Callable[..., Run], status: str, field: str
) -> None:
    ended(days=400, status=status)
    assert kinds(lab, **{field: 0}) == set()


@pytest.mark.parametrize("field", [name for name in rules.FIELDS if name.endswith("_days")])
def test_a_run_that_is_marked_to_be_kept_loses_nothing(
    lab: Lab, ended: Callable[..., Run], field: str
) -> None:
    for status in ("succeeded", "failed"):
        ended(days=400, status=status, points=3000, keep=True)
    assert kinds(lab, **{field: 0}) == set()


@pytest.mark.parametrize(("keep", "left"), [("none", []), ("last", [20]), ("best", [10]), ("both", [10, 20])])
def test_the_last_and_the_best_checkpoint_stay_where_the_rule_says_so(
    lab: Lab, ended: Callable[..., Run], keep: str, left: list[int]
) -> None:
    run = ended()
    went(lab, checkpoint_days=30, checkpoint_keep=keep)
    assert list(run.checkpoints.order_by("step").values_list("step", flat=True)) == left
    stored = {key.split("/")[3] for key in keys(f"runs/{run.pk}/checkpoints")}
    assert stored == {f"{step}-1" for step in left}


def test_each_part_has_an_age_of_its_own(lab: Lab, ended: Callable[..., Run]) -> None:
    good, bad = ended(days=20, points=1500), ended(days=20, status="cancelled")
    assert kinds(lab, log_days=20) == {(good.pk, "logs"), (bad.pk, "logs")}
    assert kinds(lab, log_days=21) == set()
    assert kinds(lab, file_days=5) == {(good.pk, "files")}
    assert kinds(lab, unfinished_file_days=5) == {(bad.pk, "files")}
    assert kinds(lab, unfinished_checkpoint_days=5) == {(bad.pk, "checkpoints")}
    assert kinds(lab, metric_days=5) == {(good.pk, "points")}, "the other has too few to thin out"
    assert kinds(lab, metric_days=5, metric_action="remove") == {(good.pk, "points"), (bad.pk, "points")}
    assert kinds(lab, run_days=5, log_days=5, checkpoint_days=0) == {(good.pk, "run"), (bad.pk, "run")}


def test_other_workspaces_are_not_touched(lab: Lab, ended: Callable[..., Run]) -> None:
    elsewhere = Workspace.objects.get(slug="elsewhere")
    theirs = ended(workspace=elsewhere)
    went(lab, checkpoint_days=0, run_days=0)
    assert Run.objects.filter(pk=theirs.pk).exists() and len(keys(f"runs/{theirs.pk}")) == 7


# -- what is done ----------------------------------------------------------------------------------
def test_the_preview_shows_exactly_what_then_goes(owner: Client, lab: Lab, ended: Callable[..., Run]) -> None:
    run, young = ended(days=40, name="Old one"), ended(days=3)
    before = keys()
    form = {"checkpoint_days": "30", "checkpoint_keep": "last", "log_days": "30", "metric_action": "thin"}
    page = owner.get("/storage/preview/", form).content.decode()
    text = text_of(page)
    assert "514 B of 1 run if this rule were applied now. Nothing has been saved or removed yet." in text
    assert "Old one Checkpoints step 10 1 500 B More than 30 days since it succeeded." in text
    assert "Old one Logs attempt-1.log 1 14 B More than 30 days since it ended." in text
    assert keys() == before and not RetentionRule.objects.exists()

    sent = dict(re.findall(r'type="hidden" name="(\w+)"(?: value="([^"]*)")?', page.split("<main")[1]))
    sent.pop("csrfmiddlewaretoken", None)
    assert sent["checkpoint_days"] == "30" and sent["log_days"] == "30"
    answer = owner.post("/storage/save/", {**sent, "apply": "yes"}, follow=True)
    assert "The rule is saved. Something of 1 run went: 514 B." in text_of(answer.content.decode())
    remove_now()
    assert set(before) - set(keys()) == {
        f"runs/{run.pk}/checkpoints/10-1/model.bin",
        f"runs/{run.pk}/checkpoints/10-1/manifest.json",
        f"runs/{run.pk}/logs/attempt-1.log",
    }
    assert len(keys(f"runs/{young.pk}")) == 7
    shown = text_of(owner.get("/storage/").content.decode())
    assert (
        "Checkpoints of runs that succeeded, but for the last one, go 30 days after the run has ended."
        in shown
    )
    assert "Asked for by anna" in shown and "Old one : checkpoints, 1. More than 30 days" in shown


def test_saving_alone_removes_nothing_until_the_daily_round(
    owner: Client, lab: Lab, ended: Callable[..., Run]
) -> None:
    run = ended(days=40)
    answer = owner.post(
        "/storage/save/", {"run_days": "30", "checkpoint_keep": "none", "metric_action": "thin"}, follow=True
    )
    assert "applied once a day" in text_of(answer.content.decode())
    assert Run.objects.filter(pk=run.pk).exists()
    assert daily.daily() is not None
    assert not Run.objects.filter(pk=run.pk).exists()


def test_the_story_says_what_was_removed_and_why(
    lab: Lab, browser: Client, ended: Callable[..., Run]
) -> None:
    run = ended()
    version = run.row_version
    went(lab, checkpoint_days=30)
    story = run.events.get(kind="removed").message
    assert story == (
        "2 checkpoints (1.0 KB) removed by the rule of this workspace: more than 30 days since it succeeded."
    )
    run.refresh_from_db()
    assert run.row_version > version, "pages that are open show it"
    text = text_of(browser.get(f"/runs/{run.pk}/").content.decode())
    assert story in text and "Checkpoints none" in text


def test_files_that_are_gone_are_greyed_out_with_the_reason(
    lab: Lab, browser: Client, script: Script, ended: Callable[..., Run]
) -> None:
    run = ended()
    went(lab, file_days=30)
    page = browser.get(f"/runs/{run.pk}/").content.decode()
    assert "<s>model.safetensors</s>" in page and f"/runs/{run.pk}/files/" not in page
    assert "can no longer be downloaded. More than 30 days since it succeeded." in text_of(page)
    for address in ("files/model.safetensors", "model.zip"):
        answer = browser.get(f"/runs/{run.pk}/{address}")
        assert answer.status_code == 410
        assert "More than 30 days since it succeeded." in text_of(answer.content.decode())
    for address in ("artifacts/model.safetensors", "artifacts.zip"):
        answer = script.get(f"runs/{run.pk}/{address}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (410, "gone")
    assert browser.get(f"/runs/{run.pk}/files/never-there").status_code == 404


def test_a_download_under_way_goes_on_to_its_end(
    lab: Lab, browser: Client, ended: Callable[..., Run]
) -> None:
    run = ended()
    one = browser.get(f"/runs/{run.pk}/files/model.safetensors").streaming_content
    zipped = browser.get(f"/runs/{run.pk}/model.zip").streaming_content
    first = next(iter(zipped))
    went(lab, file_days=30)
    assert keys(f"runs/{run.pk}/artifacts") == []
    assert b"".join(one) == b"w" * 1000
    with zipfile.ZipFile(BytesIO(first + b"".join(zipped))) as archive:
        assert archive.testzip() is None and len(archive.namelist()) == 2


def test_logs_go_once_and_again_only_if_the_run_went_on(lab: Lab, ended: Callable[..., Run]) -> None:
    run = ended()
    went(lab, log_days=30)
    assert keys(f"runs/{run.pk}/logs") == [] and run.attempts.get().log_tail == ""
    assert kinds(lab, log_days=30) == set()


@pytest.mark.parametrize("count", [1000, 1001, 1999, 2500])
def test_points_are_thinned_out_to_what_a_chart_draws(
    lab: Lab, ended: Callable[..., Run], count: int
) -> None:
    run = ended(points=count)
    planned = sum(item.count for item in planning.plan(RetentionRule(metric_days=1), lab.workspace).items)
    went(lab, metric_days=1)
    steps = list(Metric.objects.filter(run=run).order_by("step").values_list("step", flat=True))
    assert len(steps) == count - planned <= 1001 and len(steps) >= 400
    assert steps[0] == 1 and steps[-1] == count, "the first and the last stay"
    assert kinds(lab, metric_days=1) == set() or len(steps) > 1000


def test_what_changed_since_the_plan_was_made_is_left_alone(lab: Lab, ended: Callable[..., Run]) -> None:
    retried, kept, again = ended(status="failed"), ended(status="failed"), ended(status="failed")
    rule = RetentionRule(unfinished_checkpoint_days=1, run_days=None)
    found = planning.plan(rule, lab.workspace)
    assert len(found.items) == 3
    lifecycle.retry(retried.pk, None)
    Run.objects.filter(pk=kept.pk).update(keep=True)
    Run.objects.filter(pk=again.pk).update(finished_at=timezone.now())  # it went on and failed once more
    assert apply(found, rule, HousekeepingReport.objects.create()) == []
    assert Checkpoint.objects.count() == 6 and not StorageRemoval.objects.exists()


# -- once a day ------------------------------------------------------------------------------------
def test_the_round_of_the_day_is_done_once(lab: Lab, ended: Callable[..., Run]) -> None:
    ended()
    first = daily.daily()
    assert first is not None and first.finished_at is not None and first.removals.count() == 1
    ended()
    assert daily.daily() is None
    HousekeepingReport.objects.update(started_at=timezone.now() - timedelta(hours=25))
    second = daily.daily()
    assert second is not None and second.removals.count() == 1


def test_two_dispatchers_do_not_do_it_both(transactional_db: None, lab: Lab) -> None:
    import psycopg

    other = connection.copy()
    parameters = other.get_connection_params()
    for name in ("cursor_factory", "context", "prepare_threshold"):
        parameters.pop(name, None)
    with psycopg.connect(**parameters, autocommit=True) as theirs:
        theirs.execute("SELECT pg_advisory_lock(%s)", [daily.LOCK])
        assert daily.daily() is None and not HousekeepingReport.objects.exists()
    assert daily.daily() is not None, "the lock of one that has died is free"


def test_a_round_that_was_killed_is_done_by_another(lab: Lab, ended: Callable[..., Run]) -> None:
    dead = HousekeepingReport.objects.create(is_daily=True)
    ended()
    report = daily.daily()
    assert report is not None and report.removals.count() == 1
    dead.refresh_from_db()
    assert "interrupted" in dead.error


def test_a_workspace_whose_round_fails_keeps_none_from_theirs(
    lab: Lab, owner: Client, ended: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = ended(workspace=Workspace.objects.get(slug="elsewhere"))
    honest = planning.plan

    def broken(rule: Any, workspace: Workspace, **more: Any) -> Any:
        if workspace == lab.workspace:
            raise OSError("storage is away")
        return honest(rule, workspace, **more)

    monkeypatch.setattr(daily, "plan", broken)
    report = daily.daily()
    assert report is not None and "Lab: storage is away" in report.error
    assert not theirs.checkpoints.exists()
    assert "with errors" in text_of(owner.get("/storage/").content.decode())


# -- who may ---------------------------------------------------------------------------------------
def test_members_see_what_goes_and_owners_change_it(lab: Lab, browser: Client) -> None:
    page = text_of(browser.get("/storage/").content.decode())
    assert "Checkpoints of runs that succeeded go 30 days after the run has ended." in page
    assert "Change the rule" not in page
    assert browser.get("/storage/preview/").status_code == 403
    for address in ("save", "reset"):
        assert browser.post(f"/storage/{address}/", {"run_days": "1"}).status_code == 403
    assert not RetentionRule.objects.exists()


def test_the_site_is_an_administrators_business(lab: Lab, owner: Client, admin: Client) -> None:
    for address in ("site/", "site/preview/", "left-over/"):
        assert owner.get(f"/storage/{address}").status_code == 403
        assert (
            admin.get(f"/storage/{address}", {"checkpoint_keep": "none", "metric_action": "thin"}).status_code
            == 200
        )
    for address in ("site/save/", "left-over/delete/"):
        assert owner.post(f"/storage/{address}", {"run_days": "1"}).status_code == 403
    assert not RetentionRule.objects.exists()


def test_the_sites_rule_counts_where_a_workspace_has_none(
    lab: Lab, owner: Client, admin: Client, ended: Callable[..., Run]
) -> None:
    run = ended(days=10)
    form = {"log_days": "5", "checkpoint_keep": "none", "metric_action": "thin"}
    assert "Logs" in text_of(admin.get("/storage/site/preview/", form).content.decode())
    admin.post("/storage/site/save/", form)
    assert kinds_of(lab) == {(run.pk, "logs")}
    owner.post("/storage/save/", {"log_days": "50", "checkpoint_keep": "none", "metric_action": "thin"})
    assert kinds_of(lab) == set()
    owner.post("/storage/reset/")
    assert kinds_of(lab) == {(run.pk, "logs")}


def kinds_of(lab: Lab) -> set[tuple[int, str]]:
    found = planning.plan(rules.rule_for(lab.workspace), lab.workspace)
    return {(item.run_id, str(item.kind)) for item in found.items}


@pytest.mark.parametrize("days", ["-1", "a", "99999999999", "1.5"])
def test_a_number_of_days_that_is_none_is_told_beside_its_field(owner: Client, days: str) -> None:
    answer = owner.get(
        "/storage/preview/", {"run_days": days, "checkpoint_keep": "none", "metric_action": "thin"}
    )
    assert answer.status_code == 422
    assert 'id="id_run_days_error"' in answer.content.decode()


def test_a_run_is_kept_and_let_go_from_its_page(browser: Client, ended: Callable[..., Run]) -> None:
    run = ended()
    text = text_of(browser.post(f"/runs/{run.pk}/keep/", follow=True).content.decode())
    assert "No rule removes anything of this run." in text and "Marked to be kept by anna." in text
    text = text_of(browser.post(f"/runs/{run.pk}/keep/", {"keep": "no"}, follow=True).content.decode())
    assert "No longer marked to be kept by anna." in text


# -- scripts ---------------------------------------------------------------------------------------
def test_a_script_looks_saves_and_applies(lab: Lab, script: Script, ended: Callable[..., Run]) -> None:
    run = ended()
    assert script.post("storage/preview", {"log_days": 30}).status_code == 403
    Membership.objects.filter(user=lab.member).update(role="owner")
    would = script.post("storage/preview", {"log_days": 30}).json()
    assert would["items"][0] | {"reason": ""} == {
        "run": run.pk, "run_name": "First try", "kind": "logs", "count": 1, "size": 14, "reason": "",
        "names": ["attempt-1.log"],
    }  # fmt: skip
    assert (would["size"], would["more"]) == (14, False)
    assert script.post("storage/rule", {"log_days": 30}).json()["log_days"] == 30
    assert script.get("storage").json()["rule_is_own"] is True
    done = script.post("storage/apply").json()
    assert (done["size"], [item["kind"] for item in done["removed"]]) == (14, ["logs"])
    held = script.get(f"runs/{run.pk}/storage").json()
    assert held["removed"][0]["names"] == ["attempt-1.log"]
    assert (held["files"], held["file_size"], held["checkpoints"]) == (2, 1002, 2)
    assert script.post(f"runs/{run.pk}/keep").json()["keep"] is True
    assert script.client.delete(f"/api/v1/runs/{run.pk}/keep").json()["keep"] is False
    assert script.post("storage/rule", {"checkpoint_keep": "some"}).status_code == 422
    assert script.post("storage/rule", {"log_days": -1}).status_code == 422
    again = script.client.delete("/api/v1/storage/rule").json()
    assert (again["checkpoint_days"], again["log_days"]) == (30, None), "the site's counts again"
    assert [item["kind"] for item in script.get("storage/preview").json()["items"]] == ["checkpoints"]
