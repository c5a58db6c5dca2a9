"""One run on two hosts: two workers with homes of their own that share nothing but database, broker and storage.

Whatever happens to one of them, both let go, and the run comes to the weights of one that nothing
happened to.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.cluster import ROOT, Cluster, alive, until

pytestmark = pytest.mark.slow
SETTINGS = {
    "num_train_epochs": 12,
    "per_device_train_batch_size": 4,
    "precision": "fp32",
    "early_stopping_patience": 0,
    "save_steps": 30,
    "eval_steps": 90,
    "seed": 11,
}
TOGETHER: dict[str, Any] = {**SETTINGS, "nodes": 2, "strategy": "ddp"}


class Hosts:
    """A cluster whose workers have homes of their own."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.workers: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """A worker on the host of this name; another in its place if it had one."""
        home = self.cluster.home / name
        home.mkdir(exist_ok=True)
        storage = self.cluster.home / "storage"
        with (self.cluster.home / "worker.log").open("ab") as output:
            self.workers[name] = subprocess.Popen(
                [sys.executable, "manage.py", "worker"],
                cwd=ROOT,
                env=self.cluster.environment | {"TUNEBOARD_HOME": str(home), "STORAGE_URL": str(storage)},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.cluster.processes.append(self.workers[name])
        query = (
            "SELECT count(*) FROM runs_worker WHERE name LIKE %s AND last_seen_at > now() - interval '4 s'"
        )
        until(lambda: self.cluster.rows(query, f"%{home}")[0][0] == 1, 60)
        return self.workers[name]

    def folders(self, name: str) -> list[Path]:
        """The work folders there."""
        folder = self.cluster.home / name / "work"
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def trainers(self) -> list[int]:
        """The trainer of each host that trains."""
        notes = [folder / "process.json" for name in self.workers for folder in self.folders(name)]
        return [json.loads(note.read_text())["pid"] for note in notes if note.exists()]

    def leader(self, run: int) -> str:
        """The name of the host that leads."""
        query = (
            "SELECT w.name FROM runs_attempt a JOIN runs_worker w ON w.id = a.worker_id "
            "WHERE a.run_id = %s ORDER BY a.number DESC LIMIT 1"
        )
        return str(self.cluster.rows(query, run)[0][0]).rsplit("/", 1)[1]

    def both_let_go(self) -> None:
        """Nothing of the run is left on any host, and no row says that anybody is held."""
        until(
            lambda: not any(self.folders(name) for name, it in self.workers.items() if it.poll() is None), 60
        )
        until(
            lambda: self.cluster.rows("SELECT count(*) FROM runs_node WHERE finished_at IS NULL")[0][0] == 0,
            60,
        )


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    cluster = Cluster(tmp_path_factory.mktemp("hosts"))
    found = Hosts(cluster)
    found.start("one")
    cluster.start("dispatcher")
    try:
        yield found
    finally:
        cluster.stop()
    assert not [pid for pid in cluster.seen if alive(pid)], "processes were left behind"


@pytest.fixture(scope="module")
def undisturbed(hosts: Hosts) -> int:
    """A run on two hosts that nothing happened to. With one host it waits, and the host is free for others."""
    run = hosts.cluster.submit("real", **TOGETHER)
    other = hosts.cluster.submit("real", **SETTINGS | {"num_train_epochs": 1})
    hosts.cluster.wait_for_success(other)
    assert hosts.cluster.status(run) == "queued"
    hosts.start("two")
    hosts.cluster.wait_for_success(run, 240)
    return run


def outcomes(hosts: Hosts, run: int) -> list[str]:
    query = "SELECT outcome FROM runs_attempt WHERE run_id = %s ORDER BY number"
    return [row[0] for row in hosts.cluster.rows(query, run)]


def begin(hosts: Hosts) -> int:
    """A run on both hosts that has a checkpoint to resume from; most of it lies ahead."""
    run = hosts.cluster.submit("real", **TOGETHER)
    hosts.cluster.wait_for_checkpoint(run)
    for worker in hosts.workers.values():
        hosts.cluster.remember_children(worker.pid)
    return run


def check(hosts: Hosts, run: int, undisturbed: int) -> None:
    hosts.cluster.wait_for_success(run, 300)
    assert hosts.cluster.weights(run) == hosts.cluster.weights(undisturbed)
    assert learned(hosts, run) == learned(hosts, undisturbed)
    hosts.both_let_go()


def learned(hosts: Hosts, run: int) -> list[tuple[Any, ...]]:
    return [point for point in hosts.cluster.points(run) if "per_second" not in point[0]]


def test_two_hosts_train_one_run_and_each_step_stands_once(hosts: Hosts, undisturbed: int) -> None:
    assert outcomes(hosts, undisturbed) == ["succeeded"]
    steps = [point[1] for point in hosts.cluster.points(undisturbed) if point[0] == "loss"]
    assert steps and len(steps) == len(set(steps))
    # 240 rows in batches of four on each of two hosts are 30 steps an epoch.
    assert hosts.cluster.rows("SELECT total_steps FROM runs_run WHERE id = %s", undisturbed)[0][0] == 360
    story = hosts.cluster.rows("SELECT message FROM runs_event WHERE run_id = %s", undisturbed)
    assert next(text for (text,) in story if text.startswith("Started on hosts ")).count(" and ") == 1
    hosts.both_let_go()
    node = hosts.cluster.rows(
        "SELECT n.outcome FROM runs_node n JOIN runs_attempt a ON a.id = n.attempt_id WHERE a.run_id = %s",
        undisturbed,
    )
    assert node == [("done",)]


def test_a_rank_that_is_killed_on_one_host_ends_the_attempt_on_both(hosts: Hosts, undisturbed: int) -> None:
    run = begin(hosts)
    trainers = hosts.trainers()
    assert len(trainers) == 2
    follower = next(name for name in hosts.workers if name != hosts.leader(run))
    (folder,) = hosts.folders(follower)
    agent = json.loads((folder / "process.json").read_text())["pid"]
    (rank,) = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    os.kill(int(rank), signal.SIGKILL)
    until(lambda: not any(alive(pid) for pid in trainers), 60)
    check(hosts, run, undisturbed)
    assert outcomes(hosts, run) == ["lost", "succeeded"]
    story = [row[0] for row in hosts.cluster.rows("SELECT message FROM runs_event WHERE run_id = %s", run)]
    assert any("was ended by SIGKILL" in text for text in story), story


@pytest.mark.parametrize("role", ["follower", "leader"])
def test_a_worker_that_is_killed_lets_the_other_go_and_the_run_goes_on_later(
    hosts: Hosts, undisturbed: int, role: str
) -> None:
    run = begin(hosts)
    trainers = hosts.trainers()
    leader = hosts.leader(run)
    victim = leader if role == "leader" else next(name for name in hosts.workers if name != leader)
    hosts.workers[victim].kill()
    hosts.workers[victim].wait()
    # The other is free again, though there is nobody to train with.
    until(lambda: not any(alive(pid) for pid in trainers), 60)
    until(lambda: hosts.cluster.status(run) == "queued", 60)
    small = hosts.cluster.submit("real", **SETTINGS | {"num_train_epochs": 1})
    hosts.cluster.wait_for_success(small)
    hosts.start(victim)
    check(hosts, run, undisturbed)
    # A worker counts as online for a lease after its last word: it may be given its part once more, in vain.
    *lost, last = outcomes(hosts, run)
    assert last == "succeeded" and set(lost) == {"lost"} and len(lost) <= 2


def test_a_worker_that_is_told_to_leave_has_the_run_saved_and_given_back(
    hosts: Hosts, undisturbed: int
) -> None:
    run = begin(hosts)
    follower = next(name for name in hosts.workers if name != hosts.leader(run))
    hosts.workers[follower].terminate()
    assert hosts.workers[follower].wait(60) == 0
    until(lambda: hosts.cluster.status(run) == "queued", 60)
    hosts.start(follower)
    check(hosts, run, undisturbed)
    assert outcomes(hosts, run) == ["released", "succeeded"]
