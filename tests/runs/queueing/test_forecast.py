"""What the page of a queued run says of its place and start, out of real rows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from runs.models import Attempt, Node, Run, Worker
from runs.queueing import forecast as numbers
from runs.queueing.forecast import Lengths, forecast
from runs.queueing.waiting import waiting
from tests.runs.conftest import Lab


@pytest.fixture
def busy(lab: Lab, worker: Worker) -> Run:
    """One that runs on the only slot and says that it takes ten minutes yet."""
    run = lab.run(status="running", attempt=1, eta_seconds=600, started_at=timezone.now())
    Attempt.objects.create(run=run, number=1, worker=worker, lease_until=timezone.now())
    return run


def done(lab: Lab, minutes: float, **values: Any) -> Run:
    now = timezone.now()
    started = now - timedelta(minutes=minutes)
    return lab.run(status="succeeded", attempt=1, started_at=started, finished_at=now, **values)


def minutes_until(run: Run) -> float | None:
    starts_at = forecast(run).starts_at
    return None if starts_at is None else (starts_at - timezone.now()).total_seconds() / 60


def test_the_next_one_starts_when_the_running_one_says_it_ends(lab: Lab, busy: Run) -> None:
    assert minutes_until(lab.run()) == pytest.approx(10, abs=0.5)


def test_runs_before_it_count_as_long_as_such_runs_took(lab: Lab, busy: Run) -> None:
    for minutes in (19, 20, 60):
        done(lab, minutes)
    lab.run(queued_at=timezone.now() - timedelta(minutes=1))
    mine = lab.run()
    assert forecast(mine).ahead == 1
    assert minutes_until(mine) == pytest.approx(30, abs=1), "the median, after the ten"


def test_without_such_runs_it_says_no_time(lab: Lab, busy: Run) -> None:
    done(lab, 20, method="full")
    lab.run(queued_at=timezone.now() - timedelta(minutes=1))
    mine = forecast(lab.run())
    assert (mine.ahead, mine.starts_at) == (1, None)


def test_twice_the_epochs_take_twice_as_long(lab: Lab) -> None:
    settings = {"num_train_epochs": 1.0, "per_device_train_batch_size": 16}
    done(lab, 5, method="full", settings=settings, total_steps=3)
    longer = lab.run(method="full", settings={**settings, "num_train_epochs": 2.0})
    assert Lengths([longer]).of(longer) == pytest.approx(600, rel=0.01)


def test_what_a_checkpoint_saves_is_taken_off(lab: Lab) -> None:
    done(lab, 20)
    run = lab.run(step=75, total_steps=100)
    assert Lengths([run]).of(run) == pytest.approx(300, rel=0.01)


def test_nothing_takes_longer_than_its_time_limit(lab: Lab) -> None:
    done(lab, 20)
    run = lab.run(time_limit_seconds=120)
    assert Lengths([run]).of(run) == 120


def test_a_long_queue_is_counted_and_says_no_time(
    lab: Lab, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbers, "MOST_PLAYED", 5)
    other = lab.stranger.workspaces.get()
    for number in range(6):
        lab.run(queued_at=timezone.now() - timedelta(minutes=60 - number))
        lab.run(workspace=other, queued_at=timezone.now() - timedelta(minutes=60 - number))
    third = Run.objects.filter(workspace=lab.workspace).order_by("queued_at")[2]
    found = forecast(third)
    assert (found.ahead, found.starts_at) == (2 + 3, None), "two of its own, and the other's turns"


def test_workers_that_could_not_hold_it_do_not_count(lab: Lab, busy: Run) -> None:
    devices = [{"index": 0, "name": "G", "memory_bytes": 8 * 10**9}]
    Worker.objects.create(name="g", host="g", pid=1, slots=4, queues=["gpu1"], devices=devices)
    small = lab.run(queue="gpu1", memory_bytes=10**9)
    huge = lab.run(queue="gpu1", memory_bytes=10**11)
    assert minutes_until(small) == pytest.approx(0, abs=0.1)
    assert forecast(huge).starts_at is None


def gpu_host(number: int, gpus: int, **values: Any) -> Worker:
    devices = [{"index": n, "name": "G", "memory_bytes": 8 * 10**9} for n in range(gpus)]
    queues = ["cpu", *(f"gpu{n}" for n in (1, 2, 4, 8) if n <= gpus)]
    defaults = {"host": f"g{number}", "pid": 1, "slots": gpus, "queues": queues, "devices": devices}
    return Worker.objects.create(name=f"g{number}", **{**defaults, **values})


def held(lab: Lab, worker: Worker, minutes: float, queue: str, *others: Worker) -> Attempt:
    run = lab.run(
        status="running", attempt=1, eta_seconds=60 * minutes, queue=queue, nodes=1 + len(others),
        started_at=timezone.now(),
    )  # fmt: skip
    attempt = Attempt.objects.create(run=run, number=1, worker=worker, lease_until=timezone.now())
    for rank, other in enumerate(others, 1):
        Node.objects.create(attempt=attempt, rank=rank, worker=other, lease_until=timezone.now())
    return attempt


def test_a_run_on_four_gpus_waits_until_four_of_one_host_are_free(lab: Lab) -> None:
    first, second = gpu_host(1, 4), gpu_host(2, 4)
    held(lab, first, 10, "gpu1")
    held(lab, first, 20, "gpu1")
    held(lab, second, 50, "gpu2")
    assert minutes_until(lab.run(queue="gpu4")) == pytest.approx(20, abs=0.5)
    assert minutes_until(lab.run(queue="gpu2")) == pytest.approx(0, abs=0.1)


def test_the_hosts_beside_the_one_that_leads_are_taken_too(lab: Lab) -> None:
    hosts = [gpu_host(number, 2) for number in (1, 2, 3)]
    held(lab, hosts[0], 30, "gpu2", hosts[1])
    assert minutes_until(lab.run(queue="gpu2", nodes=2)) == pytest.approx(30, abs=0.5)
    assert minutes_until(lab.run(queue="gpu2")) == pytest.approx(0, abs=0.1)
    too_many = lab.run(queue="gpu2", nodes=4)
    assert forecast(too_many).starts_at is None
    told = waiting(too_many)
    assert told is not None and told.blocked and told.expected == ""
    assert told.reason.startswith("It trains on 4 hosts together, and 3 that can hold it are online:")


def test_hosts_that_differ_in_versions_are_named_as_the_reason(lab: Lab) -> None:
    for number, torch in enumerate(("2.13", "2.14")):
        gpu_host(number, 1, versions={"torch": torch})
    told = waiting(lab.run(queue="gpu1", nodes=2))
    assert told is not None
    assert "1 that can hold it is online, others of other versions" in told.reason


def test_the_page_of_a_run_on_several_gpus_says_when_it_may_start(lab: Lab, browser: Client) -> None:
    held(lab, gpu_host(1, 2), 90, "gpu1")
    run = lab.run(queue="gpu2")
    shown = browser.get(f"/runs/{run.pk}/").content.decode()
    assert "Starts in about 1 h 30 min" in shown
