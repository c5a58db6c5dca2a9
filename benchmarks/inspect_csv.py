"""How long inspecting and converting a CSV takes, and how much memory it needs.

    python benchmarks/inspect_csv.py [ROWS …]

Budget (DESIGN §8): 1,000,000 rows in at most 10 s, memory flat: the peak does not grow with the rows.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
    """Reviews of about 90 characters with a rating, a number and a label of five classes."""
    draw = random.Random(0)
    with path.open("w") as target:
        target.write("id,review,stars,price,label\n")
        for number in range(rows):
            text = " ".join(draw.choices(WORDS, k=18))
            label = draw.choice(("good", "bad", "mixed", "unsure", "odd"))
            target.write(f'{number},"{text}, {number}",{draw.randint(1, 5)},{draw.random():.4f},{label}\n')


def measure(rows: int) -> tuple[float, float, float]:
    """(seconds, peak memory in MB, size of the file in MB), in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", str(rows)], check=True, capture_output=True, text=True
    )
    seconds, peak, size = json.loads(done.stdout.splitlines()[-1])
    return seconds, peak, size


def one(rows: int) -> None:
    from webapp.datasets.conversion import Order, convert_files

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        output, scratch = folder / "output", folder / "scratch"
        output.mkdir()
        scratch.mkdir()
        write_csv(folder / "rows.csv", rows)
        order = Order([(str(folder / "rows.csv"), "rows.csv")])
        started = time.perf_counter()
        made = convert_files(order, output, scratch, lambda *_: None)
        seconds = time.perf_counter() - started
        assert made.rows == rows
        size = (folder / "rows.csv").stat().st_size / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps([seconds, peak, size]))


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        one(int(sys.argv[2]))
        return
    print(f"{'rows':>10} {'file':>9} {'seconds':>8} {'rows/s':>10} {'peak memory':>12} {'of budget':>10}")
    for rows in [int(each) for each in sys.argv[1:]] or [100_000, 1_000_000, 3_000_000]:
        seconds, peak, size = measure(rows)
        share = seconds / (BUDGET_SECONDS * rows / 1e6)
        print(
            f"{rows:>10,} {size:>6.0f} MB {seconds:>8.2f} {rows / seconds:>10,.0f} {peak:>9.0f} MB {share:>10.2f}"
        )


if __name__ == "__main__":
    main()
