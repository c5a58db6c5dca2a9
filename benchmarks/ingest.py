"""Whether metrics at 1,000 points a second from each of 20 runs at once are taken in, and at what cost.

    python benchmarks/ingest.py [--runs 20] [--points 1000] [--seconds 30]

Writers append events as trainers do, each a process; a supervision each, as in a worker with so many slots,
takes them into a Postgres of its own. Printed: points a second that arrived; the most that a run was behind; the
CPU of the worker, of it a run, and of Postgres; what a write costs a writer with and without anybody
reading. First at a normal rate (10 points a second), whose budget is 1 % of a core a run for beats, events and log
together. Peer of a point's cost: COPY of the same points into a table with the same columns and indexes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
VALUES = 4  # series in an event, as a trainer logs them

WRITER = """
import json, os, sys, threading, time
from pathlib import Path
sys.path.insert(0, {root!r})
from runs.training.events import EventWriter
workdir = Path(sys.stdin.readline().strip())
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
said = json.loads((workdir / "spec.json").read_text())["settings"]
log = (workdir / "log.txt").open("w", buffering=1)
events, step, spent = EventWriter(workdir / "events.jsonl"), 0, 0.0
events.write("phase", phase="training")
began, cpu = time.monotonic(), time.process_time()
while (now := time.monotonic()) - began < said["seconds"]:
    due = int((now - began) * said["events"])
    while step < due:
        step += 1
        events.write("metric", step=step, values={{f"series_{{n}}": step / (n + 1) for n in range({values})}})
        if step % max(1, int(said["events"])) == 0:
            events.write("progress", step=step, total_steps=10**6, epoch=0.0, rate=1.0, eta_seconds=1.0)
            print("step", step, file=log)
    time.sleep(0.01)
spent = time.process_time() - cpu
Path(said["report"]).joinpath(f"{{os.getpid()}}.json").write_text(json.dumps([step, spent]))
events.write("done", metrics={{}})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--points", type=int, default=1000, help="a second and run")
    parser.add_argument("--seconds", type=float, default=30)
    arguments = parser.parse_args()

    from webapp.embedded import Postgres

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        script = Path(folder) / "writer.py"
        script.write_text(WRITER.format(root=str(ROOT), values=VALUES))
        postgres = Postgres(Path(folder) / "postgres")
        os.environ |= {
            "TUNEBOARD_HOME": folder,
            "DATABASE_URL": postgres.start(),
            "REDIS_URL": "redis://127.0.0.1:1/0",
            "DJANGO_SETTINGS_MODULE": "webapp.settings",
            "TUNEBOARD_TRAINER_COMMAND": f"{sys.executable} {script}",
            "TUNEBOARD_LOG_LEVEL": "ERROR",
        }
        try:
            measure(arguments, Path(folder), postgres.pid)
        finally:
            postgres.stop()


def measure(arguments: argparse.Namespace, folder: Path, postmaster: int) -> None:
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0, skip_checks=True)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start; {arguments.runs} runs")
    print(
        f"{'points/s a run':>14} {'written/s':>10} {'taken in/s':>10} {'behind, s':>9} {'worker':>7} {'a run':>7} "
        f"{'Postgres':>8} {'µs a point':>10} {'write, µs':>9} {'unread':>7}"
    )
    for points in (10, arguments.points):
        alone = write_alone(arguments, points, folder)
        row = supervise_all(arguments, points, folder, postmaster)
        print(
            f"{points:>14,} {row['written']:>10,.0f} {row['taken']:>10,.0f} {row['behind']:>9.1f} "
            f"{row['worker']:>7.1%} {row['worker'] / arguments.runs:>7.2%} {row['postgres']:>8.1%} "
            f"{row['cost']:>10.1f} {row['write']:>9.0f} {alone:>7.0f}"
        )
    ours, peer = insert_speed()
    print(
        f"a point in Postgres alone: {ours:.1f} µs by our statement, {peer:.1f} µs by COPY into a table alike "
        f"(ratio {ours / peer:.2f}); 20 × 1,000 points a second take {20_000 * ours / 1e4:.0f} % of one core there"
    )


