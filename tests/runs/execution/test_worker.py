"""What a worker finds out about its host, and what it clears away there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from runs import lifecycle
from runs.execution import hosts, leftovers
from runs.execution.pool import Pool
from runs.execution.trainer import Trainer, oom_kills, reduced_environment
from runs.execution.worker import WorkerProcess
from runs.models import Attempt, Run, Worker
from tests.runs.execution.supervised import SCRIPTED, alive, until


@pytest.fixture
def home(settings: Any, tmp_path: Path) -> Path:
    settings.HOME = tmp_path
    settings.WORK_DIR = tmp_path / "work"
    return tmp_path


def test_workers_that_share_a_home_have_names_of_their_own_which_outlive_a_restart(home: Path) -> None:
    first, lock = hosts.claim_name()
    second, other_lock = hosts.claim_name()
    assert first.endswith(str(home)) and second == f"{first}#2"
    lock.close()  # as the kernel does when a worker dies
    again, lock = hosts.claim_name()
    assert again == first
    lock.close()
    other_lock.close()


@pytest.mark.parametrize(
    ("count", "slots", "at_once", "queues"),
    [
        (0, 0, 1, ["cpu"]),
        (0, 3, 3, ["cpu"]),
        (2, 0, 2, ["cpu", "gpu1", "gpu2"]),
        (4, 2, 2, ["cpu", "gpu1", "gpu2", "gpu4"]),
        (8, 1, 1, ["cpu", "gpu1", "gpu2", "gpu4", "gpu8"]),
        (1, 2, 2, ["cpu", "gpu1"]),
    ],
)
def test_a_worker_takes_what_its_gpus_can_hold(
    count: int, slots: int, at_once: int, queues: list[str]
) -> None:
    devices = [{"index": n, "name": "H200", "memory_bytes": 1} for n in range(count)]
    pool = hosts.pool_of(devices, slots)
    assert (pool.slots, hosts.queues_for(pool)) == (at_once, queues)


def test_a_run_gets_any_gpus_that_are_free_and_gives_them_back() -> None:
    pool = Pool(range(8), 8)
    one, four = pool.take(1), pool.take(4)
    assert pool.free == 3 and not set(one) & set(four)
    with pytest.raises(ValueError, match="4 GPUs are asked for, 3 are free"):
        pool.take(4)
    assert pool.free == 3  # nothing is half taken
    pool.give_back(one)
    assert len(pool.take(4)) == 4 and pool.free == 0


def test_more_slots_than_gpus_means_that_runs_share_them() -> None:
    pool = Pool([0, 1], 4)
    assert [pool.take(1) for _ in range(4)] == [[0], [1], [0], [1]]
    assert pool.free == 0


def test_a_trainers_environment_holds_what_training_needs_and_no_more() -> None:
    given = {
        **{"PATH": "/bin", "HF_TOKEN": "t", "CUDA_HOME": "/cuda", "OMP_NUM_THREADS": "2", "LC_ALL": "C"},
        **{"DATABASE_URL": "d", "REDIS_URL": "r", "SECRET_KEY": "s", "AWS_SECRET_ACCESS_KEY": "a"},
        **{"TUNEBOARD_HOME": "/home", "DJANGO_SETTINGS_MODULE": "m"},
    }
    found = reduced_environment(given)
    assert found == {
        **{"PATH": "/bin", "HF_TOKEN": "t", "CUDA_HOME": "/cuda", "OMP_NUM_THREADS": "2", "LC_ALL": "C"},
        **{"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "PYTHONUNBUFFERED": "1"},
    }


def test_where_training_is_not_installed_a_worker_says_so_and_inspects_datasets_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hosts, "can_train", lambda: False)
    process = WorkerProcess()
    assert (process._values["slots"], process._values["queues"]) == (0, [])
    assert "only inspects datasets" in caplog.text
    process._lock.close()


def test_a_trainer_dies_with_the_process_that_started_it(settings: Any, tmp_path: Path) -> None:
    """Killed as it is, that process can tell nobody: the end of its pipe does."""
    spec = {"attempt": 1, "resume_from": None, "settings": {"seed": 1, "steps": 10_000, "delay": 0.01}}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    code = (
        "import django, os, sys, time; django.setup()\n"
        "from django.conf import settings; from pathlib import Path\n"
        "from runs.execution.trainer import Trainer\n"
        f"settings.TRAINER_COMMAND = {SCRIPTED!r}\n"
        f"one, other = Trainer(), Trainer(); one.train(Path({str(tmp_path)!r}))\n"
        "print(one.pid, other.pid, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        cwd=settings.ROOT,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "webapp.settings"},
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    until(lambda: (tmp_path / "events.jsonl").exists())
    assert all(alive(pid) for pid in pids)
    parent.kill()
    parent.wait()
    until(lambda: not any(alive(pid) for pid in pids))


def test_the_kernels_count_of_kills_can_be_read() -> None:
    assert oom_kills() >= 0


def test_a_worker_ends_what_its_predecessor_left_and_touches_no_other(
    submit: Callable[..., Run],
    claim: Callable[[], Attempt],
    worker: Worker,
    home: Path,
    settings: Any,
) -> None:
    other = Worker.objects.create(name="other", host="host", pid=2)
    dead, live = submit(), submit()
    attempt, theirs = claim(), claim()
    Attempt.objects.filter(pk=theirs.pk).update(worker=other)
    trainer = Trainer()  # one that has not noticed yet that its worker is gone
    for each in (attempt, theirs):
        folder = settings.WORK_DIR / f"{each.run_id}-{each.number}"
        folder.mkdir(parents=True)
        leftovers.note_process(folder, trainer.pid if each is attempt else os.getpid())
    leftovers.clear(worker)
    assert [path.name for path in settings.WORK_DIR.iterdir()] == [f"{live.pk}-1"]
    assert Run.objects.get(pk=dead.pk).status == "queued"
    assert Run.objects.get(pk=live.pk).status == "running"
    assert trainer.process.wait(10) == -9
    # The other worker is killed, too, and none takes its name over: whoever is left tidies up.
    Attempt.objects.filter(pk=theirs.pk).update(lease_until=timezone.now())
    lifecycle.lose_expired(theirs.pk)
    (settings.WORK_DIR / f"{live.pk}-1" / leftovers.NOTE).unlink()  # it names this very process
    leftovers.sweep()
    assert list(settings.WORK_DIR.iterdir()) == []


def test_a_process_that_only_has_the_same_number_is_left_alone(
    home: Path, settings: Any, worker: Worker
) -> None:
    bystander = subprocess.Popen(["sleep", "60"], start_new_session=True)
    folder = settings.WORK_DIR / "77-1"
    folder.mkdir(parents=True)
    (folder / leftovers.NOTE).write_text(json.dumps({"pid": bystander.pid, "started": 1}))
    leftovers.clear(worker)
    assert not folder.exists()
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
