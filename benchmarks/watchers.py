"""200 people watch 20 runs that train, on one web server: how long they wait, and whether the runs notice.

    python benchmarks/watchers.py [--people 200] [--runs 20] [--seconds 20]

Everything is as deployed: `manage.py serve`, a worker with a slot a run, a dispatcher. The runs tell of a step ten
times a second, so that every poll has news. Each person has a session, a connection and a page of their own that
polls every 2 s; after each answer with news it fetches the new points, as the page's charts do. Peer: the same
polls where each answer is rendered for one person alone. Training is compared with the same runs unwatched.
"cpu" is what the web server and Postgres' sessions spent together, in cores.
Budget (DESIGN §8, issue 3): p99 ≤ 100 ms on 2 cores, and no slower training.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
EVERY = 2.0  # seconds between two polls of a page
SESSIONS = """
import json, sys
from django.conf import settings
from django.test import Client
from runs.models import Run
from webapp.accounts.models import Membership, User, Workspace
lab = Workspace.objects.get(slug="lab")
runs = list(Run.objects.filter(status="running").values_list("pk", flat=True))
people = []
for number in range(int(sys.argv[1])):
    person, new = User.objects.get_or_create(username=f"watcher-{number}", defaults={"last_workspace": lab})
    if new:
        Membership.objects.create(user=person, workspace=lab, role="viewer" if number % 4 == 0 else "member")
    client = Client(SERVER_NAME="localhost")
    client.force_login(person)
    client.get("/accounts/profile/")
    cookies = {name: morsel.value for name, morsel in client.cookies.items()}
    people.append({"cookies": cookies, "run": runs[number % len(runs)]})
print(json.dumps(people))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--drive", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        people = json.loads(Path(arguments.drive[1]).read_text())
        asyncio.run(drive(int(arguments.drive[0]), people, arguments.seconds, arguments.drive[2] == "shared"))
        return

    from tests.faults.cluster import until
    from tests.faults.fleet import Fleet

    home = Path(tempfile.mkdtemp(prefix="tuneboard-watchers-"))
    deployed = {f"TUNEBOARD_{name}_SECONDS": "" for name in ("LEASE", "HEARTBEAT", "DISPATCH")}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    deployed |= {"TUNEBOARD_PORT": str(port), "TUNEBOARD_LOG_LEVEL": "WARNING"}
    fleet = Fleet(home, hosts_wanted=1, slots=arguments.runs, extra=deployed)
    try:
        fleet.manage("prepare", "-v0")
        fleet.begin()
        steps = int((arguments.seconds * 4 + 120) / 0.1)
        for number in range(arguments.runs):
            fleet.ask(
                kind="scripted",
                settings={"steps": steps, "delay": 0.1, "checkpoint_every": 200, "seed": number},
            )
        until(
            lambda: fleet.rows("SELECT count(*) FROM runs_run WHERE step > 20")[0][0] == arguments.runs, 120
        )
        people = home / "people.json"
        script = home / "sessions.py"
        script.write_text(
            "import os, django\nos.environ['DJANGO_SETTINGS_MODULE'] = 'webapp.settings'\ndjango.setup()\n"
            + SESSIONS
        )
        people.write_text(fleet.manage(str(script), str(arguments.people)))
        unwatched = steps_a_second(fleet, arguments.seconds)
        print(
            f"{'answers':<26}{'polls/s':>9}{'median ms':>11}{'p99 ms':>8}{'points p99':>12}{'cpu':>7}{'steps/s':>9}"
        )
        measured = {}
        server = serve(fleet, port)
        try:
            for name in ("one a person", "shared"):
                measured[name] = measure(fleet, server, port, people, arguments.seconds, name)
        finally:
            server.terminate()
            server.wait(30)
    finally:
        fleet.stop()
        shutil.rmtree(home, ignore_errors=True)
    alone, together = measured["one a person"], measured["shared"]
    print(
        f"p99 shared: {together['p99']:.1f} ms     budget 100 ms on 2 cores, of which {psutil.cpu_count()} are here"
    )
    print(
        f"ratio of p99, one a person to shared: {alone['p99'] / together['p99']:.1f}; of cpu {alone['cpu'] / together['cpu']:.1f}"
    )
    print(
        f"steps a second watched to unwatched: {together['steps'] / unwatched:.4f} ({unwatched:.1f} unwatched)     budget ≥ 0.99"
    )