def supervise_all(
    arguments: argparse.Namespace, points: int, folder: Path, postmaster: int
) -> dict[str, float]:
    """Shares are of one core, over the time that the writers write."""
    from django.db import connection

    from runs import lifecycle
    from runs.execution.supervise import Supervision
    from runs.execution.trainer import Trainer
    from runs.models import Attempt, Metric, Run, Worker

    reports = folder / f"reports-{points}"
    reports.mkdir()
    worker, _ = Worker.objects.get_or_create(name="w", defaults={"host": "h", "pid": 1})
    settings = {"seconds": arguments.seconds, "events": points / VALUES, "report": str(reports)}
    attempts = []
    for _ in range(arguments.runs):
        lifecycle.submit(new_run(settings), None)
        attempt = lifecycle.claim(worker, ["cpu"])
        assert attempt is not None
        attempts.append(attempt)
    trainers = [Trainer() for _ in attempts]

    def carry(attempt: Attempt, trainer: Trainer) -> None:
        Supervision(attempt, trainer, threading.Event(), {}).run()
        connection.close()

    threads = [threading.Thread(target=carry, args=pair) for pair in zip(attempts, trainers, strict=True)]
    for thread in threads:
        thread.start()
    time.sleep(3)  # they have begun
    before, began = cpu_of(postmaster), time.monotonic()
    taken_before, behind = Metric.objects.count(), 0.0
    files = [folder / "work" / f"{a.run_id}-{a.number}" / "events.jsonl" for a in attempts]
    while time.monotonic() - began < arguments.seconds - 5:
        time.sleep(1)
        offsets = dict(Attempt.objects.values_list("run_id", "events_offset"))
        for attempt, file in zip(attempts, files, strict=True):
            size = file.stat().st_size
            if size:
                written = time.monotonic() - began + 3
                behind = max(behind, (size - offsets[attempt.run_id]) / size * written)
    after, span = cpu_of(postmaster), time.monotonic() - began
    taken = (Metric.objects.count() - taken_before) / span
    for thread in threads:
        thread.join()
    told = [json.loads(path.read_text()) for path in reports.iterdir()]
    written = sum(steps for steps, _ in told)
    stored = Metric.objects.filter(run__in=[a.run_id for a in attempts]).count()
    assert stored == written * VALUES, f"{written * VALUES:,} points written, {stored:,} there"
    assert Run.objects.filter(pk__in=[a.run_id for a in attempts], status="succeeded").count() == len(
        attempts
    )
    own, postgres = (after[0] - before[0]) / span, (after[1] - before[1]) / span
    return {
        "written": written * VALUES / arguments.seconds,
        "taken": taken,
        "behind": behind,
        "worker": own,
        "postgres": postgres,
        "cost": (own + postgres) / max(1.0, taken) * 1e6,
        "write": sum(seconds for _, seconds in told) / written * 1e6,
    }


def cpu_of(postmaster: int) -> tuple[float, float]:
    """CPU seconds so far of this process and of all of Postgres, sessions that have ended included."""
    import psutil

    server = psutil.Process(postmaster)
    own = server.cpu_times()
    postgres = own.user + own.system + own.children_user + own.children_system
    for child in server.children():
        with contextlib.suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            postgres += times.user + times.system
    return time.process_time(), postgres


def write_alone(arguments: argparse.Namespace, points: int, folder: Path) -> float:
    """µs of CPU that a write of an event costs while nobody reads: as many writers, no worker."""
    import subprocess

    reports = folder / f"alone-{points}"
    reports.mkdir()
    writers = []
    for number in range(arguments.runs):
        workdir = folder / f"alone-{points}-{number}"
        workdir.mkdir()
        settings = {"seconds": 5, "events": points / VALUES, "report": str(reports)}
        (workdir / "spec.json").write_text(json.dumps({"settings": settings}))
        process = subprocess.Popen([sys.executable, str(folder / "writer.py")], stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(f"{workdir}\n".encode())
        process.stdin.flush()
        writers.append(process)
    for process in writers:
        process.wait()
    told = [json.loads(path.read_text()) for path in reports.iterdir()]
    return float(sum(seconds for _, seconds in told) / sum(steps for steps, _ in told) * 1e6)


def new_run(settings: dict[str, Any]) -> Any:
    from runs.models import Run
    from webapp.accounts.models import Workspace
    from webapp.catalog.models import BaseModel
    from webapp.datasets.models import Dataset, DatasetVersion
    from webapp.storage import local_path

    workspace, _ = Workspace.objects.get_or_create(slug="lab", defaults={"name": "Lab"})
    model, _ = BaseModel.objects.get_or_create(
        slug="b", defaults={"name": "B", "kind": "other", "source": "folder", "reference": "/nowhere"}
    )
    dataset, _ = Dataset.objects.get_or_create(workspace=workspace, name="d", status="ready")
    version, _ = DatasetVersion.objects.get_or_create(
        dataset=dataset,
        content_hash="a" * 64,
        defaults={"storage_prefix": "datasets/d", "size_bytes": 1, "rows": 3, "splits": {}, "columns": []},
    )
    place = local_path("datasets/d")
    assert place is not None
    place.mkdir(parents=True, exist_ok=True)
    return Run(
        workspace=workspace,
        base_model=model,
        dataset_version=version,
        dataset_name="d",
        dataset_hash="a" * 64,
        name="b",
        task="t",
        method="full",
        columns={},
        settings=settings,
    )


def insert_speed(batches: int = 100, size: int = 2000) -> tuple[float, float]:
    """(our statement, COPY): µs a point, wall time of one connection that does nothing else."""
    from datetime import UTC, datetime

    from django.db import connection, transaction

    from runs.execution.ingest import POINTS
    from runs.models import Run

    run = Run.objects.latest("pk").pk
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE peer (LIKE runs_metric INCLUDING ALL)")
    took = []
    now = datetime.now(UTC)
    for ours in (True, False):
        began = time.perf_counter()
        for batch in range(batches):
            steps = [10**7 + batch * size + n // VALUES for n in range(size)]
            names = [f"series_{n % VALUES}" for n in range(size)]
            with transaction.atomic(), connection.cursor() as cursor:
                if ours:
                    cursor.execute(POINTS, [run, names, steps, [0.5] * size])
                else:
                    with cursor.copy("COPY peer (run_id, series, step, value, at) FROM STDIN") as copy:
                        for name, step in zip(names, steps, strict=True):
                            copy.write_row((run, name, step, 0.5, now))
        took.append((time.perf_counter() - began) / batches / size * 1e6)
    return took[0], took[1]


if __name__ == "__main__":
    main()
