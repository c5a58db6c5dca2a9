"""Which worker can hold a run: by its devices, and by the memory that the run is estimated to need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runs.execution import admission
from runs.models import Run, Worker
from runs.models.worker import online as heard_of
from webapp.templatetags.ui import size

# An estimate may be too high by about a quarter (runs/advice/memory.py): a run is kept from a device only
# if it needs more than that above what the device has.
TOLERANCE = 1.25


def online() -> list[Worker]:
    """Those heard of within a lease."""
    return list(heard_of())


def taking(workers: Iterable[Worker]) -> list[Worker]:
    """Of these workers those that take runs: neither draining nor leaving nor refused for their version."""
    deployment = admission.deployed()
    return [worker for worker in workers if not admission.hindrance(worker, deployment)]


def device_memory(worker: Worker, devices: Sequence[int] | None = None) -> list[int]:
    """Bytes of the worker's GPUs (of these indexes, or all), largest first; unknown ones left out."""
    return sorted(
        (
            int(device.get("memory_bytes") or 0)
            for device in worker.devices
            if isinstance(device, dict) and (devices is None or device.get("index") in devices)
            if device.get("memory_bytes")
        ),
        reverse=True,
    )


def memory_for(worker: Worker, queue: str, devices: Sequence[int] | None = None) -> int | None:
    """Bytes of the device that decides whether a run of this queue fits there; None if not known.

    Of `devices` (indexes that a slot holds) the smallest decides, as a run is spread over all of them.
    Without it the worker is free to pick: a run of n GPUs gets the n largest.
    """
    if queue == "cpu":
        return getattr(worker, "memory_bytes", None) or None
    known = device_memory(worker, devices)
    if devices:
        return known[-1] if len(known) == len(devices) else None
    wanted = int(queue[3:]) if queue[3:].isdecimal() else 1
    return known[wanted - 1] if len(known) >= wanted else None


def may_hold(worker: Worker, run: Run) -> bool:
    """Whether this worker, with nothing else to do, could train such a run, or one host's part of it."""
    if run.queue not in worker.queues:
        return False
    memory = memory_for(worker, run.queue)
    return memory is None or run.memory_bytes is None or run.memory_bytes <= memory * TOLERANCE


def offers(
    worker: Worker, queues: Iterable[str], devices: Sequence[int] | None = None
) -> dict[str, int | None]:
    """For each queue the largest estimate that may be given to this worker; None: any."""
    found: dict[str, int | None] = {}
    for queue in queues:
        memory = memory_for(worker, queue, devices)
        found[queue] = None if memory is None else int(memory * TOLERANCE)
    return found


def why_nowhere(queue: str, memory_bytes: int | None, workers: list[Worker] | None = None) -> str:
    """What is missing if no worker that is online could ever hold such a run; empty if one could.

    Also without any worker: that is no lack of the run's, but it waits all the same.
    """
    workers = online() if workers is None else workers
    if not workers:
        return "No worker is online: it starts as soon as one is."
    able = taking(workers)
    if not able:
        return "No worker takes runs at present: those that are online are draining, shutting down or of another version."
    serving = [worker for worker in able if queue in worker.queues]
    if not serving:
        return f"No worker that is online takes runs of its queue, “{queue}”: it starts as soon as one does."
    if memory_bytes is None:
        return ""
    memories = [memory_for(worker, queue) for worker in serving]
    largest = 0
    for memory in memories:
        if memory is None or memory_bytes <= memory * TOLERANCE:
            return ""
        largest = max(largest, memory)
    where = "of a host" if queue == "cpu" else "on one GPU" if queue == "gpu1" else "on each GPU"
    return f"It needs about {size(memory_bytes)} {where}; the largest that is online has {size(largest)}."


def lacking(run: Run, workers: list[Worker] | None = None) -> str:
    """`why_nowhere` of a run."""
    return why_nowhere(run.queue, run.memory_bytes, workers)
