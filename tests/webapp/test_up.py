"""`manage.py up`, as people use and abuse it: started, stopped, killed, started twice, by root and by anybody."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError

from webapp.management.commands.up import ask_health, check_port

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(home: Path, port: int) -> dict[str, str]:
    ours = ("DATABASE_URL", "REDIS_URL", "STORAGE_URL", "DJANGO_SETTINGS_MODULE", "TUNEBOARD_LOG_LEVEL")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return {**kept, "TUNEBOARD_HOME": str(home), "TUNEBOARD_PORT": str(port), "PYTHONUNBUFFERED": "1"}


class Copy:
    """A Tuneboard that somebody started with `manage.py up`."""

    def __init__(self, home: Path, port: int, *prefix: str, **more: str) -> None:
        self.home, self.port, self.more = home, port, more
        self.output: list[str] = []
        self.process = subprocess.Popen(
            [*prefix, sys.executable, "manage.py", "up"],
            cwd=ROOT,
            env=environment(home, port) | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.ended = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line)
        self.ended.set()

    @property
    def said(self) -> str:
        return "".join(self.output)

    def wait_for_link(self) -> str:
        end = time.monotonic() + 120
        while time.monotonic() < end and not self.ended.is_set():
            if found := re.search(rf"http://localhost:{self.port}/accounts/link/\S+", self.said):
                return found.group()
            time.sleep(0.1)
        pytest.fail(f"no sign-in link:\n{self.said[-4000:]}")

    def get(self, path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return int(error.code)

    def manage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=environment(self.home, self.port) | self.more,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(120) == 0, self.said[-2000:]

    def kill_everything(self) -> None:
        """As a power cut would: nobody gets to clean up."""
        for pid in processes_of(self.home):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(30)


def processes_of(home: Path) -> set[int]:
    """Whoever works for this home: by command, environment, or working directory."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            told = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            here = str((folder / "cwd").readlink())
            state = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0]
            if (str(home).encode() in told or here.startswith(str(home))) and state != "Z":
                found.add(int(folder.name))
    return found - {os.getpid()}


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tuneboard-up-", ignore_cleanup_errors=True) as place:
        folder = Path(place) / "home"
        yield folder
        for pid in processes_of(folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_it_starts_stops_and_starts_again_even_after_everything_was_killed(home: Path) -> None:
    first = Copy(home, free_port())
    first.wait_for_link()
    assert "Made the first user, “admin”." in first.said
    assert {line.split("|")[0].strip() for line in first.output if " | " in line} >= {"tuneboard", "web"}
    assert first.get("/healthz") == 200
    assert first.said.count("/accounts/link/") == 1
    for private in ("storage", "work", "cache", "valkey", "secret_key", "services.json", "postgres/base"):
        assert (home / private).stat().st_mode & 0o077 == 0, f"{private} is closed to others on this host"

    # A token alone on standard output, and it works.
    token = first.manage("token", "admin").stdout
    assert re.fullmatch(r"tb_\S+\n", token)
    request = urllib.request.Request(f"http://127.0.0.1:{first.port}/api/v1/models")
    request.add_header("Authorization", f"Bearer {token.strip()}")
    with urllib.request.urlopen(request, timeout=10) as answer:
        models = json.loads(answer.read())
    assert "all-minilm-l6-v2" in {model["id"] for model in models}

    # A second copy on the same home is told to choose another.
    twin = Copy(home, free_port())
    assert twin.process.wait(60) != 0
    assert twin.ended.wait(10) and f"already runs on {home} (process {first.process.pid})" in twin.said
    assert first.get("/healthz") == 200

    first.interrupt()
    assert first.output[-1].rstrip().endswith("Stopped.")
    assert processes_of(home) == set()
    assert not (home / "services.json").exists()

    second = Copy(home, first.port)
    second.wait_for_link()
    assert "Made the first user" not in second.said
    second.kill_everything()

    third = Copy(home, first.port)
    third.wait_for_link()
    request.full_url = f"http://127.0.0.1:{third.port}/api/v1/models"
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200, "the token of the first start still counts"
    # A server that dies alone is started again.
    os.kill(int((home / "valkey" / "valkey.pid").read_text()), signal.SIGKILL)
    end = time.monotonic() + 30
    while "Valkey ended; starting it again." not in third.said:
        assert time.monotonic() < end
        time.sleep(0.1)
    third.interrupt()
    assert processes_of(home) == set()


def test_with_servers_of_ones_own_it_starts_none(home: Path) -> None:
    server, name = os.environ["DATABASE_URL"].rsplit("/", 1)
    with psycopg.connect(f"{server}/{name}", autocommit=True) as connection:
        connection.execute("CREATE DATABASE elsewhere")
    stored = home.parent / "stored"
    copy = Copy(
        home,
        free_port(),
        DATABASE_URL=f"{server}/elsewhere",
        REDIS_URL=os.environ["REDIS_URL"].removesuffix("/0") + "/7",
        STORAGE_URL=str(stored),
    )
    copy.wait_for_link()
    assert "Starting Postgres" not in copy.said and "Starting Valkey" not in copy.said
    assert not (home / "postgres").exists() and not any((home / "valkey").iterdir())
    found = copy.manage("doctor").stdout
    assert "ok     database" in found and "ok     broker" in found
    assert f"ok     storage    {stored} can be written and read" in found
    copy.interrupt()
    assert processes_of(home) == set()
    with psycopg.connect(f"{server}/elsewhere") as connection:  # the server is not ours to stop
        admin = connection.execute("SELECT username FROM accounts_user").fetchall()
    assert admin == [("admin",)]


def test_a_port_that_is_taken_is_a_sentence(home: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        refused = Copy(home, int(taken.getsockname()[1]))
        assert refused.process.wait(60) == 1
    assert refused.ended.wait(10)
    assert "cannot be used" in refused.said and "TUNEBOARD_PORT=" in refused.said
    assert "Traceback" not in refused.said
    assert processes_of(home) == set()


@pytest.mark.parametrize("address", ["127.0.0.2", "::1", "0.0.0.0", "::"])
def test_it_notices_its_web_server_at_whatever_address_and_asks_no_proxy(
    address: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listening = socket.create_server((address, 0), family=family)
    except OSError:
        pytest.skip(f"this host has no {address}")
    settings.BIND, settings.PORT = address, listening.getsockname()[1]
    with listening, pytest.raises(CommandError, match="cannot be used"):
        check_port(settings.PORT)
    with pytest.raises(OSError, match="refused"):
        ask_health()
    check_port(settings.PORT)

    with socket.create_server((address, settings.PORT), family=family) as listening:

        def answer() -> None:
            caller, _ = listening.accept()
            with caller:
                caller.recv(1000)
                caller.sendall(b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\n\r\n")

        web = threading.Thread(target=answer)
        web.start()
        ask_health()
        web.join()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_it_runs_as_an_ordinary_user_beside_another_copy(tmp_path_factory: pytest.TempPathFactory) -> None:
    if shutil.which("setpriv") is None or not readable_to_all(Path(sys.executable).resolve()):
        pytest.skip("the Python of this environment is not readable to other users")
    with tempfile.TemporaryDirectory(prefix="tuneboard-nobody-") as folder:
        place = Path(folder)
        theirs = place / "home"
        theirs.mkdir()
        for path in (place, theirs):
            os.chown(path, 65534, 65534)
        ours = tmp_path_factory.mktemp("root") / "home"
        one = Copy(ours, free_port())
        try:
            one.wait_for_link()
            become = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
            other = Copy(theirs, free_port(), *become, "env", f"HOME={theirs}")
            other.wait_for_link()
            assert (other.get("/healthz"), one.get("/healthz")) == (200, 200)
            owners = {Path(f"/proc/{pid}").stat().st_uid for pid in processes_of(theirs)}
            assert owners == {65534}
            other.interrupt()
            assert processes_of(theirs) == set()
            one.interrupt()
            assert processes_of(ours) == set()
        finally:
            for pid in processes_of(theirs) | processes_of(ours):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def readable_to_all(path: Path) -> bool:
    """Whether everybody may walk to this file, and to this checkout."""
    tried = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(path), "-c", "import sys"],
        capture_output=True,
    )
    seen = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", str(ROOT / "manage.py")],
        capture_output=True,
    )
    return tried.returncode == 0 and seen.returncode == 0
