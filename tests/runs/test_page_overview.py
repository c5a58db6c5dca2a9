"""The overview leads a new workspace to its first run, and then tells what trains and what came out."""

from __future__ import annotations

from datetime import timedelta

from django.test import Client
from django.utils import timezone

from runs.models import Attempt, Run, Worker
from webapp.datasets.models import Dataset

from .conftest import Lab, poll, text_of


def show(browser: Client) -> str:
    answer = browser.get("/")
    assert answer.status_code == 200
    return answer.content.decode()


def gpu_worker(**changes: object) -> Worker:
    h200 = {"name": "H200"}
    values = {"host": "h", "pid": 1, "queues": ["cpu", "gpu1"], "slots": 2, "devices": [h200, h200]}
    return Worker.objects.create(**{"name": "h:/w", **values, **changes})


def test_an_empty_workspace_is_led_through_three_steps(browser: Client, lab: Lab) -> None:
    page = show(browser)
    said = text_of(page)
    assert all(step in said for step in ("Pick a model", "Add your data", "Launch a run"))
    assert "1 dataset ready, the newest “Reviews”" in said
    assert f'href="/runs/new/?dataset={lab.dataset.pk}"' in page, "with the dataset that is there"
    for address in ("/models/", "/datasets/"):
        assert f'href="{address}"' in page
    assert "Newest results" not in said


def test_without_a_dataset_it_says_what_can_be_uploaded(browser: Client, lab: Lab) -> None:
    Dataset.objects.all().delete()
    page = show(browser)
    assert "Upload a CSV" in page and 'href="/runs/new/"' in page and "?dataset=" not in page


def test_a_viewer_is_not_offered_what_is_refused(lab: Lab) -> None:
    viewer = Client()
    viewer.force_login(lab.viewer)
    assert "/runs/new/" not in show(viewer)


def test_with_runs_it_tells_what_trains_now_and_what_came_out(browser: Client, lab: Lab) -> None:
    lab.run(name="now", status="running", phase="training", step=1, total_steps=2)
    lab.run(name="waits")
    lab.run(name="done", status="succeeded", metrics={"accuracy": 0.875}, finished_at=timezone.now())
    lab.run(name="broken", status="failed", finished_at=timezone.now() - timedelta(hours=1))
    page = show(browser)
    said = text_of(page)
    assert "now Running" in said and "waits Queued" in said and "Training · step 1 of 2" in said
    assert "done 87.5 %" in said and "broken Failed" in said
    assert "In progress 2" in said and "Succeeded 1" in said and "Failed 1" in said and "All runs 4" in said
    assert "Pick a model" not in said
    for status in ("active", "succeeded", "failed"):
        assert f'href="/runs/?status={status}"' in page


def test_many_that_wait_are_cut_short_with_a_link_to_all(browser: Client, lab: Lab) -> None:
    for number in range(10):
        lab.run(name=f"run {number}")
    page = show(browser)
    assert page.count('class="run-row"') == 8 and 'href="/runs/?status=active">All 10<' in page


def test_the_workers_are_told_in_a_line(browser: Client, lab: Lab) -> None:
    assert "No worker is online" in text_of(show(browser))
    worker = gpu_worker()
    gpu_worker(name="gone:/w", last_seen_at=timezone.now() - timedelta(hours=1), slots=5)
    Attempt.objects.create(run=lab.run(status="running"), number=1, worker=worker, lease_until=timezone.now())
    assert "1 worker online · 1 of 2 slots busy · 2 × H200" in text_of(show(browser))


def test_a_poll_is_sent_what_is_new_about_runs_and_workers_alone(browser: Client, lab: Lab) -> None:
    run = lab.run(status="running")
    tag = browser.get("/")["HX-PTag"]
    assert poll(browser, "/", tag).status_code == 304
    gpu_worker()
    answer = poll(browser, "/", tag)
    fragment = answer.content.decode()
    assert "1 worker online" in fragment and "<html" not in fragment and 'hx-trigger="every 3s"' in fragment
    tag = answer["HX-PTag"]
    assert poll(browser, "/", tag).status_code == 304
    Run.objects.filter(pk=run.pk).update(status="succeeded", row_version=9)
    assert 'hx-trigger="every 15s"' in poll(browser, "/", tag).content.decode()


def test_runs_of_other_workspaces_are_not_in_it(lab: Lab) -> None:
    lab.run(name="Secret")
    stranger = Client()
    stranger.force_login(lab.stranger)
    page = show(stranger)
    assert "Secret" not in page and "Reviews" not in page and "Pick a model" in page
