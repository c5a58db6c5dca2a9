"""Duplicate, extend, priority, schedule, chain: from the pages and from the API, with the same answers."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from runs.models import Artifact, Checkpoint, Run, Worker
from webapp.accounts.models import Workspace

from .conftest import Lab, Script, text_of

FULL = {"learning_rate": 1e-4, "num_train_epochs": 3.0, "max_steps": -1, "seed": 7}


def page_of(browser: Client, run: Run) -> str:
    return html.unescape(browser.get(f"/runs/{run.pk}/").content.decode())


def trained(lab: Lab, **values: Any) -> Run:
    """One that has succeeded with a method that has epochs, its last checkpoint kept."""
    run = lab.run(**{"status": "succeeded", "method": "full", "settings": FULL, "attempt": 1, **values})
    Checkpoint.objects.create(run=run, step=9, storage_prefix="x", size_bytes=1)
    Artifact.objects.create(run=run, name="config.json", storage_key="k", size=1, sha256="0" * 64)
    return run


def alert_of(answer: Any) -> str:
    return text_of(answer.content.decode())


# -- extend ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("status", ["succeeded", "failed", "cancelled", "paused"])
def test_a_run_with_a_checkpoint_is_extended_from_its_menu(browser: Client, lab: Lab, status: str) -> None:
    run = trained(lab, status=status)
    page = page_of(browser, run)
    assert f'action="/runs/{run.pk}/extend/"' in page and "It has 3 epochs; how many in all?" in page
    browser.post(f"/runs/{run.pk}/extend/", {"num_train_epochs": "6"})
    run.refresh_from_db()
    assert (run.status, run.settings["num_train_epochs"]) == ("queued", 6.0)
    assert run.events.latest("id").message == "Extended by anna to 6 epochs."
    assert "Download model" in page_of(browser, run), "its files stay"


def test_a_step_limit_is_extended_where_one_is_set(browser: Client, lab: Lab) -> None:
    run = trained(lab, settings={**FULL, "max_steps": 100})
    assert "It has 100 steps" in page_of(browser, run)
    answer = browser.post(f"/runs/{run.pk}/extend/", {"num_train_epochs": "6"}, follow=True)
    assert "give max_steps" in alert_of(answer)
    browser.post(f"/runs/{run.pk}/extend/", {"max_steps": "150"})
    run.refresh_from_db()
    assert (run.status, run.settings["max_steps"]) == ("queued", 150)


@pytest.mark.parametrize("value", ["3", "2", "", "many", "1e9", "nan"])
def test_an_extension_that_makes_no_sense_is_refused(browser: Client, lab: Lab, value: str) -> None:
    run = trained(lab)
    answer = browser.post(f"/runs/{run.pk}/extend/", {"num_train_epochs": value}, follow=True)
    assert "alert-danger" in answer.content.decode()
    run.refresh_from_db()
    assert run.status == "succeeded" and run.settings == FULL


def test_what_cannot_be_extended_does_not_offer_it(browser: Client, lab: Lab, script: Script) -> None:
    without = lab.run(status="succeeded", method="full", settings=FULL)
    head = trained(lab, method="head", settings={"seed": 1})
    running = trained(lab, status="running")
    for run, says in ((without, "no checkpoint"), (head, "has no epochs or steps"), (running, "is running")):
        assert "/extend/" not in page_of(browser, run)
        answer = script.post(f"runs/{run.pk}/extend", {"num_train_epochs": 9})
        assert answer.status_code == 409 and says in answer.json()["error"]["message"]


def test_scripts_extend_too(lab: Lab, script: Script) -> None:
    run = trained(lab)
    answer = script.post(f"runs/{run.pk}/extend", {"num_train_epochs": 5})
    assert answer.status_code == 200, answer.content
    assert (answer.json()["status"], answer.json()["settings"]["num_train_epochs"]) == ("queued", 5)
    refused = script.post(f"runs/{trained(lab).pk}/extend", {"num_train_epochs": 1})
    assert refused.status_code == 422 and "num_train_epochs" in refused.json()["error"]["fields"]
    assert script.post(f"runs/{run.pk}/extend", {"epochs": 9}).status_code == 422


# -- duplicate -------------------------------------------------------------------------------------
def test_duplicating_opens_the_form_with_everything_in_it(browser: Client, lab: Lab) -> None:
    first = lab.run(name="Waits")
    later = timezone.now() + timedelta(days=2)
    run = lab.run(
        method="full", settings={**FULL, "seed": 99}, priority=1, time_limit_seconds=5400, not_before=later,
        after=first, memory_bytes=3_000_000_000, name="My run",
    )  # fmt: skip
    assert f'href="/runs/new/?from={run.pk}"' in page_of(browser, run)
    page = browser.get("/runs/new/", {"from": run.pk}).content.decode()

    def value(name: str) -> str:
        found = re.search(rf'name="{name}"[^>]*value="([^"]*)"', page)
        assert found, name
        return found[1]

    assert value("name") == "My run (2)" and value("settings-seed") == "99"
    assert value("when-time_limit_hours") == "1.5" and value("when-memory_gb") == "3"
    assert value("when-not_before") == timezone.localtime(later).strftime("%Y-%m-%dT%H:%M")
    assert '<option value="1" selected>High</option>' in page
    assert f'<option value="{first.pk}" selected>' in page
    assert '<details class="advanced" id="when-and-where" open>' in page
    assert f'name="from" value="{run.pk}"' in page


def test_a_launched_copy_says_what_it_was_made_from(browser: Client, lab: Lab) -> None:
    run = lab.run(name="First try")
    data = {
        "from": run.pk, "model": "tiny", "dataset": lab.dataset.pk, "task": "text-classification",
        "method": "head", "shown_task": "text-classification", "shown_method": "head",
        "columns-text": "review", "columns-label": "stars", "name": "Copy", "settings-seed": "5",
        "when-priority": "-1", "when-time_limit_hours": "2",
    }  # fmt: skip
    answer = browser.post("/runs/new/", data)
    assert answer.status_code == 302, text_of(answer.content.decode())
    copy = Run.objects.get(name="Copy")
    assert (copy.made_from_id, copy.settings["seed"], copy.priority) == (run.pk, 5, -1)
    assert copy.time_limit_seconds == 7200
    said = text_of(page_of(browser, copy))
    assert "Made from First try" in said and "Priority Low" in said and "Time limit 2 h 0 min" in said


def test_a_script_duplicates_at_once_with_changes(lab: Lab, script: Script) -> None:
    run = lab.run(method="full", settings=FULL, priority=1, name="Base")
    answer = script.post(f"runs/{run.pk}/duplicate", {"settings": {"seed": 8}, "priority": "low"})
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert (made["made_from"], made["name"], made["priority"]) == (run.pk, "Base (2)", "low")
    assert (made["settings"]["seed"], made["settings"]["learning_rate"]) == (8, 1e-4)
    assert made["columns"] == run.columns and made["dataset"] == lab.dataset.pk
    other = script.post(f"runs/{run.pk}/duplicate", {"method": "head"})
    assert other.status_code == 201 and "learning_rate" not in other.json()["settings"]
    wrong = script.post(f"runs/{run.pk}/duplicate", {"settings": {"seed": "x"}})
    assert "settings.seed" in wrong.json()["error"]["fields"]
    lab.dataset.delete()
    gone = script.post(f"runs/{run.pk}/duplicate", {})
    assert gone.status_code == 422 and "has been deleted" in gone.json()["error"]["fields"]["dataset"]


# -- pause, resume, retry, priority, start ----------------------------------------------------------
def test_scripts_pause_resume_and_retry(lab: Lab, script: Script) -> None:
    run = lab.run()
    assert script.post(f"runs/{run.pk}/pause").json()["status"] == "paused"
    assert script.post(f"runs/{run.pk}/pause").status_code == 409
    assert script.post(f"runs/{run.pk}/resume").json()["status"] == "queued"
    assert script.post(f"runs/{run.pk}/resume").status_code == 409
    assert script.post(f"runs/{run.pk}/retry").status_code == 409
    script.post(f"runs/{run.pk}/cancel")
    assert script.post(f"runs/{run.pk}/retry").json()["status"] == "queued"
    running = lab.run(status="running", attempt=1)
    answer = script.post(f"runs/{running.pk}/pause").json()
    assert answer["status"] == "running" and answer["waiting"]["message"] == "Pausing …"


@pytest.mark.parametrize("what", ["pause", "resume", "retry", "start", "extend", "priority", "duplicate"])
def test_viewers_and_strangers_change_nothing(lab: Lab, what: str) -> None:
    run = lab.run()
    bodies = {"extend": {"max_steps": 5}, "priority": {"priority": "high"}, "duplicate": {}}
    body = bodies.get(what)
    viewer = Script(lab.viewer, lab.workspace)
    assert viewer.post(f"runs/{run.pk}/{what}", body).status_code == 403
    elsewhere = Script(lab.stranger, lab.stranger.workspaces.get())
    assert elsewhere.post(f"runs/{run.pk}/{what}", body).status_code == 404
    if what != "duplicate":
        client = Client()
        client.force_login(lab.viewer)
        assert client.post(f"/runs/{run.pk}/{what}/").status_code == 403
        client.force_login(lab.stranger)
        assert client.post(f"/runs/{run.pk}/{what}/").status_code == 404
    run.refresh_from_db()
    assert (run.status, run.row_version, Run.objects.count()) == ("queued", 1, 1)


def test_a_queued_run_can_be_paused_and_a_cancelled_one_tried_again(browser: Client, lab: Lab) -> None:
    assert "/pause/" in page_of(browser, lab.run())
    cancelled = lab.run(status="cancelled", attempt=1)
    assert "Try again" in page_of(browser, cancelled)
    Checkpoint.objects.create(run=cancelled, step=1200, storage_prefix="x", size_bytes=1)
    assert "Go on from step 1,200" in page_of(browser, cancelled)


def test_priority_is_changed_from_page_and_script_while_it_waits(
    browser: Client, lab: Lab, script: Script
) -> None:
    run = lab.run()
    assert f'action="/runs/{run.pk}/priority/"' in page_of(browser, run)
    browser.post(f"/runs/{run.pk}/priority/", {"priority": "high"})
    run.refresh_from_db()
    assert (run.priority, run.rank) == (1, 1)
    assert run.events.latest("id").message == "Given high priority by anna."
    assert script.post(f"runs/{run.pk}/priority", {"priority": "low"}).json()["priority"] == "low"
    assert script.post(f"runs/{run.pk}/priority", {"priority": "huge"}).status_code == 422
    running = lab.run(status="running", attempt=1)
    assert script.post(f"runs/{running.pk}/priority", {"priority": "low"}).status_code == 409
    assert "/priority/" not in page_of(browser, running)
    answer = browser.post(f"/runs/{run.pk}/priority/", {"priority": "huge"}, follow=True)
    assert "low, normal or high" in alert_of(answer)


# -- when and where ----------------------------------------------------------------------------------
def test_a_script_says_when_a_run_starts_and_is_told_why_it_waits(lab: Lab, script: Script) -> None:
    first = lab.run(name="First")
    body = {"model": "tiny", "dataset": lab.dataset.pk, "method": "head"}
    made = script.post(
        "runs", {**body, "after": first.pk, "priority": "high", "time_limit_seconds": 600}
    ).json()
    assert (made["after"], made["priority"], made["time_limit_seconds"]) == (first.pk, "high", 600)
    assert made["waiting"]["message"] == "Starts once “First” has succeeded"
    assert script.post(f"runs/{made['id']}/start").json()["waiting"]["message"] == "Waiting for a worker"
    assert script.post(f"runs/{made['id']}/start").status_code == 409
    later = timezone.now() + timedelta(days=1)
    timed = script.post("runs", {**body, "not_before": later.isoformat()}).json()
    assert timed["waiting"]["message"].startswith("Starts at ")
    assert timed["waiting"]["expected_start"][:16] == later.isoformat()[:16]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("after", 10**9, "There is no run"),
        ("time_limit_seconds", 5, "between a minute and a year"),
        ("not_before", "2999-01-01T00:00:00Z", "within a year"),
        ("priority", "huge", ""),
        ("memory_gb", -1, ""),
    ],
)
def test_what_cannot_be_is_refused_with_its_field(
    lab: Lab, script: Script, field: str, value: Any, says: str
) -> None:
    body = {"model": "tiny", "dataset": lab.dataset.pk, "method": "head", field: value}
    answer = script.post("runs", body)
    assert answer.status_code == 422 and says in answer.json()["error"]["fields"][field]
    assert not Run.objects.exists()


def test_nobody_follows_a_run_that_failed_or_is_somebody_elses(lab: Lab, script: Script) -> None:
    body = {"model": "tiny", "dataset": lab.dataset.pk, "method": "head"}
    failed = lab.run(status="failed")
    theirs = lab.run(workspace=Workspace.objects.get(slug="elsewhere"))
    assert "is failed" in script.post("runs", {**body, "after": failed.pk}).json()["error"]["fields"]["after"]
    assert script.post("runs", {**body, "after": theirs.pk}).status_code == 422


def test_the_form_says_the_servers_time_zone_and_keeps_a_mistake_beside_its_field(
    browser: Client, lab: Lab, settings: Any
) -> None:
    page = text_of(browser.get("/runs/new/", {"model": "tiny", "dataset": lab.dataset.pk}).content.decode())
    assert "When and where it runs" in page
    assert f"In the server's time zone, {settings.TIME_ZONE}, where it is" in html.unescape(page)
    data = {
        "model": "tiny", "dataset": lab.dataset.pk, "task": "text-classification", "method": "head",
        "shown_task": "text-classification", "shown_method": "head", "columns-text": "review",
        "columns-label": "stars", "when-not_before": "tomorrow", "when-time_limit_hours": "0.001",
    }  # fmt: skip
    page = browser.post("/runs/new/", data).content.decode()
    assert "Type a date and a time" in page and "At least a minute" in page
    assert 'id="when-and-where" open' in page and not Run.objects.exists()


def test_a_run_that_no_worker_could_hold_says_so_before_and_after_its_launch(
    browser: Client, lab: Lab, script: Script
) -> None:
    devices = [{"index": 0, "name": "G", "memory_bytes": 8 * 10**9}]
    Worker.objects.create(name="g", host="g", pid=1, slots=1, queues=["cpu", "gpu1"], devices=devices)
    lab.model.parameters = 7_000_000_000
    lab.model.save()
    lacks = "the largest that is online has 8.0 GB"
    form = text_of(
        browser.get(
            "/runs/new/", {"model": "tiny", "dataset": lab.dataset.pk, "method": "full"}
        ).content.decode()
    )
    assert lacks in form and "You can launch it all the same" in form and "Memory of a device about" in form
    made = script.post("runs", {"model": "tiny", "dataset": lab.dataset.pk, "method": "full"})
    assert made.status_code == 201 and made.json()["waiting"]["blocked"] is True
    assert lacks in made.json()["waiting"]["reason"] and made.json()["memory_bytes"] > 10**11
    run = Run.objects.get()
    assert lacks in text_of(page_of(browser, run))
    assert lacks in text_of(browser.get(f"/runs/{run.pk}/waiting/").content.decode())
    said = script.post("runs", {"model": "tiny", "dataset": lab.dataset.pk, "method": "full", "memory_gb": 6})
    assert said.json()["memory_bytes"] == 6 * 10**9 and said.json()["waiting"]["blocked"] is False


def test_the_place_on_the_page_moves_though_the_run_does_not_change(
    browser: Client, lab: Lab, worker: Worker
) -> None:
    before = lab.run(queued_at=timezone.now() - timedelta(minutes=5))
    run = lab.run()
    path = f"/runs/{run.pk}/waiting/"
    assert f'hx-get="{path}"' in page_of(browser, run)
    answer = browser.get(path, headers={"HX-Request": "true"})
    assert "1 run before it" in text_of(answer.content.decode())
    unchanged = browser.get(path, headers={"HX-Request": "true", "HX-PTag": answer["HX-PTag"]})
    assert unchanged.status_code == 304
    before.delete()
    moved = browser.get(path, headers={"HX-Request": "true", "HX-PTag": answer["HX-PTag"]})
    assert moved.status_code == 200 and "before it" not in text_of(moved.content.decode())


def test_a_run_that_waits_for_another_offers_what_can_be_done(browser: Client, lab: Lab) -> None:
    first = lab.run(name="The first", status="failed")
    run = lab.run(after=first, waits_for="run")
    page = page_of(browser, run)
    assert "Waiting for “The first”" in page and "That run failed" in page
    assert f'action="/runs/{run.pk}/start/"' in page and f'href="/runs/{first.pk}/"' in page
    listed = html.unescape(text_of(browser.get("/runs/").content.decode()))
    assert "after “The first”, which failed" in listed
    browser.post(f"/runs/{run.pk}/start/")
    run.refresh_from_db()
    assert run.waits_for == ""


def test_the_list_shows_what_is_not_as_usual(browser: Client, lab: Lab) -> None:
    lab.run(priority=1)
    lab.run(not_before=timezone.now() + timedelta(days=1), waits_for="time")
    said = text_of(browser.get("/runs/").content.decode())
    assert "High priority" in said and "not before " in said
