"""A Tuneboard of real processes, each of which a test may kill: Postgres, Valkey, worker, dispatcher."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg

from webapp.embedded import Postgres, Valkey

ROOT = Path(__file__).resolve().parents[2]
QUICK = {
    "TUNEBOARD_LEASE_SECONDS": "8",
    "TUNEBOARD_HEARTBEAT_SECONDS": "1",
    "TUNEBOARD_DISPATCH_SECONDS": "0.5",
    "TUNEBOARD_STOP_GRACE_SECONDS": "20",
    "TUNEBOARD_LOG_LEVEL": "INFO",
    "OMP_NUM_THREADS": "1",
}


class Cluster:
    """Everything but the web server, on its own data."""

    def __init__(self, home: Path, trainer_command: str = "") -> None:
        self.home = home
        self.postgres = Postgres(home / "postgres")
        self.valkey = Valkey(home / "valkey")
        self.database_url = self.postgres.start()
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TUNEBOARD_")}
        self.environment = {
            **kept,
            **QUICK,
            "TUNEBOARD_HOME": str(home),
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.valkey.start(),
            "TUNEBOARD_TRAINER_COMMAND": trainer_command,
        }
        self.manage("migrate", "-v0", "--skip-checks")
        self.processes: list[subprocess.Popen[bytes]] = []
        self.seen: set[int] = set()  # every child that a worker of ours was seen with

    # -- processes ---------------------------------------------------------------------------------
    def start(self, command: str) -> subprocess.Popen[bytes]:
        """`manage.py worker` or `dispatcher`, its output in a file of the home."""
        with (self.home / f"{command}.log").open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "manage.py", command],
                cwd=ROOT,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def kill_postgres(self) -> None:
        """`kill -9` of the server: what it had not written to disk is gone from memory."""
        pid = self.postgres.pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: not alive(pid))

    def restart_postgres(self) -> None:
        assert Postgres(self.home / "postgres").start() == self.database_url

    def kill_valkey(self) -> None:
        assert self.valkey.process is not None
        self.valkey.process.kill()
        self.valkey.process.wait()

    def stop(self) -> None:
        """As Ctrl-C does; then nothing of it may be left."""
        for process in self.processes:
            self.remember_children(process.pid)
            process.terminate()
        for process in self.processes:
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.valkey.stop()
        Postgres(self.home / "postgres").stop()

    def remember_children(self, pid: int) -> set[int]:
        """The children that this process has now."""
        found = {
            int(stat.parent.name)
            for stat in Path("/proc").glob("[0-9]*/stat")
            if (fields := _fields(stat)) and int(fields[1]) == pid
        }
        self.seen |= found
        return found

    def address(self) -> dict[str, Any]:
        """Where its Postgres listens, as psycopg takes it."""
        url = urlsplit(self.database_url)
        if "%2F" in url.netloc.upper():
            return {"host": unquote(url.netloc.rpartition("@")[2])}
        return {"host": url.hostname or "", "port": str(url.port or 5432)}

    def to_postgres(self) -> socket.socket:
        """A connection to it, for a link."""
        where = self.address()
        if "port" in where:
            return socket.create_connection((where["host"], int(where["port"])), 5)
        plain = socket.socket(socket.AF_UNIX)
        plain.connect(f"{where['host']}/.s.PGSQL.5432")
        return plain

    # -- what a test asks it -----------------------------------------------------------------------
    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *(arguments if arguments[0].endswith(".py") else ("manage.py", *arguments))],
            cwd=ROOT,
            env=self.environment | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def submit(self, kind: str, **settings: Any) -> int:
        """A new run (tests/faults/submit.py); returns its id."""
        script = str(Path(__file__).with_name("submit.py"))
        return int(self.manage(script, kind, json.dumps(settings)))

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(dbname="tuneboard", user="postgres", **self.address()) as connection:
            return connection.execute(query.encode(), values).fetchall()

    def status(self, run: int) -> str:
        return str(self.rows("SELECT status FROM runs_run WHERE id = %s", run)[0][0])

    def step(self, run: int) -> int:
        return int(self.rows("SELECT step FROM runs_run WHERE id = %s", run)[0][0])

    def wait_for_checkpoint(self, run: int) -> None:
        query = "SELECT count(*) FROM runs_checkpoint WHERE run_id = %s"
        until(lambda: self.rows(query, run)[0][0] > 0 or self._over(run), 90)
        assert not self._over(run), f"the run was {self.status(run)}: {self.why(run)}"

    def wait_for_success(self, run: int, seconds: float = 150) -> None:
        until(lambda: self._over(run), seconds)
        assert self.status(run) == "succeeded", self.why(run)

    def weights(self, run: int) -> dict[str, bytes]:
        """The files of a run that hold weights."""
        rows = self.rows(
            "SELECT name, storage_key FROM runs_artifact WHERE run_id = %s AND "
            "(name LIKE '%%.safetensors' OR name LIKE 'weights%%')",
            run,
        )
        assert rows
        return {name: self.stored(key) for name, key in rows}

    def stored(self, key: str) -> bytes:
        """A file of the storage."""
        return (self.home / "storage" / key).read_bytes()

    def points(self, run: int) -> list[tuple[Any, ...]]:
        """(series, step, value) of every series that depends on the training alone."""
        return self.rows(
            "SELECT series, step, value FROM runs_metric WHERE run_id = %s ORDER BY series, step", run
        )

    def why(self, run: int) -> str:
        story = self.rows("SELECT kind, message FROM runs_event WHERE run_id = %s ORDER BY id", run)
        failure = self.rows("SELECT failure FROM runs_run WHERE id = %s", run)
        log = (self.home / "worker.log").read_text(errors="replace")[-3000:]
        return f"{story}\n{failure}\n{log}"

    def _over(self, run: int) -> bool:
        return self.status(run) in {"succeeded", "failed", "cancelled"}


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Its first true value."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.05)
    return found


def alive(pid: int) -> bool:
    fields = _fields(Path(f"/proc/{pid}/stat"))
    return bool(fields) and fields[0] != "Z"


def _fields(stat: Path) -> list[str]:
    try:
        return stat.read_text().rsplit(")", 1)[1].split()
    except OSError:
        return []
