"""The workers as pages and the API tell of them: who is there, what they do, how much more they can take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from django.db.models import QuerySet
from django.utils import timezone

from runs.charts import Chart, Line
from runs.execution import admission, hosts
from runs.models import Attempt, Deployment, Node, Run, Worker
from runs.models.worker import online as workers_online

VERSION_ORDER = ("tuneboard", "driver", "cuda", "python", "torch", "transformers")
HIDDEN = "a run of another workspace"


@dataclass(frozen=True)
class Fleet:
    """What all workers together can take. Those that drain, leave or are refused are there, but take nothing."""

    workers: int
    slots: int
    busy: int
    devices: tuple[str, ...]  # device names, most frequent first, with their number where above one
    queues: frozenset[str]
    draining: int = 0
    refused: int = 0
    leaving: int = 0

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
        parts = [workers, slots, *self.devices]
        parts += [f"{self.leaving} shutting down"] if self.leaving else []
        parts += [f"{self.draining} draining"] if self.draining else []
        parts += [f"{self.refused} refused: another version"] if self.refused else []
        if self.leaving + self.draining + self.refused == self.workers:
            parts.append("runs wait until one takes runs again")
        return " · ".join(parts)


def fleet() -> Fleet:
    """The workers that have been heard of within a lease."""
    online = list(workers_online())
    deployment = admission.deployed() if online else None
    by_state: dict[str, list[Worker]] = {}
    for worker in online:
        by_state.setdefault(admission.hindrance(worker, deployment) or "online", []).append(worker)
    taking = by_state.get("online", [])
    names: dict[str, int] = {}
    for worker in online:
        for device in worker.devices:
            name = _device_name(device)
            names[name] = names.get(name, 0) + 1
    ordered = sorted(names, key=lambda name: (-names[name], name))
    return Fleet(
        workers=len(online),
        slots=sum(worker.slots for worker in taking),
        busy=_held_by(taking) if taking else 0,
        devices=tuple(name if names[name] == 1 else f"{names[name]} × {name}" for name in ordered),
        queues=frozenset(str(queue) for worker in taking for queue in worker.queues),
        draining=len(by_state.get("draining", [])),
        refused=len(by_state.get("refused", [])),
        leaving=len(by_state.get("leaving", [])),
    )


def _held_by(workers: list[Worker]) -> int:
    """How many slots are taken: an attempt on several hosts takes one on each."""
    return sum(held.objects.filter(finished_at=None, worker__in=workers).count() for held in (Attempt, Node))


def _device_name(device: Any) -> str:
    return str(device.get("name", "device")) if isinstance(device, dict) else str(device)


# -- one host --------------------------------------------------------------------------------------
STATES = {
    "online": "Online",
    "leaving": "Shutting down",
    "draining": "Draining",
    "drained": "Drained",
    "refused": "Refused",
    "offline": "Offline",
}


@dataclass(frozen=True)
class Held:
    """What a host has of an attempt under way. `run` is None where the reader is not in its workspace."""

    number: int
    run: Run | None
    started_at: datetime
    lease_until: datetime
    devices: tuple[int, ...] = ()  # indexes of the GPUs that it has of this host
    rank: int = 0  # which of the run's hosts this is; 0 leads

    @property
    def title(self) -> str:
        return self.run.name if self.run is not None else HIDDEN

    @property
    def gpus(self) -> str:
        """Its GPUs in a few words, as `GPUs 0–3, 6`; empty without any."""
        if not self.devices:
            return ""
        return f"GPU{'s' if len(self.devices) > 1 else ''} {ranges(self.devices)}"

    @property
    def part(self) -> str:
        """Which host of several this is, where it does not lead."""
        return f"host {self.rank + 1} of the run" if self.rank else ""

    @property
    def lease(self) -> str:
        """The state of the lease, as a few words."""
        left = (self.lease_until - timezone.now()).total_seconds()
        if left < 0:
            return f"expired {-left:.0f} s ago"
        return f"good for {left:.0f} s"


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers in order, neighbours drawn together: `0–3, 6`."""
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    return ", ".join(f"{each[0]}" if len(each) == 1 else f"{each[0]}–{each[-1]}" for each in found)