def serve(fleet: Any, port: int) -> subprocess.Popen[bytes]:
    """The web server, once it answers."""
    server = subprocess.Popen([sys.executable, "manage.py", "serve"], cwd=ROOT, env=fleet.environment)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return server
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the web server does not answer")


def steps_a_second(fleet: Any, seconds: float) -> float:
    """Of all runs together, by the points that stand in the database."""
    query = "SELECT sum(step), extract(epoch FROM clock_timestamp()) FROM runs_run"
    ((before, began),) = fleet.rows(query)
    time.sleep(seconds)
    ((after, ended),) = fleet.rows(query)
    return float(after - before) / float(ended - began)


def measure(fleet: Any, server: Any, port: int, people: Path, seconds: float, name: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--seconds", str(seconds), "--drive", str(port), str(people), name]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    time.sleep(3)  # its first polls fill what is empty
    spent = cpu_seconds(server.pid, fleet.postgres.pid)
    steps = steps_a_second(fleet, seconds)
    cpu = (cpu_seconds(server.pid, fleet.postgres.pid) - spent) / seconds
    told = json.loads(driver.communicate()[0])
    row = told | {"cpu": cpu, "steps": steps}
    print(
        f"{name:<26}{told['rate']:>9.0f}{told['median']:>11.1f}{told['p99']:>8.1f}{told['points']:>12.1f}{cpu:>7.2f}{steps:>9.1f}",
        flush=True,
    )
    return row


def cpu_seconds(*servers: int) -> float:
    families = [psutil.Process(pid) for pid in servers]
    alive = [process for one in families for process in (one, *one.children(recursive=True))]
    return sum(sum(process.cpu_times()[:4]) for process in alive)


async def drive(port: int, people: list[dict[str, Any]], seconds: float, shared: bool) -> None:
    """Watch for so long, after three seconds of warming up; prints {rate, median, p99, points} in milliseconds."""
    polls: list[float] = []
    points: list[float] = []
    begin = time.monotonic() + 3

    async def watch(person: dict[str, Any]) -> None:
        cookie = "; ".join(f"{name}={value}" for name, value in person["cookies"].items())
        await asyncio.sleep(random.uniform(0, EVERY))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        tag, last = f"{person['run']}-0", 0

        async def get(path: str, extra: str = "") -> tuple[int, dict[str, str], bytes, float]:
            sent = time.monotonic()
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n{extra}\r\n".encode()
            )
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            status, headers = (
                int(head.split(" ", 2)[1]),
                dict(re.findall(r"(?m)^([\w-]+): *(.*?)\r$", head.lower())),
            )
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            return status, headers, body, time.monotonic() - sent

        next_poll = time.monotonic()
        while (now := time.monotonic()) < begin + seconds:
            path = f"/runs/{person['run']}/"
            address = (
                path if shared else f"{path}?alone"
            )  # an address of their own is answered for each alone
            status, headers, body, took = await get(address, f"HX-Request: true\r\nHX-PTag: {tag}\r\n")
            assert status in {200, 304}, (status, body[:300])
            if now >= begin:
                polls.append(took)
            if status == 200:
                tag = headers["hx-ptag"]
                since = f"?since=loss:{last}" if last else ""
                status, _, body, took = await get(f"{path}points/{since}")
                assert status == 200
                found = json.loads(body)["series"].get("loss")
                if found:
                    last = int(found["step"][-1])
                if now >= begin:
                    points.append(took)
            next_poll += EVERY
            await asyncio.sleep(max(0.0, next_poll - time.monotonic()))
        writer.close()

    await asyncio.gather(*(watch(person) for person in people))
    polls.sort()
    points.sort()

    def at(times: list[float], share: float) -> float:
        return times[min(len(times) - 1, int(len(times) * share))] * 1000

    print(
        json.dumps(
            {
                "rate": len(polls) / seconds,
                "median": at(polls, 0.5),
                "p99": at(polls, 0.99),
                "points": at(points, 0.99),
            }
        )
    )


if __name__ == "__main__":
    main()
