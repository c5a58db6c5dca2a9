"""A run that is supervised in this process, with a scripted trainer that speaks the real protocol."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db import connection

from runs.execution.supervise import Supervision
from runs.execution.trainer import Trainer
from runs.models import Attempt, Run
from webapp import storage

SCRIPTED = [sys.executable, str(Path(__file__).with_name("scripted_trainer.py"))]


def weights_of(seed: int, steps: int) -> str:
    """What an undisturbed scripted run ends with."""
    state = str(seed)
    for step in range(1, steps + 1):
        state = hashlib.sha256(f"{state}{step}".encode()).hexdigest()
    return state


def stored_weights(run: Run) -> str:
    with storage.open_file(run.artifacts.get(name="weights.txt").storage_key) as source:
        return source.read().decode()


class Supervised:
    """An attempt that is supervised in a thread of its own, as a slot does."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.stopping = threading.Event()
        self.trainer = Trainer()
        self.supervision = Supervision(attempt, self.trainer, self.stopping, {"tuneboard": "test"})
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.supervision.run()
        connection.close()

    def join(self) -> None:
        """Until its end."""
        self._thread.join(60)
        assert not self._thread.is_alive(), "supervision does not end"

    def wait(self) -> Run:
        """Until its end; returns the run as it then stands."""
        self.join()
        run: Run = Run.objects.get(pk=self.attempt.run_id)
        return run


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.02)
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
