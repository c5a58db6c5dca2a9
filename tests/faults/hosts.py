"""Workers with homes of their own, which share nothing but database, broker and storage, for runs on several of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.faults.cluster import ROOT, Cluster, alive, until
from tests.faults.link import Link

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
    """A cluster whose workers have homes of their own, each with a link to the database that can be cut."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.links: dict[str, Link] = {}

    # -- hosts -------------------------------------------------------------------------------------
    def start(self, name: str) -> subprocess.Popen[bytes]:
        """A worker on the host of this name; another in its place if it had one."""
        home = self.cluster.home / name
        home.mkdir(exist_ok=True)
        link = self.links.setdefault(name, Link(self.cluster.to_postgres))
        own = {
            "STORAGE_URL": str(self.cluster.home / "storage"),
            **self.cluster.environment,
            "TUNEBOARD_HOME": str(home),
            "DATABASE_URL": f"postgres://postgres@127.0.0.1:{link.port}/tuneboard",
        }
        with (self.cluster.home / "worker.log").open("ab") as output:
            self.workers[name] = subprocess.Popen(
                [sys.executable, "manage.py", "worker"],
                cwd=ROOT,
                env=own,
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

    def stop(self) -> None:
        for name in self.workers:
            self.thaw(name)
            self.links[name].become("open")
        self.cluster.stop()
        for link in self.links.values():
            link.close()

    def freeze(self, name: str) -> None:
        """The whole host: its worker, and what trains there."""
        os.kill(self.workers[name].pid, signal.SIGSTOP)
        for pid in self.trainers(name):
            os.killpg(pid, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        for group in (*self.trainers(name), self.workers[name].pid):
            if alive(group):
                os.killpg(group, signal.SIGCONT)

    # -- what is there -----------------------------------------------------------------------------
    def folders(self, name: str) -> list[Path]:
        """The work folders there."""
        folder = self.cluster.home / name / "work"
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def trainers(self, *names: str) -> list[int]:
        """The trainer of each of these hosts, or of all, that trains."""
        notes = [folder / "process.json" for name in names or self.workers for folder in self.folders(name)]
        return [json.loads(note.read_text())["pid"] for note in notes if note.exists()]

    def rank(self, name: str) -> int:
        """The process of the run on a host that trains with one."""
        (agent,) = self.trainers(name)
        (rank,) = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
        return int(rank)

    def leader(self, run: int) -> str:
        """The name of the host that leads."""
        query = (
            "SELECT w.name FROM runs_attempt a JOIN runs_worker w ON w.id = a.worker_id "
            "WHERE a.run_id = %s ORDER BY a.number DESC LIMIT 1"
        )
        return str(self.cluster.rows(query, run)[0][0]).rsplit("/", 1)[1]

    def follower(self, run: int) -> str:
        """The name of a host that trains and does not lead."""
        leader = self.leader(run)
        return next(name for name in self.workers if name != leader)

    def outcomes(self, run: int) -> list[str]:
        query = "SELECT outcome FROM runs_attempt WHERE run_id = %s ORDER BY number"
        return [row[0] for row in self.cluster.rows(query, run)]

    def story(self, run: int) -> list[str]:
        query = "SELECT message FROM runs_event WHERE run_id = %s ORDER BY id"
        return [row[0] for row in self.cluster.rows(query, run)]

    def learned(self, run: int) -> list[tuple[Any, ...]]:
        """Its points, but for how quick it was."""
        return [point for point in self.cluster.points(run) if "per_second" not in point[0]]

    # -- what a test does --------------------------------------------------------------------------
    def begin(self, **settings: Any) -> int:
        """A run on several hosts that has a checkpoint to resume from; most of it lies ahead."""
        run = self.cluster.submit("real", **settings)
        self.cluster.wait_for_checkpoint(run)
        for worker in self.workers.values():
            self.cluster.remember_children(worker.pid)
        for trainer in self.trainers():
            self.cluster.remember_children(trainer)
        return run

    def check(self, run: int, undisturbed: int) -> None:
        """It comes to what one comes to that nothing happened to, and nobody is held any more."""
        self.cluster.wait_for_success(run, 300)
        assert self.cluster.weights(run) == self.cluster.weights(undisturbed)
        assert self.learned(run) == self.learned(undisturbed)
        self.all_let_go()

    def all_let_go(self) -> None:
        """Nothing of a run is left on any host, and no row says that anybody is held."""
        until(
            lambda: not any(self.folders(name) for name, it in self.workers.items() if it.poll() is None), 60
        )
        until(
            lambda: self.cluster.rows("SELECT count(*) FROM runs_node WHERE finished_at IS NULL")[0][0] == 0,
            60,
        )


@contextmanager
def hosts_of(cluster: Cluster, *names: str) -> Iterator[Hosts]:
    """Hosts of these names, and a dispatcher, until the test is over; then no process may be left."""
    found = Hosts(cluster)
    try:
        for name in names:
            found.start(name)
        cluster.start("dispatcher")
        yield found
    finally:
        found.stop()
    assert not [pid for pid in cluster.seen if alive(pid)], "processes were left behind"
