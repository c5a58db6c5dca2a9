"""A Tuneboard of several hosts on one machine: each worker has a home of its own, and reaches database and broker
through links that a test may cut. Two dispatchers, and a web server where a test asks for one."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from tests.faults.cluster import ROOT, Cluster, alive, until
from tests.faults.link import Link
from webapp.embedded import Valkey

SCRIPTED = Path(__file__).parents[1] / "runs" / "execution" / "scripted_trainer.py"
LEASE_SECONDS = 4.0
# What marks our processes, trainers included: they get of the worker's environment what starts with HF_.
MARK = "HF_TUNEBOARD_FAULTS"
QUICK = {
    "TUNEBOARD_LEASE_SECONDS": str(LEASE_SECONDS),
    "TUNEBOARD_HEARTBEAT_SECONDS": "0.5",
    "TUNEBOARD_MAX_ATTEMPTS": "200",  # a storm takes more than three from a run
}


@dataclass
class Host:
    """A worker and what is between it and the rest."""

    name: str
    home: Path
    database: Link
    broker: Link
    environment: dict[str, str]
    clock: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid


@dataclass
class Fleet(Cluster):
    """Made with `hosts` workers that have two slots together or more; `begin` starts everything."""

    home: Path
    hosts_wanted: int = 2
    slots: int = 1
    storage_url: str = ""
    extra: dict[str, str] = field(default_factory=dict)
    real: bool = False
    fills_up: bool = True  # whether a fault may submit runs to have something to hit

    def __post_init__(self) -> None:
        super().__init__(self.home, "" if self.real else shlex.join([sys.executable, str(SCRIPTED)]))
        self.mark = uuid.uuid4().hex
        self.clocks = self._clocks()
        storage = self.storage_url or str(self.home / "storage")
        self.environment |= {**QUICK, MARK: self.mark, "STORAGE_URL": storage, **self.extra}
        self.hosts = [self._host(f"host-{number}") for number in range(1, self.hosts_wanted + 1)]
        self.dispatchers: list[subprocess.Popen[bytes]] = []
        self.web: subprocess.Popen[bytes] | None = None
        self._clerk: subprocess.Popen[str] | None = None

    def begin(self) -> None:
        for host in self.hosts:
            self.start_worker(host)
        for _ in range(2):
            self.start_dispatcher()
        until(lambda: len(self.rows("SELECT 1 FROM runs_worker")) == len(self.hosts), 120)

    # -- hosts -------------------------------------------------------------------------------------
    def _host(self, name: str) -> Host:
        home = self.home / name
        home.mkdir()
        database, broker = Link(self.to_postgres), Link(self._to_valkey)
        clock = home / "clock"
        clock.write_bytes(struct.pack("l", 0))
        own = {
            "TUNEBOARD_HOME": str(home),
            "TUNEBOARD_SLOTS": str(self.slots),
            "DATABASE_URL": f"postgres://postgres@127.0.0.1:{database.port}/tuneboard",
            "REDIS_URL": self._broker_url(broker.port),
        }
        return Host(name, home, database, broker, self.environment | own | self._shifted(clock), clock)

    def _to_valkey(self) -> socket.socket:
        url = urlsplit(self.valkey.url)
        return socket.create_connection((url.hostname or "", url.port or 6379), 5)

    def _broker_url(self, port: int) -> str:
        return f"redis://:{urlsplit(self.valkey.url).password}@127.0.0.1:{port}/0"

    def _clocks(self) -> Path | None:
        """The library that shifts a process' clock, where there is a compiler to make it."""
        compiler = shutil.which("cc")
        if compiler is None:
            return None
        library = self.home / "clock.so"
        source = Path(__file__).with_name("clock.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        return library

    def _shifted(self, clock: Path) -> dict[str, str]:
        if self.clocks is None:
            return {}
        return {"LD_PRELOAD": str(self.clocks), "TUNEBOARD_CLOCK_SHIFT": str(clock)}

    @staticmethod
    def step_clock(clock: Path, seconds: int) -> None:
        """From now on the clock of whoever goes by it is this far off."""
        with clock.open("r+b") as page:  # in place: it is mapped
            page.write(struct.pack("l", seconds))

    # -- processes ---------------------------------------------------------------------------------
    def _start(self, name: str, environment: dict[str, str], *command: str) -> subprocess.Popen[bytes]:
        with (self.home / f"{name}.log").open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "manage.py", *command],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def start_worker(self, host: Host) -> None:
        host.process = self._start(host.name, host.environment, "worker")

    def start_dispatcher(self) -> None:
        clock = self.home / "dispatcher-clock"
        if not clock.exists():
            clock.write_bytes(struct.pack("l", 0))
        environment = self.environment | self._shifted(clock)
        self.dispatchers.append(self._start("dispatcher", environment, "dispatcher"))

    def start_web(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = self.environment.setdefault("TUNEBOARD_PORT", str(probe.getsockname()[1]))
        self.web = self._start("web", self.environment, "serve")

        def answers() -> bool:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", int(port)), 1).close()
                return True
            return False

        until(answers, 60)

    def kill(self, process: subprocess.Popen[bytes] | None) -> None:
        assert process is not None
        process.kill()
        process.wait()
        self.processes.remove(process)

    def kill_valkey_for_good(self) -> None:
        """With its data: what waited in it is gone."""
        self.kill_valkey()
        for path in self.valkey.folder.glob("appendonly*"):
            shutil.rmtree(path)

    def trainers(self) -> list[tuple[Path, int]]:
        """(work folder, process) of each trainer that has a run."""
        found = []
        for host in self.hosts:
            for note in (host.home / "work").glob("*/process.json"):
                with contextlib.suppress(OSError, ValueError):
                    found.append((note.parent, int(json.loads(note.read_text())["pid"])))
        return found

    def stop(self) -> None:
        for host in self.hosts:
            self.step_clock(host.clock, 0)
            host.database.become("open")
            host.broker.become("open")
        if self._clerk is not None:
            self._clerk.kill()
            self._clerk.wait()
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
        super().stop()

    # -- runs --------------------------------------------------------------------------------------
    def ask(self, **what: Any) -> int:
        """Have the clerk submit or retry a run."""
        if self._clerk is None or self._clerk.poll() is not None:
            script = Path(__file__).with_name("submit.py")
            with (self.home / "clerk.log").open("ab") as output:
                self._clerk = subprocess.Popen(
                    [sys.executable, str(script), "--serve"],
                    cwd=ROOT,
                    env=self.environment | {"PYTHONPATH": str(ROOT)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=output,
                    text=True,
                )
        assert self._clerk.stdin is not None and self._clerk.stdout is not None
        self._clerk.stdin.write(json.dumps(what) + "\n")
        self._clerk.stdin.flush()
        answer = self._clerk.stdout.readline()
        assert answer, (self.home / "clerk.log").read_text()[-3000:]
        return int(answer)

    def unfinished(self) -> int:
        return len(self.rows("SELECT 1 FROM runs_run WHERE status IN ('queued', 'running')"))

    def keep_busy(self, chance: random.Random) -> None:
        """See to it that there is something for a fault to hit: a run that trains, and one behind it."""
        for _ in range(len(self.hosts) * self.slots - self.unfinished()):
            if self.real:
                self.submit_real()
                continue
            settings = {"steps": chance.randrange(40, 100), "delay": 0.06, "checkpoint_every": 10}
            self.ask(kind="scripted", settings={**settings, "seed": chance.randrange(1000)})
        until(lambda: self.rows("SELECT 1 FROM runs_run WHERE status = 'running' AND step > 0"), 120)

    def submit_real(self) -> int:
        """The same each time: a small BERT whose every epoch is 30 steps."""
        settings = {
            "num_train_epochs": 16,
            "per_device_train_batch_size": 8,
            "precision": "fp32",
            "early_stopping_patience": 0,
            "save_steps": 50,
            "eval_steps": 120,
            "seed": 11,
        }
        return self.ask(kind="real", settings=settings)

    # -- answers -----------------------------------------------------------------------------------
    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """One connection for all, made again where it died."""
        end = time.monotonic() + 60
        while True:
            try:
                if self._asking is None:
                    self._asking = psycopg.connect(
                        dbname="tuneboard", user="postgres", autocommit=True, **self.address()
                    )
                return self._asking.execute(query.encode(), values).fetchall()
            except psycopg.OperationalError:
                if self._asking is not None:
                    self._asking.close()
                self._asking = None
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    _asking: psycopg.Connection[tuple[Any, ...]] | None = None

    def ours(self) -> dict[int, int]:
        """{process: parent} of everything that carries our mark."""
        sign = f"{MARK}={self.mark}".encode()
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, IndexError, ValueError):
                if sign in (folder / "environ").read_bytes():
                    found[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        return {pid: parent for pid, parent in found.items() if alive(pid)}

    def orphans(self) -> list[int]:
        """Those that no process of the fleet has started, or whose starter is gone."""
        known = {process.pid for process in self.processes}
        known |= {self._clerk.pid} if self._clerk is not None else set()
        parents = self.ours()

        def has_owner(pid: int) -> bool:
            while pid not in known:
                if pid not in parents:
                    return False
                pid = parents[pid]
            return True

        return [pid for pid in parents if not has_owner(pid)]

    def story(self) -> str:
        """For whoever reads a failure."""
        runs = self.rows("SELECT id, status, step, attempt, failure FROM runs_run ORDER BY id")
        open_runs = [run for run in runs if run[1] != "succeeded"]
        events = self.rows("SELECT run_id, attempt, kind, message FROM runs_event ORDER BY id DESC LIMIT 40")
        logs = ""
        for path in sorted(self.home.glob("*.log")):
            logs += f"--- {path.name}\n{path.read_text(errors='replace')[-2500:]}\n"
        return f"{open_runs}\n" + "\n".join(map(str, reversed(events))) + f"\n{logs}"


__all__ = ["LEASE_SECONDS", "Fleet", "Host", "Valkey"]
