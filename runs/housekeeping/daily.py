"""The thread of the dispatcher that keeps house: files to remove at once, a count of storage, the rules once a day.

A thread and not a duty of the dispatcher's rounds: storage may take minutes, and lost runs must not wait.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from django.db import DatabaseError, close_old_connections, connection
from django.db.models.functions import Now

from runs.execution.outages import AWAY
from runs.housekeeping import orphans, removal, use
from runs.housekeeping.applying import apply
from runs.housekeeping.planning import plan
from runs.housekeeping.rules import rule_for, site_rule
from runs.models import HousekeepingReport
from webapp import storage
from webapp.accounts.models import Workspace
from webapp.datasets.uploading import clear_abandoned

log = logging.getLogger(__name__)
EVERY = timedelta(hours=24)
ROUND_SECONDS = 5.0
COUNT_SECONDS = 60.0  # between two counts of storage, or
COUNT_SHARE = (
    100  # so many times as long as the last one took, where that is longer: a bucket may hold millions
)
LOCK = 0x7475_6E65  # "tune": the advisory lock of whoever keeps house


def keep_house(stopping: threading.Event) -> None:
    """Rounds until told to stop, through outages of the database and of storage."""
    count = Counting()
    while not stopping.is_set():
        for duty in (removal.remove_due, lambda: daily(lambda: not stopping.is_set()), count):
            close_old_connections()
            try:
                duty()
            except AWAY:
                connection.close()
                break
            except Exception:  # a fault of one duty must not end the other; the next round tries again
                log.exception("House-keeping failed.")
        stopping.wait(ROUND_SECONDS)
    connection.close()


@contextmanager
def only_one() -> Iterator[bool]:
    """False where somebody else keeps house now; Postgres gives the lock back however its holder ends."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
        mine = bool(cursor.fetchone()[0])
    try:
        yield mine
    finally:
        if mine:
            with suppress(DatabaseError), connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])


class Counting:
    """Counts storage again when called, as often as that costs little."""

    def __init__(self) -> None:
        self._next = time.monotonic() + COUNT_SECONDS

    def __call__(self) -> bool:
        """Whether it was counted now."""
        if time.monotonic() < self._next:
            return False
        with only_one() as mine:
            if not mine:
                return False
            began = time.monotonic()
            self._next = began + COUNT_SECONDS  # if storage is away
            use.measure()
            ended = time.monotonic()
        self._next = ended + max(COUNT_SECONDS, COUNT_SHARE * (ended - began))
        return True


def is_due() -> bool:
    since = Now() - EVERY
    return not HousekeepingReport.objects.filter(
        is_daily=True, finished_at__isnull=False, started_at__gte=since
    ).exists()


def daily(go_on: Callable[[], bool] = lambda: True) -> HousekeepingReport | None:
    """The round of the day, if it has not been yet and nobody else is at it; returns its report."""
    if not is_due():
        return None
    with only_one() as mine:
        if not mine or not is_due():
            return None
        HousekeepingReport.objects.filter(is_daily=True, finished_at=None).update(
            finished_at=Now(), error="It was interrupted; another round followed."
        )
        report = HousekeepingReport.objects.create(is_daily=True)
        return _run(report, list(Workspace.objects.order_by("pk")), go_on)


def now(workspace: Workspace, asked_by: str) -> HousekeepingReport:
    """Apply the saved rule of a workspace at once."""
    report = HousekeepingReport.objects.create(asked_by=asked_by)
    rule = rule_for(workspace)
    apply(plan(rule, workspace), rule, report)
    HousekeepingReport.objects.filter(pk=report.pk).update(finished_at=Now())
    report.refresh_from_db()
    return report


def _run(
    report: HousekeepingReport, workspaces: list[Workspace], go_on: Callable[[], bool]
) -> HousekeepingReport:
    errors = []
    for workspace in workspaces:
        try:
            _workspace(workspace, report, go_on)
        except AWAY:
            raise
        except Exception as error:  # the others' rules count all the same, and the report says so
            log.exception("The rule of workspace %s could not be applied.", workspace.slug)
            errors.append(f"{workspace.name}: {error}")
        if not go_on():
            return report  # unfinished: the next start does the rest
    try:
        clear_abandoned()
        _storage(report)
    except AWAY:
        raise
    except Exception as error:
        log.exception("Storage could not be counted.")
        errors.append(f"Storage: {error}")
    HousekeepingReport.objects.filter(pk=report.pk).update(finished_at=Now(), error="\n".join(errors))
    report.refresh_from_db()
    return report


def _workspace(workspace: Workspace, report: HousekeepingReport, go_on: Callable[[], bool]) -> None:
    rule = rule_for(workspace)
    while go_on():
        found = plan(rule, workspace)
        gone = apply(found, rule, report, go_on)
        if not found.is_cut or not gone:
            return


def _storage(report: HousekeepingReport) -> None:
    files = list(storage.listing())
    if site_rule().remove_orphans:
        found = [orphan.prefix for orphan in orphans.find_orphans(files) if orphan.is_known]
        with suppress(orphans.WrongDatabase):
            orphans.delete_orphans(found, report)
        files = list(storage.listing())
    use.measure(files)