@dataclass
class Host:
    """A worker and its host, as somebody may see them."""

    worker: Worker
    deployment: Deployment | None
    held: list[Held] = field(default_factory=list)

    @cached_property
    def refusal(self) -> str:
        return admission.refusal(self.worker, self.deployment)

    @cached_property
    def state(self) -> str:
        if not self.worker.is_online:
            return "offline"
        state = admission.hindrance(self.worker, self.deployment) or "online"
        return "drained" if state == "draining" and not self.held else state

    @property
    def state_title(self) -> str:
        return STATES[self.state]

    @property
    def badge(self) -> str:
        """Which of the colours of runs' states fits."""
        colours = {"online": "ready", "refused": "failed", "offline": "cancelled"}
        return colours.get(self.state, "paused")

    @property
    def why(self) -> str:
        """What a person has to know about this state; empty where there is nothing."""
        if self.state == "offline" and self.held:
            return "It has stopped answering. Its runs go to other workers when their leases have expired."
        if self.state == "offline" and self.worker.draining:
            return "It is not running. When it starts again it drains: it takes no runs until it is told to."
        if self.state == "leaving":
            return "Its worker was told to stop: runs save and go back to the queue, and it is given no more."
        if self.state == "draining":
            runs = "the run that it has" if len(self.held) == 1 else f"the {len(self.held)} runs that it has"
            return f"It finishes {runs} and takes no more."
        if self.state == "drained":
            return "It has finished its runs and takes no more: the host can be stopped now."
        return self.refusal

    @property
    def version(self) -> str:
        return admission.own_version_of(self.worker)

    @property
    def version_rows(self) -> list[tuple[str, str]]:
        """Tuneboard's own first, then driver and libraries."""
        order = {name: place for place, name in enumerate(VERSION_ORDER)}
        return sorted(self.worker.versions.items(), key=lambda item: (order.get(item[0], 99), item[0]))

    @property
    def other_version(self) -> str:
        """How it differs from this web server, as a sentence; empty if it does not."""
        if hosts.same_version(hosts.own_version(), self.version):
            return ""
        return f"It runs version {self.version}; this web server runs {hosts.own_version()}."

    @property
    def busy(self) -> int:
        return min(len(self.held), self.worker.slots)

    @property
    def free(self) -> int:
        """Slots that could take a run now."""
        return max(0, self.worker.slots - len(self.held)) if self.state == "online" else 0

    @property
    def devices(self) -> list[dict[str, Any]]:
        """Each device with its newest values, where there are any, and what it is taken by."""
        newest = {each.get("uuid"): each for each in self.worker.telemetry.get("devices", [])}
        return [
            {
                **device,
                **newest.get(device.get("uuid"), {}),
                "held": [held for held in self.held if device.get("index") in held.devices],
            }
            for device in self.worker.devices
            if isinstance(device, dict)
        ]

    @property
    def device_line(self) -> str:
        names = [_device_name(device) for device in self.worker.devices]
        counted = {name: names.count(name) for name in dict.fromkeys(names)}
        gpus = ", ".join(name if count == 1 else f"{count} × {name}" for name, count in counted.items())
        return gpus or f"{self.worker.cpus} CPU{'s' if self.worker.cpus != 1 else ''}"

    @property
    def now(self) -> dict[str, Any]:
        """The newest values of the host itself."""
        found: dict[str, Any] = dict(self.worker.telemetry.get("host", {}))
        if "disk_free" in found:
            found["disk_used"] = found["disk_bytes"] - found["disk_free"]
        return found

    @property
    def use(self) -> float | None:
        """Of its GPUs on average, else of its CPU: 0…1; None if it is gone or does not say."""
        if self.state == "offline":
            return None
        uses = [device["utilisation"] for device in self.devices if device.get("utilisation") is not None]
        return sum(uses) / len(uses) if uses else self.now.get("cpu")

    @property
    def charts(self) -> list[Chart]:
        return _charts(self)


def all_hosts(visible: QuerySet[Run], workers: Iterable[Worker] | None = None) -> list[Host]:
    """Every worker, those online first; `visible` are the runs whose names the reader may see."""
    found = {worker.pk: worker for worker in (Worker.objects.all() if workers is None else workers)}
    deployment = admission.deployed()
    made = {pk: Host(worker, deployment) for pk, worker in found.items()}
    under_way = {"finished_at": None, "worker__in": list(found)}
    parts: list[tuple[Attempt, Attempt | Node, int]] = [
        (attempt, attempt, 0) for attempt in Attempt.objects.filter(**under_way)
    ]
    nodes = Node.objects.filter(**under_way).select_related("attempt")
    parts += [(node.attempt, node, node.rank) for node in nodes]
    runs = visible.in_bulk({attempt.run_id for attempt, _, _ in parts}) if parts else {}
    for attempt, part, rank in sorted(parts, key=lambda each: (each[0].started_at, each[0].pk)):
        assert part.worker_id is not None  # asked for by it
        run, devices = runs.get(attempt.run_id), tuple(part.devices)
        made[part.worker_id].held.append(
            Held(attempt.number, run, attempt.started_at, part.lease_until, devices, rank)
        )
    return sorted(made.values(), key=lambda host: (host.state == "offline", host.worker.name))


def _charts(host: Host) -> list[Chart]:
    """Of the samples' series (runs/execution/samples.py), a line a GPU."""
    devices = host.devices

    def lines(name: str) -> tuple[Line, ...]:
        return tuple(
            Line(f"gpu{device['index']}.{name}", f"GPU {device['index']}", number % 8 + 1)
            for number, device in enumerate(devices)
        )

    memory = max((device.get("memory_bytes") or 0 for device in devices), default=0)
    waiting = "Appears with the first samples of this host."
    found = []
    if devices:
        found = [
            Chart("GPU use", lines("utilisation"), waiting, percent=True, top=1, time=True),
            Chart("GPU memory", lines("memory_used"), waiting, unit="bytes", top=memory or None, time=True),
            Chart("GPU temperature", lines("temperature"), waiting, unit="°C", time=True),
            Chart("GPU power", lines("power"), waiting, unit="W", time=True),
        ]
    total, disk = host.worker.memory_bytes or None, host.now.get("disk_bytes")
    return [
        *found,
        Chart("CPU use", (Line("cpu", "CPU", 1),), waiting, percent=True, top=1, time=True),
        Chart(
            "Host memory", (Line("memory_used", "Memory", 3),), waiting, unit="bytes", top=total, time=True
        ),
        Chart("Load", (Line("load", "Processes that run or wait", 4),), waiting, time=True),
        Chart("Disk", (Line("disk_used", "Used", 2),), waiting, unit="bytes", top=disk, time=True),
    ]
