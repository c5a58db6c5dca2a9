"""Trainings in processes of their own that share one import of torch: they can be killed, and start at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

PRELOADED = (
    "runs.training.classification",
    "runs.training.head",
    "runs.training.language",
    "sklearn.linear_model",
    "tests.training.forked",
)
_forking = multiprocessing.get_context("forkserver")
_forking.set_forkserver_preload(list(PRELOADED))


class Training:
    """The training program on a work folder, in a process that was forked for it."""

    def __init__(self, workdir: Path) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # the first one starts the server that forks
        self.workdir = workdir
        self._process = _forking.Process(target=_train, args=(workdir,), daemon=True)
        self._process.start()

    @property
    def running(self) -> bool:
        return self._process.is_alive()

    def signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait(self) -> int:
        """Its exit status, or minus the signal that ended it."""
        self._process.join(300)
        assert self._process.exitcode is not None, "it does not end"
        return self._process.exitcode

    def until(self, condition: Callable[[], bool]) -> bool:
        """Wait for something while it runs; False if it has ended before."""
        while not condition():
            if not self.running:
                return condition()
            time.sleep(0.002)
        return True

    @property
    def log(self) -> str:
        return (self.workdir / "log.txt").read_text()


def _train(workdir: Path) -> None:
    import torch

    from runs.training.__main__ import train

    torch.set_num_threads(1)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    sys.exit(train(workdir, stop, log=workdir / "log.txt"))
