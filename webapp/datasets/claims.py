"""Work on a row that one worker has at a time: claimed, renewed and ended by compare-and-set.

A claim is a lease. A worker that dies lets it run out; then the row is due again, at most MAX_ATTEMPTS times.
Inspections (inspection.py), changes (changing.py) and counts of tokens (token_lengths.py) are such work.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from webapp.datasets.isolated import Crashed
from webapp.datasets.problems import Refused

log = logging.getLogger(__name__)
INSPECT = "datasets.inspect"  # messages, each with the key of a row
CHANGE = "datasets.change"
COUNT_TOKENS = "datasets.count_tokens"
PATIENCE_SECONDS = 30  # until a message that nobody took is sent again


class LeaseLost(Exception):
    """Someone else has the work now, or its row is gone: what was done is void."""


class Claimed(models.Model):
    """The columns of a row that is worked on."""

    claimed_by = models.CharField(max_length=200, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    attempts = models.IntegerField(default=0)
    stage = models.CharField(max_length=50, blank=True)
    progress_done = models.BigIntegerField(default=0)  # bytes or rows, of progress_total
    progress_total = models.BigIntegerField(default=0)
    row_version = models.BigIntegerField(default=1)  # rises with every change: the poll's tag

    class Meta:
        abstract = True


Row = TypeVar("Row", bound=Claimed)


def in_seconds(seconds: float) -> Any:
    """That time from now, by the database's clock."""
    return Now() + timedelta(seconds=seconds)


def waiting() -> dict[str, Any]:
    """What is written with a row whose wake-up is being sent."""
    return {"stage": "waiting", "lease_until": in_seconds(PATIENCE_SECONDS)}


def over() -> dict[str, Any]:
    """What is written with the end of the work."""
    return {
        "claimed_by": "",
        "lease_until": None,
        "stage": "",
        "progress_done": 0,
        "progress_total": 0,
        "row_version": F("row_version") + 1,
    }


class Claims(Generic[Row]):
    """Claims on the rows of a model that are open.

    `touch` is called with the key of a row whose progress changed, in the transaction of the change.
    """

    def __init__(
        self, model: type[Row], is_open: Q, message: str, touch: Callable[[int], Any] | None = None
    ) -> None:
        self.model, self.message = model, message
        self._is_open, self._touch = is_open, touch

    @property
    def open(self) -> models.QuerySet[Row]:
        """The rows whose work is not over."""
        return self.model._default_manager.filter(self._is_open)

    def of(self, pk: int, claim: str | None) -> models.QuerySet[Row]:
        """The row, as long as the claim holds; without a claim, if nobody else's does."""
        return self.open.filter(Q(claimed_by=claim) if claim is not None else _no_lease(), pk=pk)

    def carry_out(
        self,
        pk: int,
        worker_name: str,
        what: str,
        work: Callable[[Row, str, Path], None],
        refuse: Callable[[int, str, list[dict[str, Any]]], None],
    ) -> None:
        """Claim a row and do its work. Finds nothing to do if it is done, claimed, or the row is gone.

        `what` is done, for the log and the name of its folder. `work(row, claim, folder)` may raise LeaseLost, or
        Refused, which `refuse(pk, claim, problems)` writes down. What crashed is tried again.
        """
        claimed = self.claim(pk, worker_name)
        if claimed is None:
            return
        row, claim = claimed
        try:
            with scratch(what) as folder:
                work(row, claim, folder)
        except LeaseLost:
            log.warning("%s of %s %s is no longer %s's.", what, self.model.__name__, pk, worker_name)
        except Refused as refused:
            refuse(pk, claim, [refused.problem.as_json()])
        except Crashed as crash:
            log.error("%s of %s %s crashed: %s", what, self.model.__name__, pk, crash)
            self._give_back(pk, claim)

    def claim(self, pk: int, worker_name: str) -> tuple[Row, str] | None:
        """(the row, the claim); None if the work is done, somebody has it, or the row is gone."""
        claim = f"{worker_name[:150]}/{uuid.uuid4().hex[:12]}"
        free = Q(claimed_by="") | _no_lease()
        claimed = self.open.filter(free, pk=pk, attempts__lt=settings.MAX_ATTEMPTS).update(
            **over()
            | {
                "claimed_by": claim,
                "lease_until": in_seconds(settings.LEASE_SECONDS),
                "attempts": F("attempts") + 1,
                "stage": "starting",
            }
        )
        return (self.model._default_manager.get(pk=pk), claim) if claimed else None

    def reporter(self, pk: int, claim: str) -> Reporter:
        return Reporter(self.of(pk, claim), lambda: self._touch(pk) if self._touch else None)

    def _give_back(self, pk: int, claim: str) -> None:
        """Let it be tried again soon, or ended if this was the last time."""
        self.of(pk, claim).update(
            claimed_by="", lease_until=Now(), stage="waiting", row_version=F("row_version") + 1
        )

    def requeue_due(self, give_up: Callable[[int, int], None]) -> list[int]:
        """Send wake-ups for what nobody works on; `give_up(pk, attempts)` for what fails again and again."""
        waiting = self.open.filter(_no_lease())
        sent = []
        for pk, attempts in waiting.values_list("pk", "attempts"):
            if attempts >= settings.MAX_ATTEMPTS:
                give_up(pk, attempts)
            elif waiting.filter(pk=pk).update(claimed_by="", lease_until=in_seconds(PATIENCE_SECONDS)):
                self.publish(pk)
                sent.append(pk)
        return sent

    def publish(self, pk: int) -> bool:
        """Send the wake-up; False if the broker is away (the dispatcher sends it again)."""
        return publish(self.message, pk)

    def publish_on_commit(self, pk: int) -> None:
        """Wake a worker once the row can be seen."""
        transaction.on_commit(lambda: self.publish(pk))


