"""The workers as a page tells of them: who is there, and how much they have to do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models.functions import Now

from runs.models import Attempt, Worker


@dataclass(frozen=True)
class Fleet:
    """What all workers together can take."""

    workers: int
    slots: int
    busy: int
    devices: tuple[str, ...]  # device names, most frequent first, with their number where above one
    queues: frozenset[str]

    @property
    def has_gpu(self) -> bool:
        """Whether any worker serves a queue that needs a GPU."""
        return any(queue.startswith("gpu") for queue in self.queues)

    @property
    def sentence(self) -> str:
        """The state in a line."""
        if not self.workers:
            return "No worker is online: runs wait in the queue until one is."
        workers = f"{self.workers} worker{'s' if self.workers > 1 else ''} online"
        slots = f"{min(self.busy, self.slots)} of {self.slots} slot{'s' if self.slots != 1 else ''} busy"
        return " · ".join([workers, slots, *self.devices])


def fleet() -> Fleet:
    """The workers that have been heard of within a lease."""
    heard_since = Now() - timedelta(seconds=settings.LEASE_SECONDS)
    online = list(Worker.objects.filter(last_seen_at__gte=heard_since))
    names: dict[str, int] = {}
    for worker in online:
        for device in worker.devices:
            name = _device_name(device)
            names[name] = names.get(name, 0) + 1
    ordered = sorted(names, key=lambda name: (-names[name], name))
    return Fleet(
        workers=len(online),
        slots=sum(worker.slots for worker in online),
        busy=Attempt.objects.filter(finished_at=None, worker__in=online).count() if online else 0,
        devices=tuple(name if names[name] == 1 else f"{names[name]} × {name}" for name in ordered),
        queues=frozenset(str(queue) for worker in online for queue in worker.queues),
    )


def _device_name(device: Any) -> str:
    return str(device.get("name", "device")) if isinstance(device, dict) else str(device)
