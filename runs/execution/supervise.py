"""One attempt from its claim to its end, in the thread of the slot that took it.

The thread beats, takes in events, and watches the trainer; whatever may take long with files (fetching
inputs, copying checkpoints, storing the result) is done by a second thread meanwhile.
"""

from __future__ import annotations

import dataclasses
import errno
import logging
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from django.conf import settings
from django.db import connection

from runs import lifecycle
from runs.execution import cached, checkpoints, failures, gang, inputs, leftovers, outputs, stopping, tidying
from runs.execution.event_file import EventFile
from runs.execution.ingest import take_in
from runs.execution.lease import LOOK_SECONDS, Lease
from runs.execution.log_keeper import LogKeeper
from runs.execution.stopping import TimeLimit
from runs.execution.trainer import Trainer, oom_kills
from runs.lifecycle import LeaseLost
from runs.models import Artifact, Attempt, Run
from runs.training.events import TrainingFailure
from webapp import storage

log = logging.getLogger(__name__)
T = TypeVar("T")
TICK_SECONDS = 0.1
EVENTS_SECONDS = 0.5  # between two batches of events
LOG_SECONDS = 0.5  # between two pieces of the log; with the page's poll they are seen within 2 s
STORAGE_WAITS = (1.0, 3.0, 9.0, 27.0, 60.0)  # seconds between tries to reach a storage that is away
NO_ROOM_BYTES = 4 << 20
DONE, FAILED_FOR_A_REASON, STOPPED, LOST = 0, 1, 3, 4  # the trainer's exit statuses


class Stopped(Exception):
    """The attempt is to end before its training has begun."""


class StorageAway(Exception):
    """Files could not be fetched or stored, however often it was tried."""