def publish(message: str, pk: int) -> bool:
    """Send a wake-up for a row; False if the broker is away."""
    from webapp.celery import app

    try:
        app.send_task(message, args=[pk], expires=2 * PATIENCE_SECONDS, retry=False)
    except (OperationalError, RedisError, OSError) as error:
        log.warning("The broker cannot be reached (%s); the dispatcher will send this again.", error)
        return False
    return True


def _no_lease() -> Q:
    return Q(lease_until=None) | Q(lease_until__lt=Now())


class Reporter:
    """Writes progress where a page sees it and, by the same statement, keeps the lease."""

    def __init__(self, mine: models.QuerySet[Any], touch: Callable[[], Any]) -> None:
        self._mine, self._touch = mine, touch
        self._last: tuple[str, int, int] | None = None
        self._renewed = time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Raises LeaseLost if the work is no longer ours."""
        said = (stage[:50], done, total)
        lease_is_old = time.monotonic() - self._renewed > settings.LEASE_SECONDS / 4
        if said == self._last and not lease_is_old:
            return
        changes: dict[str, Any] = {"lease_until": in_seconds(settings.LEASE_SECONDS)}
        if said != self._last:
            changes |= {
                "stage": said[0],
                "progress_done": done,
                "progress_total": total,
                "row_version": F("row_version") + 1,
            }
        with transaction.atomic():
            if not self._mine.update(**changes):
                raise LeaseLost
            if said != self._last:
                self._touch()
        self._last, self._renewed = said, time.monotonic()


@contextmanager
def scratch(what: str) -> Iterator[Path]:
    """A folder for one piece of work, on the disk that is meant for it; left-overs of the same kind go."""
    settings.WORK_DIR.mkdir(parents=True, exist_ok=True)
    for left in settings.WORK_DIR.glob(f"{what}-*"):
        if not _is_running(left.name.split("-")[1]):
            shutil.rmtree(left, ignore_errors=True)  # of a worker that was killed
    folder = Path(tempfile.mkdtemp(prefix=f"{what}-{os.getpid()}-", dir=settings.WORK_DIR))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        pass
    return True
