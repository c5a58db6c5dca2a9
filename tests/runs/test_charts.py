"""Charts get at most about a thousand buckets a series, whatever a run has reported, and then only what is newer."""

from __future__ import annotations

import math
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from runs.charts import BUCKETS, charts_of, newest_table, parse_since, points
from runs.models import Metric, Run
from runs.training.tasks import all_tasks, get_task

from .conftest import Lab

FEW = {"step": [9, 10], **{name: [0.111111, 0.1] for name in ("min", "mean", "max")}}


def report(run: Run, series: str, values: dict[int, float]) -> None:
    Metric.objects.bulk_create(
        (Metric(run=run, series=series, step=step, value=value) for step, value in values.items()),
        batch_size=10_000,
    )


def drawn(browser: Client, run: Run, since: str = "") -> Any:
    return browser.get(f"/runs/{run.pk}/points/", {"since": since}).json()["series"]


def test_charts_get_points_and_then_only_newer_ones(browser: Client, lab: Lab) -> None:
    run = lab.run(status="running", attempt=2)
    report(run, "loss", {step: 1 / step for step in range(1, 11)})
    report(run, "validation_loss", {10: 0.5})
    everything = browser.get(f"/runs/{run.pk}/points/").json()
    assert everything["attempt"] == 2
    assert everything["series"]["loss"]["step"] == list(range(1, 11))
    assert drawn(browser, run, "loss:8,validation_loss:10") == {"loss": FEW}
    assert drawn(browser, run, "loss:8").keys() == {"loss", "validation_loss"}, "a series that it has not"
    assert drawn(browser, run, "loss:10,validation_loss:10") == {}


def test_a_hundred_thousand_points_are_drawn_as_a_thousand(browser: Client, lab: Lab) -> None:
    run = lab.run(status="running")
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO runs_metric (run_id, series, step, value, at) SELECT %s, series, step,"
            " CASE WHEN step = 33333 THEN 1000 WHEN step = 77777 THEN -1000 ELSE step %% 97 END, now()"
            " FROM generate_series(1, 100000) step, unnest(ARRAY['learning_rate', 'loss']) series",
            [run.pk],
        )
    found = drawn(browser, run)
    assert found.keys() == {"learning_rate", "loss"} and found["loss"] == found["learning_rate"]
    loss = found["loss"]
    assert 900 <= len(loss["step"]) <= BUCKETS
    assert loss["step"] == sorted(set(loss["step"])) and loss["step"][-1] == 100_000

    def value(step: int) -> float:
        return {33_333: 1000.0, 77_777: -1000.0}.get(step, step % 97)

    first = 1
    for last, low, mean, high in zip(*(loss[name] for name in ("step", "min", "mean", "max")), strict=True):
        values = [value(step) for step in range(first, last + 1)]
        assert (low, high) == (min(values), max(values)), last
        assert mean == pytest.approx(sum(values) / len(values), rel=1e-5), last
        first = last + 1
    assert (max(loss["max"]), min(loss["min"])) == (1000, -1000), "no spike is lost"


def test_the_steps_of_a_series_may_lie_far_apart(lab: Lab) -> None:
    run = lab.run()
    report(run, "validation_loss", {0: 3.0, 10**12: 1.0})
    report(run, "loss", {7: 2.0})
    assert points(run.pk) == {
        "loss": {"step": [7], "min": [2.0], "mean": [2.0], "max": [2.0]},
        "validation_loss": {"step": [0, 10**12], "min": [3.0, 1.0], "mean": [3.0, 1.0], "max": [3.0, 1.0]},
    }


def test_what_is_no_number_leaves_a_gap_and_the_answer_is_plain_json(browser: Client, lab: Lab) -> None:
    run = lab.run()
    report(run, "loss", {1: 1.0, 2: math.nan, 3: math.inf, 4: -math.inf, 5: 2.0})
    answer = browser.get(f"/runs/{run.pk}/points/")
    assert b"NaN" not in answer.content and b"Infinity" not in answer.content
    assert answer.json()["series"]["loss"]["step"] == [1, 5]
    assert "no-store" in answer["Cache-Control"]


def test_a_run_shows_its_own_points_alone(browser: Client, lab: Lab) -> None:
    run, other = lab.run(), lab.run()
    report(other, "loss", {1: 1.0})
    assert drawn(browser, run) == {}


def test_people_of_other_workspaces_get_none(lab: Lab) -> None:
    run = lab.run()
    report(run, "loss", {1: 1.0})
    client = Client()
    client.force_login(lab.stranger)
    assert client.get(f"/runs/{run.pk}/points/").status_code == 404
    client.force_login(lab.viewer)
    assert drawn(client, run).keys() == {"loss"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("loss:120,validation_loss:100", {"loss": 120, "validation_loss": 100}),
        ("a:b:7", {"a:b": 7}),
        ("nonsense,loss:x,:5,loss:-1,loss:1.5", {}),
        ("loss:9999999999999999", {}),
        ("lo\x00ss:5", {}),
    ],
)
def test_what_cannot_be_read_of_since_is_sent_again(
    browser: Client, lab: Lab, text: str, found: dict[str, int]
) -> None:
    assert parse_since(text) == found
    run = lab.run()
    report(run, "loss", {5: 1.0})
    assert ("loss" in drawn(browser, run, text)) == (found.get("loss", 0) < 5)


def test_each_task_has_its_main_metric_the_loss_and_the_learning_rate() -> None:
    for task in all_tasks():
        charts = charts_of(task)
        series = [line.series for chart in charts for line in chart.lines]
        assert len(series) == len(set(series)), task.slug
        assert {"loss", "validation_loss", "learning_rate"} <= set(series)
        assert {f"validation_{metric.name}" for metric in task.metrics} <= set(series)
        assert f"validation_{task.main_metric}" in {line.series for line in charts[0].lines}, "first"
        assert charts[-1].title == "Learning rate"
    assert [chart.title for chart in charts_of(None)] == ["Loss", "Learning rate"]


def test_readers_without_charts_get_the_newest_values(browser: Client, lab: Lab) -> None:
    run = lab.run(
        status="running", metrics={"loss": 0.25, "validation_accuracy": 0.5, "validation_loss": None}
    )
    rows = newest_table(run, charts_of(get_task(run.task)))
    assert rows == [
        ("Accuracy on validation rows", "Accuracy", 0.5),
        ("Loss", "Training", 0.25),
    ]
    page = browser.get(f"/runs/{run.pk}/").content.decode()
    told = page.split("<noscript>", 1)[1].split("</noscript>", 1)[0]
    assert "Loss: Training" in told and "0.25" in told
