"""What workers have free, by the database: the same answer for whoever asks, on any host.

A run is claimed by a worker that has room for it (runs/lifecycle/). One on several hosts is claimed by one
of them for all, in one transaction, so that they begin together or not at all and nobody holds a host
while waiting for others. Claims are made one after the other (runs/queueing/choice.py), so no place is
given away twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from runs.execution.admission import takes_runs
from runs.execution.pool import Room, gpus_of
from runs.models import Attempt, Node, Run, Worker
from runs.models.run import READY
from runs.models.worker import count_as_gone, online
from runs.queueing import routing

SAME_VERSIONS = ("tuneboard", "torch", "transformers")


def rooms(workers: Iterable[Worker]) -> dict[int, Room]:
    """{worker's id: what it has free}, counting attempts and nodes that have not ended."""
    found = {worker.pk: Room(worker.slots, len(worker.devices)) for worker in workers}
    taken = [
        *Attempt.objects.filter(finished_at=None, worker__in=found).values_list("worker", "run__queue"),
        *Node.objects.filter(finished_at=None, worker__in=found).values_list("worker", "attempt__run__queue"),
    ]
    for worker, queue in taken:
        found[worker].take(gpus_of(queue))
    return found


def promised_to(worker: Worker) -> QuerySet[Node]:
    """Its parts of runs on several hosts that it has not taken up."""
    found: QuerySet[Node] = Node.objects.filter(worker=worker, started_at=None, finished_at=None)
    return found


def others_for(run_id: int, leader: Worker) -> list[Worker] | None:
    """The workers that begin a run together with this one: none for a run on one host.

    None if not enough are online, of the same versions and free. The caller holds the turn of claims.
    """
    run = Run.objects.only("nodes", "queue", "memory_bytes").get(pk=run_id)
    if run.nodes == 1:
        return []
    able = [
        each
        for each in online().order_by("pk")
        if run.queue in each.queues and versions_of(each) == versions_of(leader) and _has_memory(each, run)
    ]
    free = rooms(able)
    holding = Node.objects.filter(finished_at=None, attempt__finished_at__isnull=False)
    unsure = set(holding.values_list("worker", flat=True))  # it has yet to let go: it may be gone
    able = [each for each in able if free[each.pk].holds(gpus_of(run.queue)) and each.pk not in unsure]
    others = [each for each in able if each.pk != leader.pk and takes_runs(each)]
    leads = any(each.pk == leader.pk for each in able)
    return others[: run.nodes - 1] if leads and len(others) >= run.nodes - 1 else None


def versions_of(worker: Worker) -> tuple[str | None, ...]:
    """What has to be the same on all hosts of a run: processes of other versions cannot even talk to each other."""
    return tuple(worker.versions.get(name) for name in SAME_VERSIONS)


def _has_memory(worker: Worker, run: Run) -> bool:
    most = routing.offers(worker, [run.queue])[run.queue]
    return most is None or run.memory_bytes is None or run.memory_bytes <= most


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
        READY,
        Q(queue__in=bigger) | Q(nodes__gt=1, queue__in=worker.queues),
        queued_at__lt=since,
    )
    found = list(waiting.order_by("queued_at", "pk")[:5])
    taking = routing.taking(online().order_by("pk")) if found else []
    for run in found:
        able = [each.pk for each in taking if run.queue in each.queues and each.slots]
        if len(able) < run.nodes or worker.pk not in able[: run.nodes]:
            continue
        if run.nodes > 1 and others_for(run.pk, worker) is not None:
            continue  # it could begin now: the queue decides whether it is its turn
        return run
    return None


def count_out(attempt: Attempt) -> None:
    """An attempt is lost: those of its workers that let their lease run out are gone until they are heard of.

    In the transaction that puts the run back into the queue, so that no claim counts on them once more.
    """
    led = Attempt.objects.filter(pk=attempt.pk, lease_until__lt=Now())
    followed = Node.objects.filter(attempt=attempt.pk, finished_at=None, lease_until__lt=Now())
    silent = Q(pk__in=led.values("worker")) | Q(pk__in=followed.values("worker"))
    count_as_gone(Worker.objects.filter(silent))


def leave(worker: Worker) -> None:
    """A worker has been told to stop: it is given nothing more, and gives back the parts that it has not begun.

    The leaders of those see it leave, and go back to the queue; no attempt is lost for it.
    """
    with transaction.atomic():
        Worker.objects.filter(pk=worker.pk).update(leaving=True)  # waits for a claim that counts on it
        promised_to(worker).update(leaving=True, finished_at=Now(), outcome="done")


def finish_forgotten() -> int:
    """Let go of what workers that are gone held of attempts that are over; returns how many."""
    forgotten = Node.objects.filter(
        finished_at=None, lease_until__lt=Now(), attempt__finished_at__isnull=False
    )
    nodes = dict(forgotten.values_list("pk", "worker"))
    if not nodes:
        return 0
    with transaction.atomic():  # workers before nodes, as where a worker is taken off the list
        count_as_gone(Worker.objects.filter(pk__in=set(nodes.values())))
        return forgotten.filter(pk__in=nodes).update(finished_at=Now(), outcome="lost")
