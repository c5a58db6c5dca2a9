"""What a worker that was killed leaves on its host: work folders, and for a moment its trainers."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
from pathlib import Path

from django.conf import settings
from django.db.models.functions import Now

from runs import lifecycle
from runs.lifecycle import LeaseLost
from runs.models import Attempt, Node, Worker

log = logging.getLogger(__name__)
NOTE = "process.json"


def note_process(workdir: Path, pid: int) -> None:
    """Write down which process trains in this folder, so that a successor can tell it from others."""
    (workdir / NOTE).write_text(json.dumps({"pid": pid, "started": _started(pid)}))


def clear(worker: Worker) -> None:
    """At the start of a worker: end its predecessor's attempts and remove what they left.

    The predecessor is dead for sure, because this process holds the lock on its name; so nobody has to
    wait for its leases to expire.
    """
    for attempt in Attempt.objects.filter(worker=worker, finished_at=None):
        with contextlib.suppress(LeaseLost):
            lifecycle.lose(attempt, lifecycle.worker_lost(attempt))
    gone = {"outcome": "lost", "finished_at": Now()}
    Node.objects.filter(worker=worker, finished_at=None).update(**gone)
    sweep()


def sweep() -> None:
    """Remove the folders of attempts that are over, and end their trainers if they have not ended yet.

    A worker that was killed, and whose name nobody took over, leaves its folders to the others here.
    """
    if not settings.WORK_DIR.is_dir():
        return
    for folder in sorted(settings.WORK_DIR.iterdir()):
        if _is_over(folder):
            _end_process(folder)
            shutil.rmtree(folder, ignore_errors=True)
            log.info("Removed what was left of an earlier attempt: %s", folder.name)


def _is_over(folder: Path) -> bool:
    run, _, number = folder.name.partition("-")
    number, _, node = number.partition("-node")
    if node.isdigit() and run.isdigit() and number.isdigit():
        mine = Node.objects.filter(attempt__run=int(run), attempt__number=int(number), rank=int(node))
        return not mine.filter(finished_at=None).exists()
    if not (run.isdigit() and number.isdigit()):
        return False
    return not Attempt.objects.filter(run=int(run), number=int(number), finished_at=None).exists()


def _end_process(folder: Path) -> None:
    """Kill the trainer of this folder if it still runs: it is the same process only if it started then."""
    try:
        note = json.loads((folder / NOTE).read_text())
        pid, started = int(note["pid"]), note["started"]
    except (OSError, ValueError, KeyError):
        return
    if started is not None and _started(pid) == started:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def _started(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if it is gone or there is no /proc."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    except (OSError, IndexError, ValueError):
        return None
