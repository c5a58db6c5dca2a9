"""What the dashboard costs a run: the same training through a worker and called directly.

    python benchmarks/overhead.py [--rounds 3] [--seconds 20]

Both begin with a warm trainer that has its spec; a round times, one after the other, (a) claim to `succeeded`
under supervision (events to Postgres, heartbeats, log, files to storage) and (b) the trainer alone, writing to its
work folder. The trainer is the scripted one, which takes the same time for the same steps always: what is
measured is ours alone, not the noise of a CPU's clock. Budget: 1 % (docs/architecture.md). `--real` trains the tiny
BERT of the fault tests instead.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SCRIPTED = shlex.join([sys.executable, str(ROOT / "tests/runs/execution/scripted_trainer.py")])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20, help="of training in a round")
    parser.add_argument("--real", action="store_true", help="train a tiny BERT")
    arguments = parser.parse_args()

    from tests.faults.cluster import Cluster

    home = Path(tempfile.mkdtemp(prefix="tuneboard-benchmark-"))
    cluster = Cluster(home, "" if arguments.real else SCRIPTED)
    # As deployed, not as the fault tests hurry it.
    for name in ("LEASE", "HEARTBEAT", "DISPATCH"):
        cluster.environment.pop(f"TUNEBOARD_{name}_SECONDS")
    steps = int(arguments.seconds / 0.02)
    settings = {"steps": steps, "delay": 0.02, "checkpoint_every": max(1, steps // 5)}
    if arguments.real:
        settings = {"num_train_epochs": max(1, int(arguments.seconds)), "seed": 11}
    try:
        cluster.start("worker")
        through, direct = [], []
        for _ in range(arguments.rounds):
            spec, seconds = through_worker(cluster, "real" if arguments.real else "scripted", settings)
            through.append(seconds)
            direct.append(directly(cluster, spec))
    finally:
        cluster.stop()
        shutil.rmtree(home, ignore_errors=True)
    a, b = statistics.median(through), statistics.median(direct)
    print(f"{'through a worker':<20}{a:>9.2f} s   {[round(value, 2) for value in through]}")
    print(f"{'called directly':<20}{b:>9.2f} s   {[round(value, 2) for value in direct]}")
    print(f"{'ratio':<20}{a / b:>9.4f}     budget 1.01")


def through_worker(cluster: object, kind: str, settings: dict[str, float]) -> tuple[dict[str, object], float]:
    """The spec that the worker wrote, and seconds from claim to success by the database's clock."""
    from tests.faults.cluster import Cluster, until

    assert isinstance(cluster, Cluster)
    time.sleep(8)  # the warm trainer has imported what it needs
    run = cluster.submit(kind, **settings)
    path = cluster.home / "work" / f"{run}-1" / "spec.json"
    until(path.exists)
    spec = json.loads(path.read_text())
    cluster.wait_for_success(run, 600)
    query = "SELECT extract(epoch FROM finished_at - started_at) FROM runs_run WHERE id = %s"
    return spec, float(cluster.rows(query, run)[0][0])


def directly(cluster: object, spec: dict[str, object]) -> float:
    """Seconds of a warm trainer from its spec to its exit."""
    import os
    import subprocess

    from tests.faults.cluster import Cluster

    assert isinstance(cluster, Cluster)
    workdir = Path(tempfile.mkdtemp(dir=cluster.home))
    (workdir / "spec.json").write_text(json.dumps(spec))
    command = shlex.split(cluster.environment["TUNEBOARD_TRAINER_COMMAND"]) or [
        *(sys.executable, "-m", "runs.training", "--wait")
    ]
    with (workdir / "output").open("wb") as output:
        trainer = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        time.sleep(8)
        began = time.monotonic()
        assert trainer.stdin is not None
        trainer.stdin.write(f"{workdir}\n".encode())
        trainer.stdin.flush()
        status = trainer.wait(600)
        seconds = time.monotonic() - began
    assert status == 0, (workdir / "output").read_text()
    trainer.stdin.close()
    return seconds


if __name__ == "__main__":
    main()
