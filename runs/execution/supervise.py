"""One attempt from its claim to its end, in the thread of the slot that took it.

The thread beats, takes in events, and watches the trainer; whatever may take long with files (fetching
inputs, copying checkpoints, storing the result) is done by a second thread meanwhile.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from django.conf import settings
from django.db import connection

from runs import lifecycle
from runs.execution import cached, checkpoints, failures, gang, inputs, leftovers, outputs, stopping, tidying
from runs.execution.copies import Copies
from runs.execution.event_file import EventFile
from runs.execution.file_thread import FileThread, Stopped, StorageAway, is_disk_full
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
NO_ROOM_BYTES = 4 << 20
DONE, FAILED_FOR_A_REASON, STOPPED, LOST = 0, 1, 3, 4  # the trainer's exit statuses


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
        self._asked_at: float | None = None
        self._limit: TimeLimit | None = None
        self._time_is_up = False
        self._started = time.monotonic()
        self._log = LogKeeper(attempt, self._workdir / "log.txt")
        self._next_log = self._next_events = 0.0
        self._lease = Lease(attempt, on_expiry=trainer.kill)
        self._files = FileThread(f"files-{attempt.pk}", self._lease)
        self._copies = Copies(attempt, self._workdir, self._files)

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
            self._trainer.kill()
            self._copies.cancel()
            self._files.abandon(last=self._tidy)
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
        found = self._files.do_patiently(lambda: inputs.fetch(needs, self._workdir), stop=self._must_stop)
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
                self._copies.begin(event)
            elif event["type"] == "artifacts":
                self._artifacts = event
            elif event["type"] in {"done", "stopped", "failed", "lost"}:
                self._ending = event
        self._store(lambda: take_in(self._attempt, lines))
        return bool(lines)

    def _finish_copies(self) -> None:
        """Give the checkpoints that have arrived in storage their rows."""
        for copy in self._copies.finished():
            try:
                size = copy.copying.result()
            except Exception as error:
                if is_disk_full(error):
                    raise
                log.warning("The checkpoint of step %s could not be stored.", copy.step, exc_info=True)
                message = f"The checkpoint at step {copy.step:,} could not be stored: {error}"
                self._store(partial(checkpoints.tell, self._attempt, "message", message))
            else:
                self._store(partial(checkpoints.record, self._attempt, copy.event, copy.prefix, size))

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
        self._copies.cancel(but_last=extendable)
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
        return self._files.do_patiently(
            lambda: outputs.store_artifacts(self._attempt, self._workdir, event, self._files.may_go_on)
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
            self._files.do(lambda: storage.put(whole, self._log.key, go_on=self._files.may_go_on))
            self._store(lambda: self._log.stored(size))

    def _end_by_fault(self, error: Exception) -> None:
        """Something went wrong on our side, or the disk is full."""
        self._trainer.kill()
        tail = self._log_tail()
        full = is_disk_full(error)
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

    def _store(self, operation: Callable[[], T]) -> T:
        """Database work, through outages no longer than the lease."""
        return self._lease.through_outages(operation)
