"""How long inspecting and converting a CSV takes, and how much memory it needs.

    python benchmarks/inspect_csv.py [ROWS …]

Budget (DESIGN §8): 1,000,000 rows (300 MB) in at most 10 s and 1 GB, memory flat: the peak does not grow with the rows.
Wall and CPU seconds, and what of it the looks for what spoils training take (webapp/datasets/findings), since those read
all rows once more. On a machine that others use, CPU seconds are what can be compared.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

BUDGET_SECONDS = 10.0
WORDS = [
    "the",
    "film",
    "was",
    "a",
    "slow",
    "but",
    "honest",
    "look",
    "at",
    "how",
    "people",
    "lose",
    "and",
    "find",
    "each",
    "other",
    "again",
]


def write_csv(path: Path, rows: int) -> None:
    """Reviews of about 300 characters with a rating, a number and a label of five classes."""
    draw = random.Random(0)
    with path.open("w") as target:
        target.write("id,review,stars,price,label\n")
        for number in range(rows):
            text = " ".join(draw.choices(WORDS, k=60))
            label = draw.choice(("good", "bad", "mixed", "unsure", "odd"))
            target.write(f'{number},"{text}, {number}",{draw.randint(1, 5)},{draw.random():.4f},{label}\n')


@dataclass
class Measured:
    """`looks` and `looks_cpu`: seconds of what is in `seconds` and `cpu`."""

    seconds: float
    cpu: float
    looks: float
    looks_cpu: float
    peak: float  # MB
    size: float  # MB of the file


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(rows: int) -> Measured:
    """In a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", str(rows)], check=True, capture_output=True, text=True
    )
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def one(rows: int) -> None:
    from webapp.datasets import findings
    from webapp.datasets.conversion import Order, convert_files

    spent: list[float] = []
    look = findings.look

    def timed(*given: Any) -> None:
        wall, cpu = time.perf_counter(), cpu_seconds()
        look(*given)
        spent.extend((time.perf_counter() - wall, cpu_seconds() - cpu))

    findings.look = timed
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        output, scratch = folder / "output", folder / "scratch"
        output.mkdir()
        scratch.mkdir()
        write_csv(folder / "rows.csv", rows)
        order = Order([(str(folder / "rows.csv"), "rows.csv")])
        wall, cpu = time.perf_counter(), cpu_seconds()
        made = convert_files(order, output, scratch, lambda *_: None)
        seconds, used = time.perf_counter() - wall, cpu_seconds() - cpu
        assert made.rows == rows
        size = (folder / "rows.csv").stat().st_size / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps(asdict(Measured(seconds, used, *spent, peak, size))))


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        one(int(sys.argv[2]))
        return
    print(
        f"{'rows':>10} {'file':>9} {'seconds':>8} {'CPU':>7} {'rows/s':>10} {'peak memory':>12} {'of budget':>10}"
        f" {'looks':>9} {'CPU':>7} {'with/without':>13}"
    )
    for rows in [int(each) for each in sys.argv[1:]] or [100_000, 1_000_000, 3_000_000]:
        found = measure(rows)
        share = found.seconds / (BUDGET_SECONDS * rows / 1e6)
        ratio = found.cpu / (found.cpu - found.looks_cpu)
        print(
            f"{rows:>10,} {found.size:>6.0f} MB {found.seconds:>8.2f} {found.cpu:>7.2f} {rows / found.seconds:>10,.0f}"
            f" {found.peak:>9.0f} MB {share:>10.2f} {found.looks:>7.2f} s {found.looks_cpu:>7.2f} {ratio:>13.2f}"
        )


if __name__ == "__main__":
    main()
