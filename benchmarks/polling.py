"""How many polls a second the web server answers, as `manage.py serve` runs it, and with how many queries each.

    python benchmarks/polling.py [--seconds 5] [--clients 8]

Peer: the same poll answered by rendering the fragment, which is what a poll costs without tags. Clients are a
process beside the server, on the same cores. Queries are those that Postgres says it has answered, so the ones
that no framework counts are in. "cpu ms" is what the web server and Postgres spent on a poll together: it
says, on a host that others use too, what the rate would be without them.
Budget (docs: DESIGN): ≤ 1 query, ≥ 1,000 a second on 2 cores.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--drive", nargs=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        print(drive(arguments.drive, arguments.seconds, arguments.clients))
        return

    from webapp.embedded import Postgres

    with tempfile.TemporaryDirectory(prefix="tuneboard-polls-") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        postgres = Postgres(Path(folder) / "postgres")
        os.environ |= {
            "TUNEBOARD_HOME": folder,
            "TUNEBOARD_PORT": str(port),
            "TUNEBOARD_LOG_LEVEL": "WARNING",
            "DATABASE_URL": postgres.start(),
            "REDIS_URL": "redis://127.0.0.1:9/0",
            "DJANGO_SETTINGS_MODULE": "webapp.settings",
        }
        server = None
        try:
            path, cookie, tag = a_run()
            server = subprocess.Popen([sys.executable, "manage.py", "serve"], cwd=ROOT)
            wait_for(port)
            report(port, path, cookie, tag, [server.pid, postgres.pid], arguments)
        finally:
            if server is not None:
                server.terminate()
                server.wait(30)
            postgres.stop()


def a_run() -> tuple[str, str, str]:
    """(address, cookie, tag) of a run that trains, with what such a run usually has."""
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command
    from django.test import Client

    from runs.models import Event, Run
    from webapp.accounts.people import create_user
    from webapp.catalog.models import BaseModel

    call_command("prepare", verbosity=0)
    user = create_user("ada")
    run = Run.objects.create(
        workspace=user.last_workspace,
        name="Run",
        base_model=BaseModel.objects.get(slug="all-minilm-l6-v2"),
        dataset_name="Data",
        dataset_hash="0" * 64,
        task="text-classification",
        method="full",
        columns={"text": "text", "label": "label"},
        settings={"seed": 42},
        status="running",
        phase="training",
        step=10,
        total_steps=100,
    )
    Event.objects.bulk_create(Event(run=run, kind="message", message=f"event {n}") for n in range(30))
    client = Client()
    client.force_login(user)
    return (
        f"/runs/{run.pk}/",
        client.cookies[settings.SESSION_COOKIE_NAME].value,
        f"{run.pk}-{run.row_version}",
    )


def answered() -> int:
    """How many statements Postgres has answered: outside of transactions each one is a transaction itself."""
    from django.db import connection

    time.sleep(2)  # its sessions report once a second
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")
        cursor.execute("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def cpu_seconds(servers: list[int]) -> float:
    """CPU time of these processes and all that they have started."""
    families = [psutil.Process(pid) for pid in servers]
    alive = [process for one in families for process in (one, *one.children(recursive=True))]
    return sum(sum(process.cpu_times()[:4]) for process in alive)


def wait_for(port: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the web server does not answer")


def report(
    port: int, path: str, cookie: str, tag: str, servers: list[int], arguments: argparse.Namespace
) -> None:
    print(f"{'poll':<12}{'queries':>8}{'a second':>10}{'median ms':>11}{'p99 ms':>8}{'cpu ms':>8}")
    rates = {}
    for kind, sent in (("unchanged", tag), ("changed", "0-0")):
        queries, spent = answered(), cpu_seconds(servers)
        told = subprocess.run(
            [
                *(sys.executable, __file__, "--seconds", str(arguments.seconds)),
                *("--clients", str(arguments.clients)),
                *("--drive", str(port), path, cookie, sent, "304" if kind == "unchanged" else "200"),
            ],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        count = int(told[0])
        rates[kind], median, last = map(float, told[1:])
        each = f"{(answered() - queries) / count:>8.1f}"
        cpu = (cpu_seconds(servers) - spent) / count * 1000
        print(f"{kind:<12}{each}{rates[kind]:>10.0f}{median:>11.1f}{last:>8.1f}{cpu:>8.2f}")
    print(f"ratio unchanged to changed: {rates['unchanged'] / rates['changed']:.1f}")


def drive(where: list[str], seconds: float, clients: int) -> str:
    """Poll over kept connections; "count rate median p99" (all polls, a second, milliseconds)."""
    port, path, cookie, tag, status = where
    request = (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: tuneboard_{port}={cookie}\r\n"
        f"HX-Request: true\r\nHX-PTag: {tag}\r\n\r\n"
    ).encode()
    times: list[float] = []
    warming: list[float] = []
    begin = time.monotonic() + 1  # the first second warms up
    end = begin + seconds

    def poll() -> None:
        with socket.create_connection(("127.0.0.1", int(port))) as connection:
            while (now := time.monotonic()) < end:
                connection.sendall(request)
                answer = connection.recv(65536)
                if not answer.startswith(f"HTTP/1.1 {status}".encode()):
                    raise SystemExit(f"unexpected answer: {answer[:200]!r}")
                if found := re.search(rb"content-length: (\d+)", answer, re.I):
                    rest = int(found[1]) - len(answer.split(b"\r\n\r\n", 1)[1])
                    while rest > 0:
                        rest -= len(connection.recv(65536))
                (times if now >= begin else warming).append(time.monotonic() - now)

    threads = [threading.Thread(target=poll) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times.sort()
    if not times:
        raise SystemExit("no answer")
    middle, last = times[len(times) // 2], times[int(len(times) * 0.99)]
    return f"{len(times) + len(warming)} {len(times) / seconds} {middle * 1000} {last * 1000}"


if __name__ == "__main__":
    main()
