"""A worker tells the database that it is there and what its host does; drains and versions decide what it takes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from runs import lifecycle
from runs.execution import admission, hosts, samples, telemetry
from runs.execution.presence import Presence
from runs.execution.worker import WorkerProcess
from runs.fleet import all_hosts
from runs.models import Attempt, Deployment, Run, Worker, WorkerSample
from tests.runs.execution.fake_nvml import Gpu, install
from tests.runs.execution.supervised import Supervised, stored_weights, until, weights_of


@pytest.fixture
def gpu_worker(transactional_db: None, worker: Worker, monkeypatch: pytest.MonkeyPatch) -> Worker:
    install(monkeypatch, Gpu("GPU-a"), Gpu("GPU-b", lost=False))
    worker.devices = hosts.gpus()
    worker.save()
    return worker


def refused_never() -> Worker:
    raise AssertionError("it is on the list")


def test_a_beat_brings_the_newest_values_and_a_sample(gpu_worker: Worker) -> None:
    long_ago = timezone.now() - timedelta(hours=1)
    Worker.objects.update(last_seen_at=long_ago)
    presence = Presence(gpu_worker, refused_never)
    presence.beat()
    row = Worker.objects.get()
    assert row.is_online and row.telemetry["devices"][0]["power"] == 412.5
    sample = WorkerSample.objects.get()
    assert sample.values["gpu1.temperature"] == 61 and 0 <= sample.values["cpu"] <= 1
    assert (timezone.now() - sample.at).total_seconds() < 60
    presence.beat()  # nothing new was measured in between
    assert WorkerSample.objects.count() == 1


def test_a_worker_whose_devices_cannot_be_looked_at_is_still_there(
    gpu_worker: Worker, monkeypatch: pytest.MonkeyPatch, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.SAMPLE_SECONDS = 1
    presence = Presence(gpu_worker, refused_never)

    def broken(*_: object) -> None:
        raise RuntimeError("the driver has crashed")

    monkeypatch.setattr(telemetry, "sample", broken)
    presence.start()
    until(lambda: "could not be looked at" in caplog.text)
    Worker.objects.update(last_seen_at=timezone.now() - timedelta(hours=1))
    until(lambda: Worker.objects.get().is_online)
    presence.end()
    assert not Worker.objects.get().is_online  # it has said that it leaves


def test_a_worker_that_was_taken_off_the_list_puts_itself_back(
    gpu_worker: Worker, submit: Callable[..., Run]
) -> None:
    values = {"host": "host", "pid": 1, "queues": ["cpu"]}
    presence = Presence(gpu_worker, lambda: Worker.objects.create(name="host:/home", **values))
    Worker.objects.all().delete()
    submit()
    assert lifecycle.claim(gpu_worker, ["cpu"]) is None
    presence.beat()
    assert lifecycle.claim(gpu_worker, ["cpu"]) is not None


def test_a_worker_that_is_told_to_leave_is_there_and_given_nothing_until_it_is_started_again(
    gpu_worker: Worker, submit: Callable[..., Run], settings: Any, tmp_path: Path
) -> None:
    submit()
    values = {"host": "host", "pid": 1, "queues": ["cpu"]}
    presence = Presence(gpu_worker, lambda: Worker.objects.create(name="host:/home", **values))
    presence.leave()
    assert lifecycle.claim(gpu_worker, ["cpu"]) is None
    (host,) = all_hosts(Run.objects.all())
    assert (host.state, host.free) == ("leaving", 0)
    Worker.objects.all().delete()
    presence.beat()  # back on the list, and leaving all the same
    assert lifecycle.claim(gpu_worker, ["cpu"]) is None
    presence.end()
    assert all_hosts(Run.objects.all())[0].state == "offline"

    settings.HOME = tmp_path
    process = WorkerProcess()
    Worker.objects.update(name=process._name)
    started = process._register()
    process._lock.close()
    assert Worker.objects.get() == started and all_hosts(Run.objects.all())[0].state == "online"
    assert lifecycle.claim(started, ["cpu"]) is not None


def test_samples_are_kept_for_a_time(gpu_worker: Worker, settings: Any) -> None:
    settings.SAMPLES_KEEP_HOURS = 2
    now = timezone.now()
    for hours in (1, 3, 50):
        gpu_worker.samples.create(at=now - timedelta(hours=hours), values={"cpu": 1})
    assert samples.prune() == 2
    Presence(gpu_worker, refused_never).beat()
    assert WorkerSample.objects.count() == 2


def test_a_draining_worker_finishes_what_it_has_and_takes_no_more(
    worker: Worker,
    submit: Callable[..., Run],
    claim: Callable[[], Attempt],
    supervise: Callable[[Attempt], Supervised],
    caplog: pytest.LogCaptureFixture,
) -> None:
    submit(steps=30, delay=0.01)
    second = submit(steps=2)
    running = supervise(claim())
    admission.drain(worker)
    assert lifecycle.claim(worker, ["cpu"]) is None
    (host,) = all_hosts(Run.objects.all())
    assert (host.state, host.free) == ("draining", 0)
    presence = Presence(worker, refused_never)
    presence.beat()
    assert "it finishes the runs that it has and takes no more" in caplog.text
    run = running.wait()
    assert (run.status, stored_weights(run)) == ("succeeded", weights_of(7, 30))
    assert all_hosts(Run.objects.all())[0].state == "drained"
    assert Run.objects.get(pk=second.pk).status == "queued"
    # Another worker takes it meanwhile; this one does when it is told to.
    admission.take_up(worker)
    assert lifecycle.claim(worker, ["cpu"]) is not None
    presence.beat()
    assert "takes runs again" in caplog.text


def test_the_drain_command_names_waits_and_undoes(
    worker: Worker,
    submit: Callable[..., Run],
    claim: Callable[[], Attempt],
    supervise: Callable[[Attempt], Supervised],
) -> None:
    def said(*arguments: str) -> str:
        output = StringIO()
        call_command("drain", *arguments, stdout=output)
        return output.getvalue()

    submit(steps=40, delay=0.03)
    running = supervise(claim())
    output = said("host", "--wait")
    assert "host:/home finishes 1 run and takes no more." in output and "can be stopped" in output
    assert running.wait().status == "succeeded"
    assert Worker.objects.get().draining
    assert "it can be stopped" in said("host:/home")
    assert "takes runs again" in said(str(worker.pk), "--undo")
    assert not Worker.objects.get().draining
    with pytest.raises(CommandError, match=r"no worker 'nobody'\. Known are: host:/home"):
        said("nobody")
    Worker.objects.create(name="host:/other", host="host", pid=2)
    with pytest.raises(CommandError, match="several workers on host: host:/home, host:/other"):
        said("host")


def test_a_worker_of_another_version_takes_runs_unless_they_are_refused(
    worker: Worker, submit: Callable[..., Run], settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    submit()
    submit()
    worker.versions = {"tuneboard": "0.0.1"}
    worker.save()
    assert lifecycle.claim(worker, ["cpu"]) is not None  # no web server has said anything
    settings.REFUSE_OTHER_VERSIONS = True
    admission.announce()
    assert lifecycle.claim(worker, ["cpu"]) is None
    presence = Presence(worker, refused_never)
    presence.beat()
    assert f"version 0.0.1, the web server of {hosts.own_version()}" in caplog.text
    worker.versions = {"tuneboard": hosts.own_version()}
    worker.save()
    presence.beat()
    assert "no longer refused" in caplog.text
    assert lifecycle.claim(worker, ["cpu"]) is not None


def test_the_newest_web_server_decides(transactional_db: None, settings: Any) -> None:
    settings.REFUSE_OTHER_VERSIONS = True
    admission.announce()
    settings.REFUSE_OTHER_VERSIONS = False
    admission.announce_until_heard()
    found = admission.deployed()
    assert found is not None and not found.refuse_other_versions and Deployment.objects.count() == 1


def test_who_sets_a_worker_to_drain_knows_that_it_takes_nothing_any_more(
    worker: Worker, submit: Callable[..., Run]
) -> None:
    """A claim that is being made holds the drain up, so that what it takes is counted."""
    import threading

    from django.db import connection, transaction

    submit()
    done = threading.Event()

    def drain() -> None:
        admission.drain(worker)
        done.set()
        connection.close()

    with transaction.atomic():
        assert lifecycle.claim(worker, ["cpu"]) is not None
        thread = threading.Thread(target=drain)
        thread.start()
        assert not done.wait(0.5)
    thread.join(20)
    assert done.is_set() and admission.under_way(worker) == 1
