"""What may take long with files, done by a second thread while the supervising one goes on beating."""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from runs.execution.lease import Lease
from runs.execution.outputs import BrokenPromise
from runs.lifecycle import LeaseLost
from runs.training.events import TrainingFailure

log = logging.getLogger(__name__)
T = TypeVar("T")
STORAGE_WAITS = (1.0, 3.0, 9.0, 27.0, 60.0)  # seconds between tries to reach a storage that is away
LOOK_SECONDS = 0.01


class Stopped(Exception):
    """The attempt is to end before its training has begun."""


class StorageAway(Exception):
    """Files could not be fetched or stored, however often it was tried."""


class FileThread:
    """One thread that does an attempt's work with files, one piece after the other."""

    def __init__(self, name: str, lease: Lease) -> None:
        self._lease = lease
        self._abandoned = threading.Event()
        self.executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    def may_go_on(self) -> bool:
        """Asked before each piece that goes to storage: not one more once the lease has expired."""
        return not self._abandoned.is_set() and not self._lease.expired

    def abandon(self, last: Callable[[], object]) -> None:
        """Give up what is under way; `last` is the last that this thread does, whenever it comes to it."""
        self._abandoned.set()
        self.executor.submit(last)
        self.executor.shutdown(wait=False)

    def do(self, work: Callable[[], T], stop: Callable[[], bool] | None = None) -> T:
        """Have it done while the caller's lease is kept.

        `stop`: leave the work to itself and raise Stopped once this says so.
        """
        future = self.executor.submit(work)
        while not future.done():
            self._lease.keep()
            if stop is not None and stop():
                raise Stopped
            time.sleep(LOOK_SECONDS)
        return future.result()

    def do_patiently(self, work: Callable[[], T], stop: Callable[[], bool] | None = None) -> T:
        """As `do`, again and again while the storage is away; raises StorageAway in the end."""
        for wait in (*STORAGE_WAITS, None):
            try:
                return self.do(work, stop)
            except (LeaseLost, Stopped, TrainingFailure, BrokenPromise):
                raise
            except Exception as error:
                if is_disk_full(error):
                    raise
                log.warning("Files of %s: %s", self._lease.attempt, error, exc_info=True)
                if wait is None:
                    raise StorageAway(str(error)) from error
                self.do(partial(self._abandoned.wait, wait), stop)
        raise AssertionError("the last try returns or raises")


def is_disk_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
