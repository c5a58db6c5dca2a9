"""When a queued run may start: its place in the queue, and about when, if that can be told.

Slots, running runs and waiting ones are played forward as `choice.NEXT` would choose, without looking at
anything but numbers. Where a time is not known that the answer hangs on, only the place is told.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SOME_SECONDS = 600.0  # taken for a run of unknown length, to tell who is before whom


@dataclass(frozen=True)
class Queued:
    """A run that is ready, as the queue sees it. A smaller `since` has waited longer."""

    id: int
    workspace: int
    rank: int
    since: float
    seconds: float | None = None  # how long it may take
    devices: int = 1


@dataclass(frozen=True)
class Running:
    """A run that holds a slot, for `seconds` more."""

    workspace: int
    seconds: float | None = None
    devices: int = 1


@dataclass
class Place:
    """A workspace: its weight, its limit, and what it has used today in seconds of devices."""

    weight: float = 1.0
    limit: int | None = None
    used: float = 0.0
    running: int = field(default=0, init=False)
    devices: int = field(default=0, init=False)


@dataclass(frozen=True)
class Outlook:
    """How many start before it, and in how many seconds it may; None: cannot be told."""

    ahead: int | None
    seconds: float | None


def outlook(
    run_id: int,
    waiting: Sequence[Queued],
    running: Sequence[Running],
    places: Mapping[int, Place],
    slots: int,
) -> Outlook:
    """Play the queue forward until this run starts. `slots` hold one run each."""
    state = {key: Place(place.weight, place.limit, place.used) for key, place in places.items()}
    for each in (*waiting, *running):
        state.setdefault(each.workspace, Place())
    lines: dict[int, list[Queued]] = {}
    for run in sorted(waiting, key=lambda run: (-run.rank, run.since, run.id)):
        lines.setdefault(run.workspace, []).append(run)
    # (when it frees its slot, tie-breaker, whether that is known, workspace, devices)
    busy: list[tuple[float, int, bool, int, int]] = []
    for number, held in enumerate(running):
        _take(state[held.workspace], held.devices)
        known = held.seconds is not None
        heapq.heappush(busy, (held.seconds or SOME_SECONDS, number, known, held.workspace, held.devices))
    # Without any slot nothing starts, but who is before whom can be told.
    free, now, certain, started = max(1, slots) - len(running), 0.0, slots > 0, 0
    while True:
        chosen = _next(lines, state) if free > 0 else None
        if chosen is not None:
            if chosen.id == run_id:
                return Outlook(started, now if certain else None)
            lines[chosen.workspace].remove(chosen)
            _take(state[chosen.workspace], chosen.devices)
            length = SOME_SECONDS if chosen.seconds is None else chosen.seconds
            state[chosen.workspace].used += length * chosen.devices
            until = now + length
            tie, started, free = len(running) + started, started + 1, free - 1
            known = chosen.seconds is not None
            heapq.heappush(busy, (until, tie, known, chosen.workspace, chosen.devices))
        elif busy:
            now, _, known, workspace, devices = heapq.heappop(busy)
            certain = certain and known
            state[workspace].running -= 1
            state[workspace].devices -= devices
            free += 1
        else:
            return Outlook(None, None)  # its workspace may run nothing at all


def _take(place: Place, devices: int) -> None:
    place.running += 1
    place.devices += devices


def _next(lines: Mapping[int, list[Queued]], state: Mapping[int, Place]) -> Queued | None:
    """Which run a free slot takes, by the rules of runs/queueing/choice.py."""
    first = [
        line[0]
        for workspace, line in lines.items()
        if line and ((limit := state[workspace].limit) is None or state[workspace].running < limit)
    ]

    def order(run: Queued) -> tuple[float, ...]:
        place = state[run.workspace]
        return -run.rank, place.devices / place.weight, place.used / place.weight, run.since, run.id

    return min(first, key=order, default=None)
