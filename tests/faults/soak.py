"""Fifty small runs on four workers under random faults; it ends with fifty succeeded, or says what did not.

make soak                     15 minutes
TUNEBOARD_SOAK_MINUTES=2 TUNEBOARD_FAULT_SEED=7 make soak
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.faults import settled
from tests.faults.fleet import LEASE_SECONDS, Fleet
from tests.faults.kinds import FAULTS

RUNS, WORKERS = 50, 4
DELAY = 0.05  # seconds a step
# The web server is not here, and a message fault submits runs of its own.
LEFT_OUT = {"web_killed", "message_twice_late_or_never"}
# From the last sign of life of a lost attempt to the start of the next one.
RECOVERIES = """
SELECT extract(epoch FROM later.started_at - (lost.lease_until - %s * interval '1 second'))
FROM runs_attempt lost JOIN runs_attempt later ON later.run_id = lost.run_id AND later.number = lost.number + 1
WHERE lost.outcome = 'lost'
"""
LOST = """
SELECT sum(extract(epoch FROM finished_at - started_at) - (settings->>'steps')::int * %s) FROM runs_run
"""


@dataclass
class Figures:
    """What a soak has come to."""

    seed: int
    minutes: float
    faults: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    attempts: int = 0
    lost_attempts: int = 0
    seconds_lost: float = 0.0
    seconds_trained: float = 0.0
    recoveries: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"| {kind.replace('_', ' ')} | {count} |" for kind, count in sorted(self.faults.items())]
        waits = sorted(self.recoveries) or [0.0]
        return "\n".join(
            [
                f"seed {self.seed}, {self.minutes:g} minutes, {WORKERS} workers, leases of {LEASE_SECONDS:g} s",
                "",
                "| fault | times |",
                "| --- | --- |",
                *lines,
                f"| **all** | {self.faults.total()} |",
                "",
                "| | |",
                "| --- | --- |",
                f"| runs succeeded, as if undisturbed | {self.runs} of {RUNS} |",
                f"| attempts, of them lost | {self.attempts}, {self.lost_attempts} |",
                f"| seconds of training in them | {self.seconds_trained:.0f} |",
                f"| seconds that faults cost them (waiting, and steps done again) | {self.seconds_lost:.0f} |",
                f"| from last sign of life to next attempt, p50 | {statistics.median(waits):.1f} s |",
                f"| … p99 | {waits[min(len(waits) - 1, int(len(waits) * 0.99))]:.1f} s |",
            ]
        )


def soak(minutes: float, seed: int, home: Path) -> Figures:
    """Run it; AssertionError with the whole story if anything is not as undisturbed."""
    chance = random.Random(seed)
    figures = Figures(seed, minutes)
    fleet = Fleet(home, hosts_wanted=WORKERS, fills_up=False)  # its runs are counted
    seconds = minutes * 60
    kinds = [kind for kind in FAULTS if kind not in LEFT_OUT and (fleet.clocks or "clock" not in kind)]
    steps = max(20, int(seconds * WORKERS / RUNS * 0.4 / DELAY))
    try:
        fleet.begin()
        over = time.monotonic() + seconds
        submitting = threading.Thread(
            target=submit_all, args=(fleet, random.Random(seed + 1), steps, seconds)
        )
        submitting.start()
        while time.monotonic() < over:
            time.sleep(chance.uniform(0.5, 4))
            kind = chance.choice(kinds)
            if kind == "trainer_killed" and not fleet.trainers():
                continue
            FAULTS[kind](fleet, chance)
            figures.faults[kind] += 1
        submitting.join(120)
        assert not submitting.is_alive(), "not all runs could be submitted"
        for host in fleet.hosts:
            fleet.step_clock(host.clock, 0)
        figures.runs = settled.check(fleet, seconds=300 + seconds)
        assert figures.runs == RUNS, f"{figures.runs} runs, not {RUNS}"
        figures.attempts = fleet.rows("SELECT count(*) FROM runs_attempt")[0][0]
        figures.lost_attempts = fleet.rows("SELECT count(*) FROM runs_attempt WHERE outcome = 'lost'")[0][0]
        figures.recoveries = [float(row[0]) for row in fleet.rows(RECOVERIES, LEASE_SECONDS)]
        figures.seconds_lost = float(fleet.rows(LOST, DELAY)[0][0])
        figures.seconds_trained = RUNS * steps * DELAY
    finally:
        fleet.stop()
    assert not fleet.ours(), "processes were left behind"
    return figures


def submit_all(fleet: Fleet, chance: random.Random, steps: int, seconds: float) -> None:
    """One after the other, spread over four fifths of the time."""
    for _ in range(RUNS):
        settings = {"steps": steps, "delay": DELAY, "checkpoint_every": chance.choice([5, 10, 25])}
        fleet.ask(kind="scripted", settings={**settings, "seed": chance.randrange(1000)})
        time.sleep(seconds * 0.8 / RUNS)


def main() -> None:
    minutes = float(os.environ.get("TUNEBOARD_SOAK_MINUTES") or 15)
    seed = int(os.environ.get("TUNEBOARD_FAULT_SEED") or random.SystemRandom().randrange(10**6))
    print(f"TUNEBOARD_FAULT_SEED={seed}, {minutes:g} minutes", flush=True)
    home = Path(tempfile.mkdtemp(prefix="tuneboard-soak-"))
    try:
        print(soak(minutes, seed, home))
    except BaseException:
        print(f"failed: TUNEBOARD_FAULT_SEED={seed} TUNEBOARD_SOAK_MINUTES={minutes:g} make soak", flush=True)
        raise
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