class Supervision:
    """Carries one attempt to its end. `run` returns when nothing of it is left on this host."""

    def __init__(
        self,
        attempt: Attempt,
        trainer: Trainer,
        stopping: threading.Event,
        versions: dict[str, str],
        devices: Sequence[int] | None = None,
    ) -> None:
        """`trainer` is a warm one; `stopping` says that this worker is shutting down.

        `devices`: indexes of the GPUs that the run gets; None leaves it all that there are.
        """
        self._devices = devices
        self._others = gang.Others()
        self._next_look_at_others = 0.0
        self._others_ended_at: float | None = None
        self._attempt = attempt
        self._trainer = trainer
        self._stopping = stopping
        self._versions = versions
        self._workdir = settings.WORK_DIR / f"{attempt.run_id}-{attempt.number}"
        self._events = EventFile(self._workdir / "events.jsonl")
        self._ending: dict[str, Any] = {}
        self._artifacts: dict[str, Any] | None = None
        self._copies: list[tuple[dict[str, Any], Future[int], Path]] = []  # event, copying, its source
        self._copied = 0
        self._asked_at: float | None = None
        self._limit: TimeLimit | None = None
        self._time_is_up = False
        self._started = time.monotonic()
        self._log = LogKeeper(attempt, self._workdir / "log.txt")
        self._next_log = self._next_events = 0.0
        self._abandoned = threading.Event()
        self._files = ThreadPoolExecutor(1, thread_name_prefix=f"files-{attempt.pk}")
        self._lease = Lease(attempt, on_expiry=trainer.kill)

    def run(self) -> None:
        """To the end, whatever that is. Never raises for what goes wrong with one run."""
        name = f"run {self._attempt.run_id}, attempt {self._attempt.number}"
        log.info("%s: started.", name)
        try:
            self._run()
        except LeaseLost as error:
            log.warning("%s: given up: %s", name, error)
        except Exception as error:
            log.exception("%s: cannot go on.", name)
            self._end_by_fault(error)
        finally:
            self._abandoned.set()
            self._trainer.kill()
            for pending in self._copies:
                pending[1].cancel()
            self._files.submit(self._tidy)  # the last that this thread does
            self._files.shutdown(wait=False)
            self._lease.end()
            shutil.rmtree(self._workdir, ignore_errors=True)
            cached.release(self._workdir)
        log.info("%s: over.", name)

    def _run(self) -> None:
        try:
            self._prepare()
        except Stopped:
            self._store(lambda: lifecycle.leave(self._attempt))
            return
        except StorageAway as error:
            missing = failures.could_not_fetch(error, self._log_tail())
            self._end(lambda: lifecycle.lose(self._attempt, missing))
            return
        except TrainingFailure as problem:
            told = failures.failure(problem.code, problem.message, problem.hint, "", problem.details)
            self._end(lambda: lifecycle.fail(self._attempt, told))
            return
        ooms_before = oom_kills()
        self._trainer.train(self._workdir)
        while (status := self._trainer.status()) is None:
            self._tick()
            time.sleep(TICK_SECONDS)
        while self._take_in():  # whatever it wrote last
            self._lease.keep()
        self._conclude(status, ran_out_of_memory=oom_kills() > ooms_before)

    # -- before ------------------------------------------------------------------------------------
    def _prepare(self) -> None:
        shutil.rmtree(self._workdir, ignore_errors=True)
        self._workdir.mkdir(parents=True)
        leftovers.note_process(self._workdir, self._trainer.pid)
        self._store(lambda: gang.note_devices(self._attempt, self._devices or ()))
        needs = self._store(lambda: inputs.needs_of(self._attempt, self._versions))
        self._limit = self._store(lambda: stopping.limit_of(self._attempt))
        found = self._patiently(lambda: inputs.fetch(needs, self._workdir), unless_stopped=True)
        for step, reason in found.damaged.items():
            self._store(partial(checkpoints.forget, self._attempt, step, reason))
        if found.resumed_from is not None:
            self._store(partial(checkpoints.resumed, self._attempt, found.resumed_from))
        devices = None if self._devices is None else list(self._devices)
        spec = dataclasses.replace(found.spec, devices=devices)
        self._store(lambda: gang.lead(self._attempt, spec)).write(self._workdir)
        if self._must_stop():
            raise Stopped

    # -- while it trains ---------------------------------------------------------------------------
    def _tick(self) -> None:
        self._lease.keep()
        self._take_in_if_due()
        self._finish_copies()
        self._show_log()
        self._look_at_others()
        if self._limit is not None and time.monotonic() - self._started > self._limit.seconds:
            self._time_is_up = True
        if self._must_stop() or self._time_is_up:
            self._stop_trainer()

    def _must_stop(self) -> bool:
        leaving = self._stopping.is_set() or self._others.leaving
        return leaving or self._lease.desired != Run.Desired.GO_ON

    def _look_at_others(self) -> None:
        """A run on several hosts ends here when it has ended there."""
        now = time.monotonic()
        if self._attempt.run.nodes > 1 and now >= self._next_look_at_others:
            self._next_look_at_others = now + LOOK_SECONDS
            self._others = self._store(lambda: gang.look_at_others(self._attempt))
        if self._others.failure is not None:
            # Its own processes end by themselves when the others are gone, and may know better why.
            self._others_ended_at = self._others_ended_at or now
            if now - self._others_ended_at > gang.patience(self._attempt):
                self._trainer.kill()

    def _stop_trainer(self) -> None:
        now = time.monotonic()
        if self._asked_at is None:
            self._asked_at = now
            self._trainer.stop()
            self._store(partial(stopping.tell_stopping, self._attempt, self._why_stopped()))
        elif now - self._asked_at > settings.STOP_GRACE_SECONDS:
            self._trainer.kill()

    def _why_stopped(self) -> str:
        if self._lease.desired == Run.Desired.PAUSE:
            return "Pausing"
        if self._lease.desired == Run.Desired.CANCEL:
            return "Stopping"
        return "The worker is shutting down" if self._stopping.is_set() else "The time limit is reached"

    def _take_in_if_due(self) -> None:
        """At once after a quiet time, then in batches: a transaction costs as much as some hundred points."""
        now = time.monotonic()
        if now >= self._next_events and self._events.has_more:
            self._take_in()
            self._next_events = now if self._events.is_behind else now + EVENTS_SECONDS

    def _take_in(self) -> bool:
        """Store new events and note what is to be done for them; False if there were none."""
        lines = self._events.read()
        for line in lines:
            event = line.event
            if event["type"] == "checkpoint":
                self._copy_checkpoint(event)
            elif event["type"] == "artifacts":
                self._artifacts = event
            elif event["type"] in {"done", "stopped", "failed", "lost"}:
                self._ending = event
        self._store(lambda: take_in(self._attempt, lines))
        return bool(lines)

    def _copy_checkpoint(self, event: dict[str, Any]) -> None:
        """Begin copying a checkpoint to storage, from links that its deletion by the trainer leaves."""
        step = int(event["step"])
        if keep := event.get("keep"):
            for earlier, copy, _ in self._copies:
                if earlier["step"] not in keep and earlier["step"] != step:
                    copy.cancel()  # overtaken before its turn came
        source = (self._workdir / event["path"]).resolve()
        self._copied += 1  # the same step may be announced again while its first copy is under way
        links = self._workdir / "outbox" / f"{self._copied}-{step}"
        if not source.is_relative_to(self._workdir.resolve()):
            raise ValueError(f"the checkpoint {event['path']} lies outside the work folder")
        try:
            checkpoints.snapshot(source, links)
        except FileNotFoundError:
            log.info("The checkpoint of step %s was replaced before it could be stored.", step)
            shutil.rmtree(links, ignore_errors=True)
            return
        prefix = checkpoints.prefix_of(self._attempt, step)
        copy = self._files.submit(checkpoints.store, links, prefix, self._may_go_on)
        self._copies.append((event, copy, links))

    def _finish_copies(self) -> None:
        """Give the checkpoints that have arrived in storage their rows."""
        while self._copies and self._copies[0][1].done():
            event, copy, links = self._copies.pop(0)
            shutil.rmtree(links, ignore_errors=True)
            try:
                size = copy.result()
            except CancelledError:
                continue
            except Exception as error:
                if _is_disk_full(error):
                    raise
                log.warning("The checkpoint of step %s could not be stored.", event["step"], exc_info=True)
                message = f"The checkpoint of step {event['step']} could not be stored: {error}"
                self._store(partial(checkpoints.tell, self._attempt, "message", message))
                continue
            self._store(partial(checkpoints.record, self._attempt, event, size))

    def _show_log(self) -> None:
        now = time.monotonic()
        if now >= self._next_log and (piece := self._log.next()):
            self._store(partial(self._log.keep, piece))
            self._next_log = now + LOG_SECONDS

    def _take_in_log(self) -> None:
        while piece := self._log.next():
            self._store(partial(self._log.keep, piece))

    # -- after -------------------------------------------------------------------------------------
    def _conclude(self, status: int, *, ran_out_of_memory: bool) -> None:
        """Store what counts, then end the attempt by how the trainer left."""
        self._take_in_log()  # files may take their time
        kind, attempt, tail = self._ending.get("type"), self._attempt, self._log_tail()
        if status == DONE and kind == "done":
            self._succeed()
            return
        self._finish_all_copies()
        stopped_by_us = self._asked_at is not None and status in {STOPPED, -signal.SIGTERM, -signal.SIGKILL}
        if self._time_is_up and self._limit is not None:
            told = self._limit.reached(tail)
            self._end(lambda: lifecycle.fail(attempt, told))
        elif stopped_by_us:
            self._end(lambda: lifecycle.leave(attempt))
        elif status == FAILED_FOR_A_REASON and kind == "failed":
            told = failures.reported(self._ending, tail)
            self._end(lambda: lifecycle.fail(attempt, told))
        elif status == LOST or self._others.failure is not None:
            self._lose_together(status, tail, ran_out_of_memory)
        elif status == STOPPED or status < 0:
            told = failures.killed(-status if status < 0 else signal.SIGTERM, ran_out_of_memory, tail)
            self._end(lambda: lifecycle.lose(attempt, told))
        else:
            # With no room for its last event, a trainer can say no more than that it failed.
            full = status == FAILED_FOR_A_REASON and shutil.disk_usage(self._workdir).free < NO_ROOM_BYTES
            told = failures.disk_full(tail) if full else failures.left_without_reason(status, tail)
            self._end(lambda: lifecycle.fail(attempt, told))

    def _lose_together(self, status: int, tail: str, ran_out_of_memory: bool) -> None:
        """A process of the run is gone, here or on another host, and with it all of them."""
        if "signal" not in self._ending:  # the first to die was none of this host: wait to hear of it
            until = time.monotonic() + gang.patience(self._attempt)
            while self._others.failure is None and time.monotonic() < until:
                self._lease.keep()
                self._next_look_at_others = 0.0
                self._look_at_others()
                time.sleep(TICK_SECONDS)
        told, there = failures.rank_lost(self._ending, tail, ooms=ran_out_of_memory), self._others
        if there.failure is not None and "signal" not in self._ending:
            told = there.failure
        change = lifecycle.fail if there.is_final else lifecycle.lose
        self._end(lambda: change(self._attempt, told))

    def _succeed(self) -> None:
        extendable = self._store(lambda: checkpoints.can_be_extended(self._attempt.run))
        last = self._copies[-1:] if extendable else []
        for pending in self._copies:
            if pending not in last:
                pending[1].cancel()
        try:
            rows = self._store_artifacts()
        except StorageAway as error:
            told = failures.could_not_store(error, self._log_tail())
            self._end(lambda: lifecycle.fail(self._attempt, told))
            return
        try:  # the result is there, whatever comes of this
            self._finish_all_copies()
        except OSError:
            log.warning("The last checkpoint of run %s is lost.", self._attempt.run_id, exc_info=True)
        metrics = self._ending.get("metrics") or {}
        self._end(lambda: outputs.finish(self._attempt, metrics, rows))

    def _store_artifacts(self) -> list[Artifact]:
        if self._artifacts is None:
            return []
        event = self._artifacts
        return self._patiently(
            lambda: outputs.store_artifacts(self._attempt, self._workdir, event, self._may_go_on)
        )

    def _end(self, change: Callable[[], object]) -> None:
        """Bring the whole log to storage, then make the change that ends the attempt."""
        tail = self._log_tail()
        try:
            self._keep_whole_log(tail)
        except LeaseLost:
            raise
        except Exception:  # what was taken in of it stays in the database
            log.warning("The log of run %s could not be stored.", self._attempt.run_id, exc_info=True)
        self._store(lambda: outputs.remember_tail(self._attempt, tail))
        self._store(change)

    def _keep_whole_log(self, tail: str) -> None:
        path = self._workdir / "log.txt"
        if not path.exists() and tail:  # it never came to open its log
            path.write_text(tail)
        self._take_in_log()
        if last := self._log.finish():
            self._store(partial(self._log.keep, last))
        if whole := self._log.collect(self._workdir / "log-to-store.txt"):
            size = whole.stat().st_size
            self._meanwhile(lambda: storage.put(whole, self._log.key, go_on=self._may_go_on))
            self._store(lambda: self._log.stored(size))

    def _end_by_fault(self, error: Exception) -> None:
        """Something went wrong on our side, or the disk is full."""
        self._trainer.kill()
        tail = self._log_tail()
        full = _is_disk_full(error)
        told = failures.disk_full(tail) if full else failures.worker_fault(error, tail)
        try:
            self._store(lambda: lifecycle.fail(self._attempt, told))
        except LeaseLost as lost:
            log.warning("Run %s: given up: %s", self._attempt.run_id, lost)
        except Exception:  # the lease expires, and the dispatcher decides
            log.exception("Run %s: its end could not be stored.", self._attempt.run_id)

    def _finish_all_copies(self) -> None:
        while self._copies:
            self._finish_copies()
            self._lease.keep()
            time.sleep(TICK_SECONDS)

    def _tidy(self) -> None:
        """Remove what was stored and has no row, once the last copy has ended."""
        try:
            tidying.tidy(self._attempt.run_id)
        except Exception:  # the dispatcher comes by later
            log.warning("Files of run %s may stay in storage.", self._attempt.run_id, exc_info=True)
        finally:
            connection.close()

    # -- means -------------------------------------------------------------------------------------
    def _log_tail(self) -> str:
        return outputs.tail_of(self._workdir / "log.txt") or self._trainer.early_output().replace("\x00", "")

    def _may_go_on(self) -> bool:
        """Asked before each piece that goes to storage: not one more once the lease has expired."""
        return not self._abandoned.is_set() and not self._lease.expired

    def _store(self, operation: Callable[[], T]) -> T:
        """Database work, through outages no longer than the lease."""
        return self._lease.through_outages(operation)

    def _patiently(self, work: Callable[[], T], *, unless_stopped: bool = False) -> T:
        """As `_meanwhile`, again and again while the storage is away; raises StorageAway in the end."""
        for wait in (*STORAGE_WAITS, None):
            try:
                return self._meanwhile(work, unless_stopped=unless_stopped)
            except (LeaseLost, Stopped, TrainingFailure, outputs.BrokenPromise):
                raise
            except Exception as error:
                if _is_disk_full(error):
                    raise
                log.warning("Files of run %s: %s", self._attempt.run_id, error, exc_info=True)
                if wait is None:
                    raise StorageAway(str(error)) from error
                self._meanwhile(partial(self._abandoned.wait, wait), unless_stopped=unless_stopped)
        raise AssertionError("the last try returns or raises")

    def _meanwhile(self, work: Callable[[], T], *, unless_stopped: bool = False) -> T:
        """Work with files in the other thread while this one goes on beating.

        `unless_stopped`: leave the work to itself and raise Stopped once the attempt is to end.
        """
        future = self._files.submit(work)
        while not future.done():
            self._lease.keep()
            if unless_stopped and self._must_stop():
                raise Stopped
            time.sleep(TICK_SECONDS / 10)
        return future.result()


def _is_disk_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
