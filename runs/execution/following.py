"""One more host of an attempt, from the take-up of its part to its end, in the thread of a slot.

It fetches what the leader fetched, trains as node r of the run, and says how that ended. Everything that
people see comes from the leader, but for this host's log.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from runs.execution import failures, gang, inputs, leftovers, outputs
from runs.execution.event_file import EventFile
from runs.execution.lease import LOOK_SECONDS, WATCH_SECONDS
from runs.execution.lease import now as by_own_clock
from runs.execution.log_keeper import LogKeeper
from runs.execution.outages import AWAY, through_outages
from runs.execution.trainer import Trainer
from runs.lifecycle import LeaseLost
from runs.models import Attempt, Node
from runs.training.events import TrainingFailure
from runs.training.spec import RunSpec
from webapp import storage

log = logging.getLogger(__name__)
T = TypeVar("T")
TICK_SECONDS = 0.1
LOG_SECONDS = 1.0  # between two pieces of the log; few look at the log of a host that does not lead
DONE, FAILED_FOR_A_REASON, STOPPED = 0, 1, 3


class LetGo(Exception):
    """The attempt is over, or this host has lost its part of it: nothing may be left running."""


class Following:
    """Carries one node to its end. `run` returns when nothing of it is left on this host."""

    def __init__(
        self,
        node: Node,
        trainer: Trainer,
        stopping: threading.Event,
        versions: dict[str, str],
        devices: Sequence[int] | None = None,
    ) -> None:
        self._node, self._attempt, self._trainer = node, node.attempt, trainer
        self._stopping, self._versions, self._devices = stopping, versions, devices
        name = f"{self._attempt.run_id}-{self._attempt.number}-node{node.rank}"
        self._workdir = settings.WORK_DIR / name
        self._events = EventFile(self._workdir / "events.jsonl")
        self._files = ThreadPoolExecutor(1, thread_name_prefix=f"node-{node.pk}")
        self._log = LogKeeper(self._attempt, self._workdir / "log.txt", node)
        now = by_own_clock()
        self._expires = now + settings.LEASE_SECONDS
        self._next_look = self._next_log = now
        self._over = threading.Event()
        self._said_leaving = False
        self._watchdog = threading.Thread(target=self._watch, name=f"node-{node.pk}", daemon=True)

    def run(self) -> None:
        """To the end, whatever that is. Never raises for what goes wrong with one run."""
        name = f"run {self._attempt.run_id}, attempt {self._attempt.number}, host {self._node.rank + 1}"
        log.info("%s: started.", name)
        self._watchdog.start()
        try:
            self._train()
        except (LetGo, LeaseLost) as reason:
            log.info("%s: let go: %s", name, reason)
            self._trainer.kill()
            self._finish("done")
        except TrainingFailure as problem:
            self._finish("failed", failures.failure(problem.code, problem.message, problem.hint, ""))
        except Exception as error:
            log.exception("%s: cannot go on.", name)
            self._trainer.kill()
            self._finish("lost", failures.worker_fault(error, self._log_tail()))
        finally:
            self._trainer.kill()
            self._files.shutdown(wait=False, cancel_futures=True)
            self._over.set()
            self._watchdog.join()
            shutil.rmtree(self._workdir, ignore_errors=True)
        log.info("%s: over.", name)

    def _train(self) -> None:
        shutil.rmtree(self._workdir, ignore_errors=True)
        self._workdir.mkdir(parents=True)
        leftovers.note_process(self._workdir, self._trainer.pid)
        self._store(lambda: gang.note_devices(self._node, self._devices or ()))
        while not (attempt := self._store(self._read_attempt)).rendezvous:
            self._keep()
            time.sleep(TICK_SECONDS)
        spec = self._fetch(attempt)
        spec.write(self._workdir)
        self._trainer.train(self._workdir)
        while (status := self._trainer.status()) is None:
            self._keep()
            self._show_log()
            time.sleep(TICK_SECONDS)
        self._conclude(status)

    def _read_attempt(self) -> Attempt:
        found: Attempt = Attempt.objects.select_related("run").get(pk=self._attempt.pk)
        return found

    def _fetch(self, attempt: Attempt) -> RunSpec:
        """What the leader trains with: from the very checkpoint that it goes on from."""
        needs = self._store(lambda: inputs.needs_of(attempt, self._versions))
        needs.checkpoints = [item for item in needs.checkpoints if item.step == attempt.resumed_from_step]
        future = self._files.submit(inputs.fetch, needs, self._workdir)
        while not future.done():
            self._keep()
            time.sleep(TICK_SECONDS)
        found = future.result()
        if found.resumed_from != attempt.resumed_from_step:
            raise RuntimeError(
                f"the checkpoint at step {attempt.resumed_from_step:,} could not be read: {found.damaged}"
            )
        return dataclasses.replace(
            found.spec,
            devices=list(self._devices) if self._devices is not None else None,
            node_rank=self._node.rank,
            rendezvous=attempt.rendezvous,
            address=gang.own_address(),
        )

    def _conclude(self, status: int) -> None:
        ending: dict[str, Any] = {}
        for line in self._events.read():
            ending = line.event
        tail = self._log_tail()
        host = f"On host {self._node.rank + 1}: "
        if status in {DONE, STOPPED}:
            self._finish("done")
        elif ending.get("type") == "failed" and status == FAILED_FOR_A_REASON:
            self._finish("failed", failures.reported(ending, tail))
        elif ending.get("type") == "lost":
            self._finish("lost", failures.rank_lost(ending, tail, host))
        elif status < 0:
            self._finish("lost", failures.killed(-status, out_of_memory=False, log_tail=tail))
        else:
            self._finish("failed", failures.left_without_reason(status, tail))

    # -- the lease ---------------------------------------------------------------------------------
    def _keep(self) -> None:
        """Beat, and see whether the attempt still is under way. Raises LetGo."""
        sent = by_own_clock()
        if sent < self._next_look:
            return
        if not self._store(self._beat):
            raise LetGo("the attempt is over")
        self._expires = sent + settings.LEASE_SECONDS
        self._next_look = by_own_clock() + LOOK_SECONDS
        if self._stopping.is_set() and not self._said_leaving:
            self._store(lambda: Node.objects.filter(pk=self._node.pk).update(leaving=True))
            self._said_leaving = True

    def _beat(self) -> bool:
        mine = Node.objects.filter(pk=self._node.pk, finished_at=None, attempt__finished_at=None)
        return bool(mine.update(lease_until=Now() + timedelta(seconds=settings.LEASE_SECONDS)))

    def _store(self, operation: Callable[[], T]) -> T:
        try:
            return through_outages(operation, give_up=lambda: self._expired)
        except AWAY as error:
            raise LetGo("the database was away for longer than the lease lasts") from error

    @property
    def _expired(self) -> bool:
        return by_own_clock() >= self._expires

    def _watch(self) -> None:
        """Kill the trainer when the lease has run out, whatever the other thread hangs in."""
        while not self._over.wait(min(max(0.05, self._expires - by_own_clock()), WATCH_SECONDS)):
            if self._expired:
                self._trainer.kill()
                return

    # -- what is told ------------------------------------------------------------------------------
    def _show_log(self) -> None:
        if by_own_clock() >= self._next_log and (piece := self._log.next()):
            self._store(partial(self._log.keep, piece))
            self._next_log = by_own_clock() + LOG_SECONDS

    def _log_tail(self) -> str:
        return outputs.tail_of(self._workdir / "log.txt") or self._trainer.early_output().replace("\x00", "")

    def _finish(self, outcome: str, failure: dict[str, Any] | None = None) -> None:
        """Say how it ended and keep the log; the leader ends the attempt if it has to."""
        run, host = self._attempt.run_id, self._node.rank + 1
        mine, tail = Node.objects.filter(pk=self._node.pk, finished_at=None), self._log_tail()
        told = {"outcome": outcome, "failure": failure or {}, "log_tail": tail}
        try:
            # At once: the leader may be waiting to hear why.
            if not self._store(lambda: mine.update(**told)):
                raise LetGo("it has lost its part")
            try:
                self._keep_whole_log(tail)
            except (LetGo, LeaseLost):
                raise
            except Exception:  # what was taken in of it stays in the database
                log.warning("Run %s: the log of host %s could not be stored.", run, host, exc_info=True)
            self._store(lambda: mine.update(finished_at=Now()))
        except (LetGo, LeaseLost) as lost:
            log.warning("Run %s: the end of host %s is not told: %s", run, host, lost)
        except Exception:  # the leader sees the lease run out
            log.exception("Run %s: the end of host %s could not be stored.", run, host)
        finally:
            connection.close()

    def _keep_whole_log(self, tail: str) -> None:
        path = self._workdir / "log.txt"
        if not path.exists() and tail:  # it never came to open its log
            path.write_text(tail)
        while piece := self._log.next() or self._log.finish():
            self._store(partial(self._log.keep, piece))
        if whole := self._log.collect(self._workdir / "log-to-store.txt"):
            size = whole.stat().st_size
            storage.put(whole, self._log.key, go_on=lambda: not self._expired)
            self._store(lambda: self._log.stored(size))
