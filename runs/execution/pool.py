"""Which GPUs of this host are free: any run takes as many as it needs, whichever they are.

A worker that may do more runs at once than it has GPUs lets several share one.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence


class Pool:
    """The GPUs of one worker. Whoever claims holds `lock` from the look at what is free to `take`."""

    def __init__(self, devices: Sequence[int], slots: int) -> None:
        """`devices`: indexes as nvidia-smi counts; `slots`: runs at once."""
        share = max(1, -(-slots // len(devices))) if devices else 0
        self._free = dict.fromkeys(devices, share)  # device: how many more runs it takes
        self.slots = slots
        self.lock = threading.Lock()

    @property
    def free(self) -> int:
        """How many different GPUs a run could have now."""
        return sum(1 for room in self._free.values() if room > 0)

    @property
    def size(self) -> int:
        return len(self._free)

    def take(self, count: int) -> list[int]:
        """The least used ones; raises ValueError if there are not so many."""
        order = sorted(self._free, key=lambda device: (-self._free[device], device))
        chosen = sorted(device for device in order[:count] if self._free[device] > 0)
        if len(chosen) < count:
            raise ValueError(f"{count} GPUs are asked for, {len(chosen)} are free")
        for device in chosen:
            self._free[device] -= 1
        return chosen

    def give_back(self, devices: Sequence[int]) -> None:
        with self.lock:
            for device in devices:
                self._free[device] += 1


class Room:
    """What a host could take on besides what it has, by counting: for whoever is not that host's worker."""

    def __init__(self, slots: int, gpus: int) -> None:
        """Of a host that has nothing to do yet."""
        self.slots = slots
        self._pool = Pool(range(gpus), slots)

    @property
    def gpus(self) -> int:
        """How many different GPUs a run could have now."""
        return self._pool.free

    def holds(self, gpus: int) -> bool:
        """Whether a run of so many GPUs could begin here now."""
        return self.slots > 0 and self.gpus >= gpus

    def take(self, gpus: int) -> list[int]:
        """Count a run in; returns the GPUs that its worker would give it."""
        self.slots -= 1
        return self._pool.take(min(gpus, self.gpus))

    def give_back(self, devices: Sequence[int]) -> None:
        """Count it out again."""
        self.slots += 1
        self._pool.give_back(devices)


def gpus_of(queue: str) -> int:
    """How many GPUs a run of this queue needs on each of its hosts."""
    return int(queue[3:]) if queue.startswith("gpu") and queue[3:].isdecimal() else 0
