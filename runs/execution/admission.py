"""Which workers may take runs: not one that drains or leaves, nor one of another version where those are refused."""

from __future__ import annotations

import logging
from functools import partial

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models.functions import Now

from runs.execution import hosts
from runs.execution.messages import wake
from runs.execution.outages import through_outages
from runs.models import Attempt, Deployment, Node, Worker

log = logging.getLogger(__name__)

# The row stays as it is until the claim is made: who has set a worker to drain knows, once that is
# stored, that it takes no run any more.
ASK = """
    SELECT worker.draining OR worker.leaving, deployment.version, deployment.refuse_other_versions, EXISTS (
        SELECT FROM runs_node WHERE worker_id = worker.id AND started_at IS NULL AND finished_at IS NULL)
    FROM runs_worker worker
    LEFT JOIN (SELECT version, refuse_other_versions FROM runs_deployment ORDER BY id DESC LIMIT 1) deployment
    ON true
    WHERE worker.id = %s
    FOR SHARE OF worker
"""


class NotOffline(Exception):
    """The worker cannot be removed; the message says why."""


def may_claim(worker: Worker) -> bool:
    """Whether this worker may take the next run now; asked in the transaction of the claim.

    Not where a place of it has just been given to a run on several hosts, which goes first.
    """
    takes, promised = _ask(worker)
    return takes and not promised


def takes_runs(worker: Worker) -> bool:
    """Whether this worker may be given a part of a run now; asked in the transaction of the claim."""
    return _ask(worker)[0]


def _ask(worker: Worker) -> tuple[bool, bool]:
    """(whether it takes runs, whether it has yet to take up a part that it was given)"""
    with connection.cursor() as cursor:
        cursor.execute(ASK, [worker.pk])
        row = cursor.fetchone()
    if row is None:  # taken off the list; it puts itself back with its next beat
        return False, False
    goes, version, refuses, promised = row
    return not goes and not (refuses and not hosts.same_version(version, own_version_of(worker))), promised


def own_version_of(worker: Worker) -> str:
    return str(worker.versions.get("tuneboard", ""))


def deployed() -> Deployment | None:
    """What the web server said of itself when it last started."""
    return Deployment.objects.order_by("-pk").first()


def announce() -> None:
    """The web server starts: from now on workers compare themselves with its version."""
    said = {
        "version": hosts.own_version(),
        "refuse_other_versions": settings.REFUSE_OTHER_VERSIONS,
        "started_at": Now(),
    }
    Deployment.objects.update_or_create(pk=1, defaults=said)


def announce_until_heard() -> None:
    """As `announce`, though the database may not be there yet; for a thread of its own."""
    try:
        through_outages(announce, give_up=lambda: False)
    except DatabaseError:  # not migrated yet: pages will not work either, and say so
        log.warning("This web server's version could not be stored.", exc_info=True)
    finally:
        connection.close()


def refusal(worker: Worker, deployment: Deployment | None) -> str:
    """Why a worker is refused, as a sentence; empty if it is not."""
    if deployment is None or not deployment.refuse_other_versions:
        return ""
    mine = own_version_of(worker)
    if hosts.same_version(deployment.version, mine):
        return ""
    return (
        f"This worker is of version {mine}, the web server of {deployment.version}, and workers of other "
        "versions are refused: it takes no runs until both are the same."
    )


def hindrance(worker: Worker, deployment: Deployment | None) -> str:
    """What keeps a worker that is online from taking runs: leaving, refused or draining; empty if nothing does."""
    if worker.leaving:
        return "leaving"
    if refusal(worker, deployment):
        return "refused"
    return "draining" if worker.draining else ""


def drain(worker: Worker) -> bool:
    """Have it finish what it has and take no more; False if it was asked before."""
    return bool(Worker.objects.filter(pk=worker.pk, draining=False).update(draining=True))


def take_up(worker: Worker) -> bool:
    """Have a draining worker take runs again; False if it did."""
    with transaction.atomic():
        changed = Worker.objects.filter(pk=worker.pk, draining=True).update(draining=False)
        for queue in worker.queues if changed else ():
            transaction.on_commit(partial(wake, str(queue)))
    return bool(changed)


def remove(worker: Worker) -> None:
    """Take a worker that is gone off the list; its attempts stay. Raises NotOffline."""
    with transaction.atomic():
        locked = Worker.objects.select_for_update().filter(pk=worker.pk).first()
        if locked is None:
            return
        if locked.is_online:
            raise NotOffline(f"{locked.host} is online: stop its worker first.")
        if under_way(locked):
            raise NotOffline(
                f"{locked.host} still holds runs: they go back to the queue when its lease ends."
            )
        locked.delete()


def under_way(worker: Worker) -> int:
    """How many attempts it holds, or has a part of."""
    return sum(held.objects.filter(worker=worker, finished_at=None).count() for held in (Attempt, Node))
