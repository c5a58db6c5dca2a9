"""A warm trainer has behind it what would else come between the click and the first step."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import gc, sys
from runs.training.__main__ import warm_up
warm_up()
for name in ("torch", "transformers", "datasets", "scipy.io", "sklearn.metrics", "runs.training.fitting"):
    assert name in sys.modules, name
assert gc.get_freeze_count() > 100_000, "each collection looks through all that was imported"
"""


def test_what_every_run_needs_is_there_before_the_run_is() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
