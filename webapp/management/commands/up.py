"""`manage.py up`: everything on this machine, until Ctrl-C.

It owns TUNEBOARD_HOME while it runs (a lock that the kernel gives back however it ends), starts
Postgres and Valkey there unless DATABASE_URL / REDIS_URL name others, brings the database up to date,
and then looks after the web server, a worker and the dispatcher.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from webapp.embedded import Postgres, Valkey
from webapp.management.commands.serve import command
from webapp.supervisor import Supervisor

# A trainer saves before it leaves; its worker waits for that.
GRACE_SECONDS = settings.STOP_GRACE_SECONDS + 15
MANAGE = Path(__file__).resolve().parents[3] / "manage.py"


class Command(BaseCommand):
    help = "Starts everything on this machine and prints a sign-in link. Ctrl-C stops all of it."
    requires_system_checks = []  # the database is not there yet

    def handle(self, *args: Any, **options: Any) -> None:
        make_home(settings.HOME)
        lock = take_lock(settings.HOME)
        check_port(settings.PORT)
        supervisor = Supervisor()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: supervisor.stopping.set())
        postgres = None if os.environ.get("DATABASE_URL") else Postgres(settings.HOME / "postgres")
        valkey = None if os.environ.get("REDIS_URL") else Valkey(settings.HOME / "valkey")
        try:
            self.start(supervisor, postgres, valkey)
        finally:
            supervisor.say("Stopping.")
            supervisor.stop(GRACE_SECONDS)
            if valkey is not None:
                valkey.stop()
            if postgres is not None:
                postgres.stop()
            (settings.HOME / "services.json").unlink(missing_ok=True)
            supervisor.say("Stopped.")
            lock.close()

    def start(self, supervisor: Supervisor, postgres: Postgres | None, valkey: Valkey | None) -> None:
        os.chdir(settings.ROOT)  # the web server finds its application from here
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        services = {}
        if postgres is not None:
            supervisor.say(f"Starting Postgres (data in {postgres.folder}).")
            environment["DATABASE_URL"] = services["database_url"] = postgres.start()
        if valkey is not None:
            supervisor.say(f"Starting Valkey (data in {valkey.folder}).")
            environment["REDIS_URL"] = services["redis_url"] = valkey.start()
        write_privately(settings.HOME / "services.json", json.dumps(services))
        if not manage("prepare", environment=environment) and not supervisor.stopping.is_set():
            raise CommandError("The database could not be brought up to date; the reason is above.")
        if supervisor.stopping.is_set():
            return
        supervisor.add("web", command(), environment)
        supervisor.add("worker", [sys.executable, str(MANAGE), "worker"], environment)
        supervisor.add("dispatcher", [sys.executable, str(MANAGE), "dispatcher"], environment)
        supervisor.checks.append(Servers(supervisor, postgres, valkey))
        supervisor.checks.append(Welcome(supervisor, environment))
        supervisor.run()


class Servers:
    """Starts Postgres or Valkey again, on the same address, if one of them dies."""

    def __init__(self, supervisor: Supervisor, postgres: Postgres | None, valkey: Valkey | None) -> None:
        self.supervisor = supervisor
        self.servers = [server for server in (postgres, valkey) if server is not None]

    def __call__(self) -> None:
        for server in self.servers:
            if not server.is_running():
                self.supervisor.say(f"{type(server).__name__} ended; starting it again.")
                server.start()


class Welcome:
    """Prints the sign-in link once the web server answers."""

    def __init__(self, supervisor: Supervisor, environment: dict[str, str]) -> None:
        self.supervisor, self.environment = supervisor, environment
        self.done, self.since = False, time.monotonic()

    def __call__(self) -> None:
        if self.done:
            return
        try:
            ask_health()
        except (OSError, http.client.HTTPException):
            if time.monotonic() - self.since > 60:
                self.supervisor.say("The web server does not answer yet; its messages are above.")
                self.since = time.monotonic()
            return
        self.done = True
        link = manage_output("sign_in_link", "admin", environment=self.environment)
        self.supervisor.say(
            f"\nTuneboard is at {settings.PUBLIC_URL}\nSign in with (works once, for a day):\n\n    {link}\n\nCtrl-C stops it.\n "
        )


def ask_health() -> None:
    """Return if the web server answers, whatever it says; not by urllib, which would ask a proxy."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 – compared with, not bound to
    host = everywhere.get(settings.BIND, settings.BIND)
    connection = http.client.HTTPConnection(host, settings.PORT, timeout=5)
    try:
        connection.request("GET", "/healthz")
        connection.getresponse()
    finally:
        connection.close()


def make_home(home: Path) -> None:
    """The home and its folders. Those with people's data are closed to others on this host.

    The home itself cannot be where root starts it: Postgres then runs as another user, and its package opens
    every folder above the data for passage.
    """
    home.mkdir(parents=True, exist_ok=True)
    for name in ("storage", "work", "cache", "valkey"):
        (home / name).mkdir(mode=0o700, exist_ok=True)


def take_lock(home: Path) -> IO[str]:
    """Held as long as this process lives; a second copy on the same home is refused."""
    lock = (home / "lock").open("a+")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        holder = lock.read().strip() or "another process"
        raise CommandError(
            f"Tuneboard already runs on {home} (process {holder}). Stop it first, or choose another "
            "TUNEBOARD_HOME and TUNEBOARD_PORT for a second copy."
        ) from None
    lock.seek(0)
    lock.truncate()
    lock.write(str(os.getpid()))
    lock.flush()
    os.set_inheritable(lock.fileno(), False)
    return lock


def check_port(port: int) -> None:
    """Refuse early, with a sentence, if something else listens there."""
    family = socket.AF_INET6 if ":" in settings.BIND else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.BIND, port))
        except OSError as error:
            raise CommandError(
                f"Port {port} cannot be used ({error.strerror}). Choose another: TUNEBOARD_PORT=8001 make run"
            ) from error


def write_privately(path: Path, text: str) -> None:
    """Whole or not at all, readable to its owner alone."""
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    partial.write_text(text)
    partial.replace(path)


def manage(*arguments: str, environment: dict[str, str]) -> bool:
    """Run another command in a process of its own; its output is shown. True if it succeeded."""
    return subprocess.run([sys.executable, str(MANAGE), *arguments], env=environment).returncode == 0


def manage_output(*arguments: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, str(MANAGE), *arguments], env=environment, capture_output=True, text=True
    )
    return done.stdout.strip() if done.returncode == 0 else f"(no link: {done.stderr.strip()[-500:]})"
