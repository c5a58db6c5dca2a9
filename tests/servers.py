"""Real Postgres and Valkey on throw-away data, started as a pytest plugin (`-p tests.servers`).

A plugin and not a conftest: Django's settings read the environment when pytest-django imports them,
which is before any conftest is.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_home = Path(tempfile.mkdtemp(prefix="tuneboard-test-"))
os.environ["TUNEBOARD_HOME"] = str(_home)
os.environ["TUNEBOARD_LOG_LEVEL"] = "WARNING"
os.environ["HF_HUB_OFFLINE"] = "1"
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    # OpenMP's threads wait for each other by spinning: two trainers with two each on two cores crawl.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))
for name in ("STORAGE_URL", "TUNEBOARD_URL", "TUNEBOARD_PORT", "SECRET_KEY"):
    os.environ.pop(name, None)

from webapp.embedded import Postgres, Valkey

postgres = Postgres(_home / "postgres")
valkey = Valkey(_home / "valkey")
os.environ["DATABASE_URL"] = postgres.start()
os.environ["REDIS_URL"] = valkey.start()


def _stop_servers() -> None:
    valkey.stop()
    postgres.stop()
    shutil.rmtree(_home, ignore_errors=True)


atexit.register(_stop_servers)
