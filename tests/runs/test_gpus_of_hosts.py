# ruff: noqa: F811 – fixtures of another file are asked for by their names
"""Pages and API say which GPUs of a host a run has, and hosts that have a part of a run say so."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from runs.execution import admission, gang
from runs.fleet import fleet, ranges
from runs.models import Attempt, Node, Worker
from tests.runs.conftest import Lab, Script, poll
from tests.runs.test_page_hosts import gpu_host, hold, offline, page  # noqa: F401 – two are fixtures
from webapp.accounts.models import Workspace


def test_each_gpu_says_which_run_has_it(
    lab: Lab, browser: Client, script: Script, gpu_host: Worker, hold: Callable[..., Attempt]
) -> None:
    elsewhere = Workspace.objects.get(slug="elsewhere")
    before = browser.get(f"/hosts/{gpu_host.pk}/")["HX-PTag"]
    mine, theirs = hold(lab.run(name="Mine")), hold(lab.run(name="Theirs", workspace=elsewhere))
    shown = page(browser, f"/hosts/{gpu_host.pk}/")
    assert shown.count("free") == 2, "a run that has just begun has not said yet which it has"
    between = browser.get(f"/hosts/{gpu_host.pk}/")["HX-PTag"]
    gang.note_devices(mine, [1])
    gang.note_devices(theirs, [0])
    answer = poll(browser, f"/hosts/{gpu_host.pk}/", between)
    assert before != between and answer.status_code == 200, "which GPUs they are is news"
    shown = page(browser, f"/hosts/{gpu_host.pk}/")
    assert re.search(r"GPU 0 .* A run of another workspace GPU 1 .* Mine Host", shown)
    assert "GPU 1 · attempt 1" in shown and "free" not in shown
    listed = page(browser, "/hosts/")
    assert "Mine GPU 1" in listed and "a run of another workspace GPU 0" in listed
    row = script.get(f"hosts/{gpu_host.pk}").json()
    assert [(held["run"], held["devices"]) for held in row["runs"]] == [(mine.run_id, [1]), (None, [0])]


def test_a_host_that_has_a_part_of_a_run_shows_it(
    lab: Lab, browser: Client, script: Script, gpu_host: Worker, worker: Worker
) -> None:
    run = lab.run(name="Wide", status="running", attempt=1, nodes=2)
    soon = timezone.now() + timedelta(seconds=50)
    attempt = Attempt.objects.create(run=run, number=1, worker=worker, lease_until=soon)
    node = Node.objects.create(attempt=attempt, rank=1, worker=gpu_host, lease_until=soon)
    gang.note_devices(node, [0, 1])
    shown = page(browser, f"/hosts/{gpu_host.pk}/")
    assert "1 of 2 slots busy" in shown and "GPUs 0–1 · host 2 of the run · attempt 1" in shown
    (held,) = script.get(f"hosts/{gpu_host.pk}").json()["runs"]
    assert (held["run"], held["devices"], held["host_rank"]) == (run.pk, [0, 1], 1)
    assert fleet().busy == 2
    offline(gpu_host)
    with pytest.raises(admission.NotOffline, match="still holds runs"):
        admission.remove(gpu_host)


def test_what_has_ended_takes_no_gpu_any_more(
    lab: Lab, browser: Client, gpu_host: Worker, hold: Callable[..., Attempt]
) -> None:
    attempt = hold(lab.run(name="Mine"))
    gang.note_devices(attempt, [0])
    Attempt.objects.filter(pk=attempt.pk).update(finished_at=timezone.now())
    gang.note_devices(attempt, [1])
    attempt.refresh_from_db()
    assert attempt.devices == [0], "whose attempt is over says nothing more"
    assert "Mine" not in page(browser, f"/hosts/{gpu_host.pk}/")


@pytest.mark.parametrize(
    ("numbers", "says"), [([], ""), ([3], "3"), ([0, 1, 2, 3], "0–3"), ([6, 0, 1, 4], "0–1, 4, 6")]
)
def test_gpus_are_named_in_short(numbers: list[int], says: str) -> None:
    assert ranges(numbers) == says
