"""From the click on Launch to the first training step, on a worker whose trainer is warm.

    python benchmarks/click_to_step.py [--rounds 5]

Everything is as deployed: a POST to the HTTP API of `manage.py serve`, which does what the form's button does; a
wake-up through Valkey; a worker with the real training program. "Claimed" is told by the run's own story, and what
the trainer does by its own events, on the same clock here; "shown" is when the database has the first step. Peer: the same
training program started cold with the same work, as without a warm trainer. Budget (DESIGN §8): 2 s for a small model.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
MODELS = ("tiny", "all-minilm-l6-v2")
PERSON = """
import os, django
os.environ["DJANGO_SETTINGS_MODULE"] = "webapp.settings"
django.setup()
from webapp.accounts.models import ApiToken, Membership, User, Workspace
lab = Workspace.objects.get(slug="lab")
ada = User.objects.create_user("ada", last_workspace=lab)
Membership.objects.create(user=ada, workspace=lab, role="member")
print(ApiToken.issue(ada, lab, "launching")[1])
"""
SETTINGS = {"per_device_train_batch_size": 8, "num_train_epochs": 2, "logging_steps": 1, "max_length": 32}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    from tests.faults.cluster import until
    from tests.faults.fleet import Fleet

    home = Path(tempfile.mkdtemp(prefix="tuneboard-click-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    deployed = {f"TUNEBOARD_{name}_SECONDS": "" for name in ("LEASE", "HEARTBEAT", "DISPATCH")}
    extra = deployed | {"TUNEBOARD_PORT": port, "TUNEBOARD_LOG_LEVEL": "WARNING", "OMP_NUM_THREADS": "2"}
    fleet = Fleet(home, hosts_wanted=1, real=True, extra=extra)
    print(
        f"{'model':<20}{'claimed':>9}{'fetched':>9}{'training':>10}{'first step':>12}{'shown':>8}{'cold':>8}   seconds"
    )
    try:
        fleet.manage("prepare", "-v0")
        fleet.begin()
        fleet.start_web()
        first = fleet.ask(kind="real", settings={"num_train_epochs": 1, "seed": 11})
        until(lambda: fleet.status(first) == "succeeded", 300)
        script = home / "person.py"
        script.write_text(PERSON)
        token = fleet.manage(str(script)).strip()
        for model in MODELS:
            taken = [launch(fleet, port, token, model) for _ in range(arguments.rounds)]
            middle = {name: statistics.median(each[name] for each in taken) for name in taken[0]}
            alone = cold(home / f"{model}.json")
            print(
                f"{model:<20}{middle['claimed']:>9.2f}{middle['fetched']:>9.2f}{middle['training']:>10.2f}"
                f"{middle['first step']:>12.2f}{middle['shown']:>8.2f}{alone:>8.2f}"
            )
            print(f"{'':<20}ratio cold to warm {alone / middle['first step']:.1f}     budget 2 s")
    finally:
        fleet.stop()
        shutil.rmtree(home, ignore_errors=True)


def launch(fleet: Any, port: str, token: str, model: str) -> dict[str, float]:
    """Seconds from the click to each of what follows; the trainer has had time to warm up."""
    from tests.faults.cluster import until

    wait_until_warm(fleet)
    body = json.dumps(
        {"model": model, "dataset": 1, "task": "text-classification", "method": "full", "settings": SETTINGS}
    )
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/v1/runs", body.encode(), headers)
    clicked = time.time()
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            run = int(json.loads(answer.read())["id"])
    except urllib.error.HTTPError as error:
        raise SystemExit(error.read().decode()) from error
    until(lambda: fleet.rows("SELECT 1 FROM runs_run WHERE id = %s AND step > 0", run), 120)
    shown = time.time()
    query = "SELECT extract(epoch FROM at) FROM runs_event WHERE run_id = %s AND kind = 'started'"
    claimed = float(fleet.rows(query, run)[0][0])
    workdir = fleet.hosts[0].home / "work" / f"{run}-1"
    shutil.copy(workdir / "spec.json", fleet.home / f"{model}.json")
    until(lambda: "first step" in told(workdir), 60)
    moments = {"claimed": claimed, **told(workdir), "shown": shown}
    enough = f"http://127.0.0.1:{port}/api/v1/runs/{run}/cancel"
    urllib.request.urlopen(urllib.request.Request(enough, b"", headers), timeout=60).close()
    until(lambda: fleet.unfinished() == 0, 600)
    return {name: moment - clicked for name, moment in moments.items()}


def told(workdir: Path) -> dict[str, float]:
    """{what the trainer did: when it first did}"""
    found: dict[str, float] = {}
    for line in (workdir / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        match event:
            case {"type": "phase", "phase": "preparing"}:
                found.setdefault("fetched", event["at"])
            case {"type": "phase", "phase": "training"}:
                found.setdefault("training", event["at"])
            case {"type": "metric", "values": {"loss": _}}:
                found.setdefault("first step", event["at"])
    return found


def wait_until_warm(fleet: Any) -> None:
    """Until the worker's trainer has imported everything: it then stands still."""
    worker = psutil.Process(fleet.hosts[0].pid)
    spent = -1.0
    while True:
        trainers = worker.children(recursive=True)
        now = sum(sum(process.cpu_times()[:2]) for process in trainers)
        if trainers and now > 2 and now - spent < 0.05:
            return
        spent = now
        time.sleep(1.5)


def cold(spec: Path) -> float:
    """Seconds from the start of the program to its first step, on the same work."""
    from tests.faults.cluster import until

    workdir = Path(tempfile.mkdtemp(prefix="tuneboard-cold-"))
    shutil.copy(spec, workdir / "spec.json")
    began = time.time()
    trainer = subprocess.Popen(
        [sys.executable, "-m", "runs.training", str(workdir)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return float(until(lambda: first_step(workdir), 120)) - began
    finally:
        trainer.kill()
        trainer.wait()
        shutil.rmtree(workdir)


def first_step(workdir: Path) -> float:
    try:
        lines = (workdir / "events.jsonl").read_text().splitlines()
    except FileNotFoundError:
        return 0.0
    events = [json.loads(line) for line in lines if line.endswith("}")]
    return next((float(e["at"]) for e in events if e["type"] == "metric" and "loss" in e["values"]), 0.0)


if __name__ == "__main__":
    main()
