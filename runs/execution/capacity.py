"""What workers have free, by the database: the same answer for whoever asks, on any host.

A run on one host is claimed by its own worker, which knows best what it has free. A run on several hosts
is claimed for all of them at once by one of them (runs/execution/gang.py). So that both do not give
away the same place, each locks the rows of the workers that it claims for, in the order of their ids.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from runs.execution.pool import gpus_of
from runs.models import Attempt, Node, Run, Worker


@dataclass
class Room:
    """What a worker could take on now."""

    slots: int
    gpus: int

    def holds(self, queue: str) -> bool:
        return self.slots > 0 and self.gpus >= gpus_of(queue)


def online() -> QuerySet[Worker]:
    """Workers that have been heard of within a lease."""
    found: QuerySet[Worker] = Worker.objects.filter(
        last_seen_at__gt=Now() - timedelta(seconds=settings.LEASE_SECONDS)
    )
    return found


def lock(workers: Iterable[int]) -> list[Worker]:
    """Lock these workers' rows for this transaction, always in the same order; nobody claims for them then."""
    return list(Worker.objects.select_for_update().filter(pk__in=list(workers)).order_by("pk"))


def rooms(workers: Iterable[Worker]) -> dict[int, Room]:
    """{worker's id: what it has free}, counting attempts and nodes that have not ended."""
    found = {worker.pk: Room(worker.slots, len(worker.devices)) for worker in workers}
    taken = [
        *Attempt.objects.filter(finished_at=None, worker__in=found).values_list("worker", "run__queue"),
        *Node.objects.filter(finished_at=None, worker__in=found).values_list("worker", "attempt__run__queue"),
    ]
    for worker, queue in taken:
        found[worker].slots -= 1
        found[worker].gpus -= gpus_of(queue)
    return found


def promised(worker: Worker) -> bool:
    """Whether a place of this worker has just been given to a run on several hosts, which goes first.

    Locks the worker's row: to be asked first in the transaction of a claim.
    """
    lock([worker.pk])
    return Node.objects.filter(worker=worker, started_at=None, finished_at=None).exists()


def reserved(worker: Worker, queues: list[str], free_gpus: int) -> list[str]:
    """The queues that this worker may still take from, so that large runs do not wait for ever.

    While a run has waited for RESERVE_SECONDS for more than is free, the workers that are to hold it
    take nothing that would delay it: else small runs, of which there are always some, would go first
    each time. Which workers those are follows from their ids alone, so nobody has to ask.
    """
    large = waiting_for_room(worker, free_gpus)
    if large is None:
        return queues
    kept = gpus_of(large.queue)
    return [queue for queue in queues if gpus_of(queue) == 0 and kept > 0]


def waiting_for_room(worker: Worker, free_gpus: int) -> Run | None:
    """The run that has waited for longest, and for too long, for what this worker should keep free for it."""
    since = Now() - timedelta(seconds=settings.RESERVE_SECONDS)
    bigger = [queue for queue in worker.queues if gpus_of(queue) > free_gpus]
    waiting = Run.objects.filter(
        Q(queue__in=bigger) | Q(nodes__gt=1, queue__in=worker.queues),
        status=Run.Status.QUEUED,
        queued_at__lt=since,
    )
    for run in waiting.order_by("queued_at", "pk")[:5]:
        able = [each.pk for each in online().order_by("pk") if run.queue in each.queues and each.slots]
        if len(able) >= run.nodes and worker.pk in able[: run.nodes]:
            return run
    return None


def finish_forgotten() -> int:
    """Let go of what workers that are gone held of attempts that are over; returns how many."""
    return Node.objects.filter(
        finished_at=None, lease_until__lt=Now(), attempt__finished_at__isnull=False
    ).update(finished_at=Now(), outcome="lost")
