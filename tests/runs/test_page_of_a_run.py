"""A run's page tells what it does, what went wrong, and what came out; it moves without a reload, and stops moving."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from runs.models import Artifact, Attempt, Event, Run, SampleAnswer, Worker
from runs.training.tasks import get_task

from .conftest import Lab, poll, text_of

NASTY = "<script>alert(1)</script>"


def page_of(browser: Client, run: Run) -> str:
    answer = browser.get(f"/runs/{run.pk}/")
    assert answer.status_code == 200
    return answer.content.decode()


def test_a_run_that_waits_says_behind_how_many(browser: Client, lab: Lab) -> None:
    lab.run(queued_at=timezone.now() - timedelta(minutes=5))
    said = text_of(page_of(browser, lab.run()))
    assert "Queued" in said and "Waiting for a worker, 1 run before it" in said


def test_a_run_that_nobody_can_take_says_so(browser: Client, lab: Lab) -> None:
    run = lab.run(queue="gpu1")
    assert "No worker is online: it starts as soon as one is." in text_of(page_of(browser, run))
    worker = Worker.objects.create(name="h:/w", host="h", pid=1, queues=["cpu"], slots=1)
    assert "takes runs of its queue, “gpu1”" in text_of(page_of(browser, run))
    Worker.objects.filter(pk=worker.pk).update(queues=["cpu", "gpu1"])
    said = text_of(page_of(browser, run))
    assert "Waiting for a worker" in said and "No worker" not in said


def test_a_run_that_trains_says_where_it_is(browser: Client, lab: Lab) -> None:
    run = lab.run(
        status="running", phase="training", step=1200, total_steps=4800, epoch=0.75, rate=312.4, eta_seconds=95,
        started_at=timezone.now() - timedelta(seconds=63),
    )  # fmt: skip
    page = page_of(browser, run)
    said = text_of(page)
    for part in ("Running", "25 %", "1,200 of 4,800", "0.75", "312", "1 min 35 s", "Preparing", "Packaging"):
        assert part in said, part
    assert 'aria-current="step">Training' in page
    assert "Pause" in said and "Cancel" in said and "Download model" not in said


def test_a_run_that_failed_says_why_and_what_to_try(browser: Client, lab: Lab) -> None:
    failure = {
        "code": "bad_data",
        "message": "Row 7 of train, column “review”: the text is empty.",
        "hint": "Fill it in or leave the row out.",
        "log_tail": ["line one", f"line two {NASTY}"],
    }
    said = text_of(page := page_of(browser, lab.run(status="failed", failure=failure, phase="preparing")))
    for part in (failure["message"], failure["hint"], "bad_data , while preparing", "line one", "Try again"):
        assert part in said, part
    assert NASTY not in page


def test_a_run_that_succeeded_shows_results_beside_the_baseline_and_files(browser: Client, lab: Lab) -> None:
    run = lab.run(
        status="succeeded",
        started_at=timezone.now() - timedelta(minutes=2),
        finished_at=timezone.now(),
        metrics={"accuracy": 0.912, "loss": 0.3, "validation_accuracy": 0.9},
        baseline={
            "name": "majority_class",
            "title": "Always the most frequent class",
            "metrics": {"accuracy": 0.5, "loss": 0.69},
        },
        results={"split": "test", "labels": ["bad", "good"], "confusion_matrix": [[40, 5], [3, 52]]},
    )
    Artifact.objects.create(
        run=run, name="model.safetensors", storage_key="k", size=90_000_000, sha256="ab" * 32
    )
    page = page_of(browser, run)
    said = text_of(page)
    for part in ("91.2 %", "50.0 %", "+41.2 points", "Always the most frequent class", "model.safetensors"):
        assert part in said, part
    assert "bad taken for good 5" in said
    assert f'href="/runs/{run.pk}/model.zip"' in page
    assert "Cancel the run" not in page


def test_a_viewer_downloads_what_came_out(lab: Lab) -> None:
    run = lab.run(status="succeeded")
    Artifact.objects.create(run=run, name="config.json", storage_key="k", size=10, sha256="ab" * 32)
    viewer = Client()
    viewer.force_login(lab.viewer)
    page = page_of(viewer, run)
    assert page.count(f'href="/runs/{run.pk}/model.zip"') == 2 and "Download model" in page
    assert "Run again" not in page and "/runs/new/" not in page


def test_a_run_that_was_cancelled_keeps_its_numbers_and_can_be_made_again(browser: Client, lab: Lab) -> None:
    now = timezone.now()
    run = lab.run(
        status="cancelled", phase="training", step=40, total_steps=100, started_at=now - timedelta(seconds=200),
        finished_at=now, metrics={"validation_accuracy": 0.8, "loss": 0.2},
        baseline={"metrics": {"validation_accuracy": 0.9, "loss": 0.1}},
    )  # fmt: skip
    page = page_of(browser, run)
    said = text_of(page)
    for part in ("Cancelled", "3 min 20 s", "40 of 100", "so far", "80.0 %", "−10.0 points (worse)"):
        assert part in said, part
    assert f'href="/runs/new/?from={run.pk}"' in page
    assert "Download model" not in said and "Test rows" not in said, "the loss is the training loss"


def test_a_paused_run_can_go_on_and_one_that_is_asked_to_stop_says_so(browser: Client, lab: Lab) -> None:
    paused = text_of(page_of(browser, lab.run(status="paused", step=5, total_steps=10)))
    assert "Paused" in paused and "Go on" in paused and "50 %" in paused
    stopping = page_of(browser, lab.run(status="running", desired="cancel"))
    assert "Stopping …" in stopping and "/cancel/" not in stopping and "/pause/" not in stopping
    pausing = page_of(browser, lab.run(status="running", desired="pause"))
    assert "Pausing …" in pausing and "/cancel/" in pausing and "/pause/" not in pausing


def test_settings_stand_with_titles_units_and_choices_in_words(browser: Client, lab: Lab) -> None:
    settings = {"learning_rate": 0.00002, "num_train_epochs": 3.0, "max_length": 256, "of_old": True}
    page = page_of(browser, lab.run(method="full", settings=settings))
    said = text_of(page)
    for item in get_task("text-classification").settings_for("full"):
        assert (f">{item.title}</dt>" in page) == (item.name in settings), item.name
    assert "2e-05" in said and "256 tokens" in said and "of_old yes" in said
    assert "Text column review" in said and "Label column stars" in said


def test_a_large_confusion_matrix_is_told_by_its_worst_mistakes(browser: Client, lab: Lab) -> None:
    labels = [f"class {number}" for number in range(50)]
    right = [[10 if row == column else 0 for column in range(50)] for row in range(50)]
    wrong = [list(row) for row in right]
    wrong[3][7], wrong[4][5] = 30, 10
    run = lab.run(status="succeeded", results={"labels": labels, "confusion_matrix": wrong})
    page = page_of(browser, run)
    said = text_of(page)
    assert "class 3 taken for class 7 30 × · 75.0 %" in said and "confusion-table" not in page
    assert said.index("class 3 taken for") < said.index("class 4 taken for")
    Run.objects.filter(pk=run.pk).update(results={"labels": labels, "confusion_matrix": right})
    assert "No mistake on these rows." in text_of(page_of(browser, run))


def test_a_run_of_a_task_or_dataset_that_is_gone_is_still_shown(browser: Client, lab: Lab) -> None:
    run = lab.run(task="old-task", method="old-method", dataset_version=None, status="succeeded")
    said = text_of(page_of(browser, run))
    assert "old-task" in said and "old-method" in said and "Reviews (deleted)" in said
    assert "Reviews (deleted)" in text_of(poll(browser, f"/runs/{run.pk}/", "0-0").content.decode())


def test_sample_prompts_stand_beside_what_the_base_model_said(browser: Client, lab: Lab) -> None:
    run = lab.run(task="text-generation", method="lora", status="running")
    for step, answer in ((0, "I do not know."), (10, "Green?"), (20, f"Blue. {NASTY}")):
        SampleAnswer.objects.create(
            run=run, step=step, number=0, prompt="What colour is the sky?", expected="Blue.", answer=answer
        )
    said = text_of(page := page_of(browser, run))
    assert "What colour is the sky?" in said and "Base model I do not know." in said
    assert "This run, step 20 Blue." in said and "1 earlier answer" in said
    assert NASTY not in page


def test_names_that_people_gave_are_never_markup(browser: Client, lab: Lab) -> None:
    run = lab.run(name=NASTY, dataset_name=NASTY, status="running")
    Event.objects.create(run=run, kind="message", message=NASTY)
    Attempt.objects.create(run=run, number=1, lease_until=timezone.now(), log_tail=NASTY)
    for path in (f"/runs/{run.pk}/", "/runs/", "/", f"/runs/new/?from={run.pk}"):
        assert NASTY not in browser.get(path).content.decode(), path


def test_a_poll_is_a_fragment_and_an_unchanged_one_is_nothing(
    browser: Client, lab: Lab, django_assert_num_queries: Callable[[int], Any]
) -> None:
    run = lab.run(status="running", step=3, total_steps=10)
    page = page_of(browser, run)
    found = re.search(r'hx-ptag="([^"]+)"', page)
    assert found and 'hx-trigger="every 2s"' in page
    unchanged = poll(browser, f"/runs/{run.pk}/", found[1])
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    with django_assert_num_queries(1):
        poll(browser, f"/runs/{run.pk}/", found[1])
    Run.objects.filter(pk=run.pk).update(step=4, row_version=run.row_version + 1)
    changed = poll(browser, f"/runs/{run.pk}/", found[1])
    fragment = changed.content.decode()
    assert changed.status_code == 200 and "<html" not in fragment
    assert "4 of 10" in text_of(fragment) and changed["HX-PTag"] != found[1]
    assert "no-store" in changed["Cache-Control"] and "HX-Request" in changed["Vary"]


def test_what_is_over_is_not_polled(browser: Client, lab: Lab) -> None:
    run = lab.run(status="running")
    assert 'hx-trigger="every' in page_of(browser, run)
    Run.objects.filter(pk=run.pk).update(status="cancelled", row_version=2)
    fragment = poll(browser, f"/runs/{run.pk}/", "old").content.decode()
    assert (
        "Cancelled" in fragment and "hx-get" not in fragment.split(">", 1)[0] and "every 2s" not in fragment
    )


@pytest.mark.parametrize(
    ("button", "status", "after"),
    [
        ("cancel", "queued", ("cancelled", "go_on")),
        ("cancel", "running", ("running", "cancel")),
        ("pause", "running", ("running", "pause")),
        ("resume", "paused", ("queued", "go_on")),
        ("retry", "failed", ("queued", "go_on")),
    ],
)
def test_buttons_ask_and_the_page_says_so(
    browser: Client, lab: Lab, button: str, status: str, after: tuple[str, str]
) -> None:
    run = lab.run(status=status, attempt=1)
    assert browser.get(f"/runs/{run.pk}/{button}/").status_code == 405
    answer = browser.post(f"/runs/{run.pk}/{button}/", follow=True)
    assert answer.redirect_chain[-1][0] == f"/runs/{run.pk}/"
    run.refresh_from_db()
    assert (run.status, run.desired) == after
    refused = browser.post(f"/runs/{lab.run(status='succeeded').pk}/{button}/", follow=True)
    assert "alert-danger" in refused.content.decode()


def test_a_viewer_sees_no_buttons(lab: Lab) -> None:
    client = Client()
    client.force_login(lab.viewer)
    page = page_of(client, lab.run(status="running"))
    assert "/cancel/" not in page and "/pause/" not in page
