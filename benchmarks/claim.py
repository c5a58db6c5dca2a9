"""How long a claim takes with a full table, and how many runs a second workers can claim and finish.

    python benchmarks/claim.py [--rows 100000] [--workspaces 50] [--runs 2000] [--claimers 1 4 16]

The first table has so many queued and past runs in so many workspaces, with limits, weights, priorities, several
queues and memory estimates. Limit: 5 ms a claim (docs/architecture.md has what a claim decides).

Peer of both: bare `SELECT … FOR UPDATE SKIP LOCKED` + `UPDATE` transactions on the same rows, which take whatever
is oldest: what the database could do at best, without shares, limits or events.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--workspaces", type=int, default=50)
    parser.add_argument("--claims", type=int, default=300)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--claimers", type=int, nargs="+", default=[1, 4, 16])
    arguments = parser.parse_args()

    from webapp.embedded import Postgres

    with tempfile.TemporaryDirectory() as folder:
        postgres = Postgres(Path(folder) / "postgres")
        os.environ |= {
            "TUNEBOARD_HOME": folder,
            "DATABASE_URL": postgres.start(),
            "REDIS_URL": "",
            "DJANGO_SETTINGS_MODULE": "webapp.settings",
        }
        try:
            import django

            django.setup()
            from django.core.management import call_command

            call_command("migrate", verbosity=0, skip_checks=True)
            full_table(arguments.rows, arguments.workspaces, arguments.claims)
            measure(arguments.runs, arguments.claimers)
        finally:
            postgres.stop()


def full_table(rows: int, workspaces: int, claims: int) -> None:
    """Milliseconds of single claims, one after the other, by a worker of one GPU and its CPU queue."""
    import random
    from datetime import timedelta

    from django.db import connection
    from django.utils import timezone

    from runs import lifecycle
    from runs.models import Attempt, Run, Usage, Worker
    from webapp.accounts.models import Workspace
    from webapp.catalog.models import BaseModel

    chance = random.Random(7)
    model = BaseModel.objects.create(slug="full", name="B", kind="other", source="folder", reference="/")
    devices = [{"index": 0, "name": "G", "memory_bytes": 24 * 10**9}]
    worker = Worker.objects.create(name="full", host="h", pid=1, devices=devices, queues=["cpu", "gpu1"])
    places = [
        Workspace.objects.create(
            name=f"Lab {n}",
            slug=f"lab-{n}",
            queue_weight=chance.choice((0.5, 1, 1, 2)),
            max_concurrent_runs=chance.choice((None, None, 3, 1000)),
            gpu_hours_a_day=chance.choice((None, 500)),
        )
        for n in range(workspaces)
    ]
    Usage.objects.bulk_create(
        Usage(workspace=place, day=timezone.localdate(), gpu_seconds=n * 60, slot_seconds=n * 90)
        for n, place in enumerate(places)
    )
    now = timezone.now()

    def run(n: int) -> Run:
        priority = chance.choice((-1, 0, 0, 0, 1))
        return Run(
            workspace=places[n % workspaces],
            base_model=model,
            name="b",
            dataset_name="d",
            dataset_hash="",
            task="t",
            method="full",
            columns={},
            settings={},
            status="queued" if n % 2 else chance.choice(("succeeded", "failed", "cancelled")),
            queue=chance.choice(("cpu", "gpu1", "gpu1", "gpu4")),
            priority=priority,
            rank=priority,
            waits_for=chance.choice(("", "", "", "", "run")) if n % 2 else "",
            memory_bytes=chance.choice((None, 10**9, 8 * 10**9, 40 * 10**9, 70 * 10**9)),
            queued_at=now - timedelta(seconds=chance.randrange(10**5)),
        )

    for first in range(0, rows, 5000):
        Run.objects.bulk_create(run(n) for n in range(first, min(first + 5000, rows)))
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE runs_run")
        cursor.execute("CHECKPOINT")  # what was filled in is written before, not beside, what is measured

    at_work: list[Attempt] = []

    def claim() -> None:
        attempt = lifecycle.claim(worker, worker.queues)
        assert attempt is not None
        at_work.append(attempt)

    print(f"{rows:,} runs, half of them queued, in {workspaces} workspaces; milliseconds a claim")
    print(f"{'':>14} {'median':>8} {'p95':>8} {'worst':>8}")
    medians = []
    for name, take in (("claim", claim), ("bare", lambda: bare("('cpu', 'gpu1')"))):
        if name == "bare":  # with an index made for it
            with connection.cursor() as cursor:
                cursor.execute(
                    "CREATE INDEX bare ON runs_run (queued_at, id) WHERE status = 'queued' AND waits_for = ''"
                )
                cursor.execute("VACUUM ANALYZE runs_run")
        took = []
        for _ in range(claims):
            began = time.perf_counter()
            take()
            took.append(1000 * (time.perf_counter() - began))
            if len(at_work) > 20:  # so many run at once
                lifecycle.succeed(at_work.pop(0), {})
        took.sort()
        medians.append(took[claims // 2])
        print(f"{name:>14} {took[claims // 2]:>8.2f} {took[int(claims * 0.95)]:>8.2f} {took[-1]:>8.2f}")
    print(
        f"{'ratio':>14} {medians[0] / medians[1]:>8.2f}   limit: 5 ms: {'kept' if medians[0] <= 5 else 'BROKEN'}\n"
    )
    Run.objects.all().delete()


def bare(queues: str = "('cpu')") -> bool:
    """Take the oldest run of these queues with what the database needs at least."""
    from django.db import connection, transaction

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"SELECT id FROM runs_run WHERE status = 'queued' AND waits_for = '' AND queue IN {queues} "
            "ORDER BY queued_at, id LIMIT 1 FOR UPDATE SKIP LOCKED"
        )
        if (row := cursor.fetchone()) is None:
            return False
        cursor.execute("UPDATE runs_run SET status = 'succeeded' WHERE id = %s", row)
    return True


def measure(runs: int, claimers: list[int]) -> None:
    from runs import lifecycle
    from runs.models import Run, Worker
    from webapp.accounts.models import Workspace
    from webapp.catalog.models import BaseModel

    workspace = Workspace.objects.create(name="Lab", slug="lab")
    model = BaseModel.objects.create(slug="b", name="B", kind="other", source="folder", reference="/")
    worker = Worker.objects.create(name="w", host="h", pid=1)

    def refill() -> None:
        Run.objects.all().delete()
        Run.objects.bulk_create(
            Run(
                workspace=workspace,
                base_model=model,
                name="b",
                dataset_name="d",
                dataset_hash="",
                task="t",
                method="full",
                columns={},
                settings={},
            )
            for _ in range(runs)
        )

    def claim() -> bool:
        attempt = lifecycle.claim(worker, ["cpu"])
        if attempt is not None:
            lifecycle.succeed(attempt, {})
        return attempt is not None

    print(f"{'claimers':>8} {'runs/s':>9} {'bare/s':>9} {'ratio':>7}")
    for count in claimers:
        rates = []
        for take in (claim, bare):
            refill()
            rates.append(runs / timed(take, count))
        print(f"{count:>8} {rates[0]:>9.0f} {rates[1]:>9.0f} {rates[0] / rates[1]:>7.2f}")


def timed(take: Callable[[], bool], threads: int) -> float:
    """Seconds until so many threads have emptied the queue."""
    from django.db import connection

    def drain() -> None:
        while take():
            pass
        connection.close()

    began = time.monotonic()
    workers = [threading.Thread(target=drain) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.monotonic() - began


if __name__ == "__main__":
    main()
