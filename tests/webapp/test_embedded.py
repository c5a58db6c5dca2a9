"""Real servers out of wheels, on data that outlives them however they end."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import psycopg
import pytest
import redis

from webapp.embedded import EmbeddedError, Postgres, Valkey, let_through


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def keep(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (value int)")
        connection.execute("INSERT INTO kept VALUES (7)")


def kept(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
        assert row is not None
        return int(row[0])


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_postgres_keeps_what_it_was_told(tmp_path: Path, ending: str) -> None:
    server = Postgres(tmp_path / "data")
    keep(server.start())
    if ending == "kill":
        os.kill(server.pid, signal.SIGKILL)
        wait_for(lambda: not server.is_running())
    else:
        server.stop()
        assert not server.is_running()
    again = Postgres(tmp_path / "data")
    try:
        assert kept(again.start()) == 1
    finally:
        again.stop()


def test_a_postgres_that_runs_already_is_adopted(tmp_path: Path) -> None:
    first = Postgres(tmp_path / "data")
    keep(first.start())
    second = Postgres(tmp_path / "data")
    try:
        assert kept(second.start()) == 1
        assert second.pid == first.pid
    finally:
        second.stop()
    assert not first.is_running()


def test_two_folders_are_two_servers(tmp_path: Path) -> None:
    servers = [Postgres(tmp_path / name) for name in ("one", "two")]
    try:
        one, two = (server.start() for server in servers)
        assert one != two
        keep(one)
        with psycopg.connect(two) as connection:
            found = connection.execute("SELECT to_regclass('kept')").fetchone()
        assert found == (None,)
    finally:
        for server in servers:
            server.stop()


@pytest.mark.parametrize("name", ["data", "d" * 120])
def test_nobody_else_on_the_host_reaches_the_database(tmp_path: Path, name: str) -> None:
    server = Postgres(tmp_path / name)
    url = server.start()
    try:
        socket_folder = Path(unquote(url.split("@")[1].rsplit("/", 1)[0]))
        assert list(socket_folder.glob(".s.PGSQL.*"))
        assert socket_folder.stat().st_mode & 0o077 == 0
        keep(url)
    finally:
        server.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's Postgres runs as somebody else")
def test_closed_folders_let_the_database_through_and_show_nobody_what_they_hold(tmp_path: Path) -> None:
    closed = tmp_path / "home"
    (closed / "programs").mkdir(parents=True)
    closed.chmod(0o700)
    server = Postgres(closed / "data")
    try:
        keep(server.start())
    finally:
        server.stop()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o711
    # Programs are often reached through a link, such as that to a shared environment.
    closed.chmod(0o700)
    link = tmp_path / "link"
    link.symlink_to(closed / "programs")
    let_through(link / "initdb")
    assert stat.S_IMODE(closed.stat().st_mode) == 0o711


@pytest.mark.parametrize("ending", ["stop", "kill"])
def test_valkey_keeps_what_it_was_told_at_the_same_address(tmp_path: Path, ending: str) -> None:
    server = Valkey(tmp_path)
    url = server.start()
    client = redis.Redis.from_url(url)
    client.set("kept", 7)
    time.sleep(1.1)  # the file is written each second
    client.close()
    if ending == "kill":
        assert server.process is not None
        server.process.kill()
        server.process.wait()
    else:
        server.stop()
    again = Valkey(tmp_path)
    try:
        assert again.start() == url
        assert redis.Redis.from_url(url).get("kept") == b"7"
    finally:
        again.stop()


def test_valkey_wants_its_password_and_listens_on_loopback_only(tmp_path: Path) -> None:
    server = Valkey(tmp_path)
    url = server.start()
    try:
        port = int(url.rsplit(":", 1)[1].split("/")[0])
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()
        configuration = redis.Redis.from_url(url).config_get("bind")
        assert configuration == {"bind": "127.0.0.1"}
        for name in ("valkey.conf", "address.json"):
            assert (tmp_path / name).stat().st_mode & 0o077 == 0
    finally:
        server.stop()


def test_a_valkey_whose_parent_was_killed_makes_room(tmp_path: Path) -> None:
    lost = Valkey(tmp_path)
    lost.start()
    assert lost.process is not None
    fresh = Valkey(tmp_path)
    try:
        url = fresh.start()
        assert redis.Redis.from_url(url).ping()
        lost.process.wait(10)
    finally:
        fresh.stop()


def test_a_pid_file_that_names_somebody_else_does_no_harm(tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "valkey.pid").write_text(str(bystander.pid))
        server = Valkey(tmp_path)
        server.start()
        server.stop()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_server_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Valkey(tmp_path)
    (tmp_path / "appendonlydir").write_text("in the way")
    with pytest.raises(EmbeddedError, match="Valkey did not start:"):
        server.start()
