"""How many runs a second workers can claim, finish and claim the next, all from one queue.

    python benchmarks/claim.py [--runs 2000] [--claimers 1 4 16]

Peer: the same number of bare `SELECT … FOR UPDATE SKIP LOCKED` + `UPDATE` transactions on the same rows, which
is what the database could do at best.
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
            measure(arguments.runs, arguments.claimers)
        finally:
            postgres.stop()


def measure(runs: int, claimers: list[int]) -> None:
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import connection, transaction

    from runs import lifecycle
    from runs.models import Run, Worker
    from webapp.accounts.models import Workspace
    from webapp.catalog.models import BaseModel

    call_command("migrate", verbosity=0, skip_checks=True)
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

    def bare() -> bool:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT id FROM runs_run WHERE status = 'queued' AND queue = 'cpu' ORDER BY queued_at, id "
                "LIMIT 1 FOR UPDATE SKIP LOCKED"
            )
            if (row := cursor.fetchone()) is None:
                return False
            cursor.execute("UPDATE runs_run SET status = 'succeeded' WHERE id = %s", row)
        return True

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
