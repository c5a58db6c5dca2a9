"""Runs on several hosts: all of their hosts begin together or none does, and all let go together.

One worker claims for all (runs/lifecycle/, runs/execution/capacity.py): it gets the attempt, leads and trains
rank 0, and each other one gets a Node. The others learn of it by a message on a queue of their own, and by
looking now and then.

The leader says on the attempt where the processes are to meet, once it has its files; the others wait for
that. From then on torchrun's c10d rendezvous brings the processes together. A node that does not begin,
dies or fails ends the attempt; an attempt that is over ends its nodes.
"""

from __future__ import annotations

import dataclasses
import logging
import socket
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from runs import lifecycle
from runs.execution import capacity
from runs.execution.failures import failure
from runs.logs import last_lines
from runs.models import Attempt, Node, Worker
from runs.training.spec import RunSpec
from webapp import clock

log = logging.getLogger(__name__)
VERDICT_SECONDS = 8.0  # that a leader waits to hear from the others why they ended


def next_node(worker: Worker) -> Node | None:
    """Take up a part that this worker was given; None if there is none."""
    mine = capacity.promised_to(worker)
    for pk in mine.order_by("pk").values_list("pk", flat=True):
        if mine.filter(pk=pk).update(started_at=Now()):
            return Node.objects.select_related("attempt__run", "worker").get(pk=pk)
    return None


def hold(node: Node) -> None:
    """Lock the node's row for this transaction; raises LeaseLost unless its worker still holds it."""
    if Node.objects.select_for_update().filter(pk=node.pk, finished_at=None).first() is None:
        raise lifecycle.LeaseLost(f"host {node.rank + 1} of attempt {node.attempt_id} has been given up")


def note_devices(held: Attempt | Node, devices: Sequence[int]) -> None:
    """Say which GPUs of its host an attempt, or one host's part of it, has been given: for whoever looks at hosts."""
    type(held).objects.filter(pk=held.pk, finished_at=None).update(devices=list(devices))


# -- leading -------------------------------------------------------------------------------------------
def lead(attempt: Attempt, spec: RunSpec) -> RunSpec:
    """The leader has its files: say where the processes meet. Raises LeaseLost."""
    if attempt.run.nodes == 1:
        return spec
    address = own_address()
    meeting = f"{f'[{address}]' if ':' in address else address}:{_free_port()}"
    with transaction.atomic():
        lifecycle.hold(attempt)
        Attempt.objects.filter(pk=attempt.pk).update(rendezvous=meeting)
    return dataclasses.replace(spec, rendezvous=meeting, address=address)


@dataclasses.dataclass(frozen=True)
class Others:
    """How the other hosts of an attempt are."""

    leaving: bool = False  # one of their workers is shutting down
    failure: dict[str, Any] | None = None  # why one has ended: {code, message, hint, log_tail}
    is_final: bool = False  # the same would happen again


def look_at_others(attempt: Attempt) -> Others:
    """One look at the nodes of an attempt that leads."""
    nodes = list(attempt.nodes.select_related("worker"))
    for node in nodes:
        if node.outcome in {"lost", "failed"}:
            return Others(failure=node.failure or node_lost(node), is_final=node.outcome == "failed")
    now = clock.now()
    for node in nodes:
        if node.finished_at is None and node.lease_until < now:
            return Others(failure=node_lost(node))
    return Others(leaving=any(node.leaving for node in nodes))


def patience(attempt: Attempt) -> float:
    """Seconds that a leader waits for its own processes, or for the other hosts, to say why they ended."""
    return VERDICT_SECONDS if attempt.run.nodes > 1 else 0.0


def node_lost(node: Node) -> dict[str, Any]:
    """The failure of an attempt of which one host is gone."""
    host = node.worker.host if node.worker else "another host"
    began = "stopped answering" if node.started_at else "did not begin"
    return failure(
        "worker_lost",
        f"The worker on {host}, host {node.rank + 1} of the run, {began}.",
        "See whether that host was restarted or ran out of memory, then try the run again: it goes on from its "
        "last checkpoint.",
        "\n".join(last_lines(node.attempt, 50, node.rank)),
    )


# -- addresses -----------------------------------------------------------------------------------------
def own_address() -> str:
    """By which other hosts reach this one: as set, or that of the interface which leads to the database."""
    if settings.WORKER_ADDRESS:
        return str(settings.WORKER_ADDRESS)
    database = settings.DATABASES["default"]
    host, port = str(database.get("HOST") or ""), int(database.get("PORT") or 5432)
    if (
        not host
        or host.startswith("/")
        or urlsplit(f"//{host}").hostname in {"localhost", "127.0.0.1", "::1"}
    ):
        return (
            "127.0.0.1"  # the database is on this host, and so are all workers unless they are told otherwise
        )
    try:
        kind, _, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(kind, socket.SOCK_DGRAM) as probe:
            probe.connect(target)  # sends nothing: it only chooses the way
            return str(probe.getsockname()[0])
    except OSError as error:
        log.warning("No way to %s (%s): other hosts are told 127.0.0.1.", host, error)
        return "127.0.0.1"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
