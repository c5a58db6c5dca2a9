"""A run's page tells what it does, what went wrong, and what came out; it moves without a reload, and stops moving."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from runs.models import Artifact, Attempt, Event, Metric, Run, SampleAnswer, Worker

from .conftest import Lab

NASTY = "<script>alert(1)</script>"


@pytest.fixture
def browser(lab: Lab) -> Client:
    client = Client()
    client.force_login(lab.member)
    return client


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.split("<main", 1)[-1])).strip()


def page_of(browser: Client, run: Run) -> str:
    answer = browser.get(f"/runs/{run.pk}/")
    assert answer.status_code == 200
    return answer.content.decode()


def poll(browser: Client, run: Run, tag: str) -> Any:
    return browser.get(f"/runs/{run.pk}/", headers={"HX-Request": "true", "HX-PTag": tag})


def test_a_run_that_waits_says_behind_how_many(browser: Client, lab: Lab) -> None:
    lab.run(queued_at=timezone.now() - timedelta(minutes=5))
    said = text_of(page_of(browser, lab.run()))
    assert "Queued" in said and "Waiting for a worker, 1 run before it" in said


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


def test_a_poll_is_a_fragment_and_an_unchanged_one_is_nothing(browser: Client, lab: Lab) -> None:
    run = lab.run(status="running", step=3, total_steps=10)
    page = page_of(browser, run)
    found = re.search(r'hx-ptag="([^"]+)"', page)
    assert found and 'hx-trigger="every 2s"' in page
    unchanged = poll(browser, run, found[1])
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    Run.objects.filter(pk=run.pk).update(step=4, row_version=run.row_version + 1)
    changed = poll(browser, run, found[1])
    fragment = changed.content.decode()
    assert changed.status_code == 200 and "<html" not in fragment
    assert "4 of 10" in text_of(fragment) and changed["HX-PTag"] != found[1]
    assert "no-store" in changed["Cache-Control"] and "HX-Request" in changed["Vary"]


def test_what_is_over_is_not_polled(browser: Client, lab: Lab) -> None:
    run = lab.run(status="running")
    assert 'hx-trigger="every' in page_of(browser, run)
    Run.objects.filter(pk=run.pk).update(status="cancelled", row_version=2)
    fragment = poll(browser, run, "old").content.decode()
    assert (
        "Cancelled" in fragment and "hx-get" not in fragment.split(">", 1)[0] and "every 2s" not in fragment
    )


def test_charts_get_points_and_then_only_newer_ones(browser: Client, lab: Lab) -> None:
    run = lab.run(status="running", attempt=2)
    Metric.objects.bulk_create(
        Metric(run=run, series="loss", step=step, value=1 / step) for step in range(1, 11)
    )
    Metric.objects.create(run=run, series="validation_loss", step=10, value=0.5)
    everything = browser.get(f"/runs/{run.pk}/points/").json()
    assert everything["attempt"] == 2
    assert everything["series"]["loss"]["step"] == list(range(1, 11))
    newer = browser.get(f"/runs/{run.pk}/points/?since=loss:8,validation_loss:10").json()["series"]
    assert newer == {"loss": {"step": [9, 10], **{k: [0.111111, 0.1] for k in ("min", "mean", "max")}}}
    assert browser.get(f"/runs/{run.pk}/points/?since=nonsense,loss:x").json()["series"].keys() == {
        "loss",
        "validation_loss",
    }


def test_many_points_are_drawn_as_a_thousand_with_their_extremes(browser: Client, lab: Lab) -> None:
    run = lab.run(status="running")
    Metric.objects.bulk_create(
        (
            Metric(run=run, series="loss", step=step, value=100.0 if step == 33_333 else step % 7)
            for step in range(50_000)
        ),
        batch_size=10_000,
    )
    loss = browser.get(f"/runs/{run.pk}/points/").json()["series"]["loss"]
    assert 900 <= len(loss["step"]) <= 1000 and loss["step"] == sorted(loss["step"])
    assert loss["step"][-1] == 49_999
    assert max(loss["max"]) == 100 and min(loss["min"]) == 0
    assert all(
        low <= mean <= high for low, mean, high in zip(loss["min"], loss["mean"], loss["max"], strict=True)
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


# -- list and overview ------------------------------------------------------------------------------
def names_in(html: str) -> list[str]:
    return re.findall(r'<a class="list-main" href="/runs/\d+/">([^<]+)</a>', html)


def test_the_list_is_searched_filtered_and_sorted_by_its_address(browser: Client, lab: Lab) -> None:
    for number, (name, status) in enumerate(
        [("alpha", "succeeded"), ("beta", "failed"), ("gamma", "running")]
    ):
        lab.run(name=name, status=status, created_at=timezone.now() - timedelta(hours=3 - number))
    assert names_in(browser.get("/runs/").content.decode()) == ["gamma", "beta", "alpha"]
    for query, expected in {
        "?q=alp": ["alpha"],
        "?status=failed": ["beta"],
        "?status=active": ["gamma"],
        "?sort=name": ["alpha", "beta", "gamma"],
        "?task=text-classification&method=head": ["gamma", "beta", "alpha"],
        "?status=unknown&task=%27": ["gamma", "beta", "alpha"],
    }.items():
        assert names_in(browser.get(f"/runs/{query}").content.decode()) == expected, query
    nothing = browser.get("/runs/?q=zzz").content.decode()
    assert "No run matches" in nothing and "Show all runs" in nothing


def test_a_long_list_has_pages_that_keep_the_filter(browser: Client, lab: Lab) -> None:
    for number in range(30):
        lab.run(name=f"run {number:02}")
    first = browser.get("/runs/?q=run&sort=name").content.decode()
    assert len(names_in(first)) == 25
    following = re.search(r'href="(\?[^"]*page=2[^"]*)"', first)
    assert following and "q=run" in following[1] and "sort=name" in following[1]
    assert (
        names_in(browser.get(f"/runs/{following[1]}".replace("&amp;", "&")).content.decode())[0] == "run 25"
    )


def test_an_unchanged_list_is_nothing_to_send(browser: Client, lab: Lab) -> None:
    run = lab.run(status="running")
    for path in ("/runs/", "/"):
        tag = browser.get(path)["HX-PTag"]
        again = browser.get(path, headers={"HX-Request": "true", "HX-PTag": tag})
        assert again.status_code == 304, path
    Run.objects.filter(pk=run.pk).update(row_version=9)
    assert browser.get("/", headers={"HX-Request": "true", "HX-PTag": tag}).status_code == 200


def test_an_empty_workspace_leads_on(browser: Client, lab: Lab) -> None:
    said = text_of(browser.get("/").content.decode())
    assert "Pick a model" in said and "Launch a run" in said and "No worker is online" in said
    assert "No runs yet" in browser.get("/runs/").content.decode()


def test_the_overview_tells_what_trains_now_and_what_came_out(browser: Client, lab: Lab) -> None:
    Worker.objects.create(
        name="h:/w", host="h", pid=1, queues=["cpu"], slots=2, devices=[{"name": "H200"}, {"name": "H200"}]
    )
    lab.run(name="now", status="running", phase="training", step=1, total_steps=2)
    lab.run(name="done", status="succeeded", metrics={"accuracy": 0.875}, finished_at=timezone.now())
    said = text_of(browser.get("/").content.decode())
    assert "now Running" in said and "done 87.5 %" in said
    assert "1 worker online · 0 of 2 slots busy · 2 × H200" in said
