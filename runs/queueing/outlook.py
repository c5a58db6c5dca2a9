"""When a queued run may start: its place in the queue, and about when, if that can be told.

Hosts, running runs and waiting ones are played forward as `choice.NEXT` and `execution/capacity.py` would have
it, without looking at anything but numbers: a run takes a slot and its GPUs on each of its hosts, or waits.
Where a time is not known that the answer hangs on, only the place is told.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from runs.execution.pool import Room

SOME_SECONDS = 600.0  # taken for a run of unknown length, to tell who is before whom
LOOKED_AT = 5  # runs that a host may keep room for, as in capacity.waiting_for_room


@dataclass(frozen=True)
class Host:
    """What a worker has in all."""

    id: int
    slots: int
    gpus: int = 0
    versions: Hashable = None  # hosts begin a run together only where these are the same


@dataclass(frozen=True)
class Queued:
    """A run that is ready, as the queue sees it. A smaller `since` has waited longer."""

    id: int
    workspace: int
    rank: int
    since: float
    seconds: float | None = None  # how long it may take
    gpus: int = 0  # on each of its hosts
    nodes: int = 1  # hosts that it trains on together
    hosts: frozenset[int] | None = None  # those that serve its queue and have the memory; None: all
    waited: float = 0.0  # seconds in the queue so far

    @property
    def devices(self) -> int:
        """What counts for its workspace's share."""
        return max(self.nodes, self.gpus * self.nodes)


@dataclass(frozen=True)
class Running:
    """A run that holds a slot and GPUs on each of its hosts, for `seconds` more."""

    workspace: int
    seconds: float | None = None
    gpus: int = 0  # on each of its hosts
    hosts: Sequence[int] = ()  # some may be none of those that are played with

    @property
    def devices(self) -> int:
        return max(1, self.gpus) * max(1, len(self.hosts))


@dataclass
class Place:
    """A workspace: its weight, its limit, and what it has used today in seconds of devices."""

    weight: float = 1.0
    limit: int | None = None
    used: float = 0.0
    running: int = field(default=0, init=False)
    devices: int = field(default=0, init=False)
    certain: bool = field(default=True, init=False)  # False: when it got below its limit was guessed


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
    hosts: Sequence[Host],
    patience: float = inf,
) -> Outlook:
    """Play the queue forward until this run starts.

    `patience`: seconds after which hosts keep room for a run that waits for more than is free.
    """
    play = _Play(waiting, running, places, hosts, patience)
    mine = play.runs[run_id]
    if play.could_ever(mine):
        return play.until_start_of(mine)
    # No hosts to start it on; who is before whom can be told all the same.
    line = [replace(run, gpus=0, nodes=1, hosts=None) for run in waiting]
    imagined = _Play(line, (), places, [Host(0, 1)], inf)
    return Outlook(imagined.until_start_of(imagined.runs[run_id]).ahead, None)


@dataclass(frozen=True)
class _Held:
    """What an end gives back."""

    workspace: int
    devices: int
    on: tuple[tuple[int, tuple[int, ...]], ...]  # (host, its GPUs that are held)


class _Play:
    def __init__(
        self,
        waiting: Iterable[Queued],
        running: Iterable[Running],
        places: Mapping[int, Place],
        hosts: Sequence[Host],
        patience: float,
    ) -> None:
        self._hosts = {host.id: host for host in sorted(hosts, key=lambda host: host.id)}
        self._rooms = {host.id: Room(host.slots, host.gpus) for host in hosts}
        self._places = {key: Place(place.weight, place.limit, place.used) for key, place in places.items()}
        self._patience = patience
        self._now, self._ties = 0.0, 0
        self._guessed: set[int] = set()  # hosts of which it is not known what they are doing by now
        self._busy: list[
            tuple[float, int, bool, _Held]
        ] = []  # when it ends, tie-breaker, whether that is known
        self.runs = {run.id: replace(run, hosts=self._able(run)) for run in waiting}
        # Of runs that differ in nothing but how long they have waited only the first can be next.
        self._lines: dict[tuple[Hashable, ...], list[Queued]] = {}
        for run in sorted(self.runs.values(), key=lambda run: (-run.rank, run.since, run.id), reverse=True):
            self._lines.setdefault((run.workspace, run.gpus, run.nodes, run.hosts), []).append(run)
        for held in running:
            on = [(host, self._rooms[host].take(held.gpus)) for host in held.hosts if host in self._rooms]
            self._hold(held.workspace, held.devices, on, held.seconds, True)

    def _able(self, run: Queued) -> frozenset[int]:
        named = self._hosts if run.hosts is None else run.hosts
        return frozenset(
            host.id
            for host in self._hosts.values()
            if host.id in named and host.slots > 0 and host.gpus >= run.gpus
        )

    def could_ever(self, run: Queued) -> bool:
        """Whether there are hosts that it could train on, were they free."""
        alike: dict[Hashable, int] = {}
        for host in run.hosts or ():
            versions = self._hosts[host].versions
            alike[versions] = alike.get(versions, 0) + 1
        return max(alike.values(), default=0) >= run.nodes

    def until_start_of(self, mine: Queued) -> Outlook:
        ahead = 0
        while True:
            while (started := self._start_one()) is not None:
                run, certain = started
                if run.id == mine.id:
                    return Outlook(ahead, self._now if certain else None)
                ahead += not (run.hosts or frozenset()).isdisjoint(mine.hosts or ())
            if not self._busy:
                return Outlook(None, None)  # its workspace may run nothing at all
            self._now = self._busy[0][0]
            while self._busy and self._busy[0][0] == self._now:
                _, _, certain, held = heapq.heappop(self._busy)
                self._let_go(held, certain)

    # -- starting ----------------------------------------------------------------------------------
    def _start_one(self) -> tuple[Queued, bool] | None:
        """(what a host takes now, whether it is known that it does); None if none finds anything."""
        patient = self._patient()
        for host, room in self._rooms.items():
            if room.slots > 0 and (run := self._next(host, room, patient)) is not None:
                together = self._together(run, host)
                assert together is not None  # or it would not be next
                return run, self._start(run, together)
        return None

    def _next(self, host: int, room: Room, patient: Sequence[Queued]) -> Queued | None:
        """Which run this host takes, by the rules of runs/queueing/choice.py."""
        kept_for = self._kept_for(host, room, patient)
        found = []
        for line in self._lines.values():
            run = line[-1]
            place = self._place(run.workspace)
            if (place.limit is not None and place.running >= place.limit) or not room.holds(run.gpus):
                continue
            if kept_for is not None and (run.gpus > 0 or kept_for.gpus == 0):
                continue
            if self._together(run, host) is not None:
                found.append(run)

        def order(run: Queued) -> tuple[float, ...]:
            place = self._place(run.workspace)
            return -run.rank, place.devices / place.weight, place.used / place.weight, run.since, run.id

        return min(found, key=order, default=None)

    def _together(self, run: Queued, leader: int) -> list[int] | None:
        """The hosts that would begin it now, led by this one; None if it would have to wait."""
        able, versions = run.hosts or frozenset(), self._hosts[leader].versions
        if leader not in able or not self._rooms[leader].holds(run.gpus):
            return None
        if run.nodes == 1:
            return [leader]
        others = [
            host.id
            for host in self._hosts.values()
            if host.id in able and host.id != leader and host.versions == versions
            if self._rooms[host.id].holds(run.gpus)
        ]
        return [leader, *others[: run.nodes - 1]] if len(others) >= run.nodes - 1 else None

    def _patient(self) -> list[Queued]:
        """Runs that are kept room for if they find none, those that have waited longest first."""
        if self._patience == inf:
            return []
        large = [
            run
            for line in self._lines.values()
            for run in line
            if (run.gpus > 0 or run.nodes > 1) and run.waited + self._now > self._patience
        ]
        return sorted(large, key=lambda run: (run.since, run.id))

    def _kept_for(self, host: int, room: Room, patient: Sequence[Queued]) -> Queued | None:
        """The run that this host keeps free what it has, as capacity.waiting_for_room finds it."""
        here = [
            run for run in patient if host in (run.hosts or ()) and (run.gpus > room.gpus or run.nodes > 1)
        ]
        for run in here[:LOOKED_AT]:
            able = sorted(run.hosts or ())
            if len(able) < run.nodes or host not in able[: run.nodes]:
                continue
            if run.nodes > 1 and self._together(run, host) is not None:
                continue
            return run
        return None

    def _start(self, run: Queued, together: Sequence[int]) -> bool:
        key = (run.workspace, run.gpus, run.nodes, run.hosts)
        self._lines[key].pop()
        if not self._lines[key]:
            del self._lines[key]
        place = self._place(run.workspace)
        certain = self._guessed.isdisjoint(together) and (place.limit is None or place.certain)
        if not certain:  # it may as well start elsewhere
            self._guessed |= run.hosts or frozenset()
        place.used += (SOME_SECONDS if run.seconds is None else run.seconds) * run.devices
        on = [(host, self._rooms[host].take(run.gpus)) for host in together]
        self._hold(run.workspace, run.devices, on, run.seconds, certain)
        return certain

    # -- holding and letting go --------------------------------------------------------------------
    def _hold(
        self,
        workspace: int,
        devices: int,
        on: Sequence[tuple[int, Sequence[int]]],
        seconds: float | None,
        certain: bool,
    ) -> None:
        place = self._place(workspace)
        place.running += 1
        place.devices += devices
        held = _Held(workspace, devices, tuple((host, tuple(gpus)) for host, gpus in on))
        until = self._now + (SOME_SECONDS if seconds is None else seconds)
        self._ties += 1
        heapq.heappush(self._busy, (until, self._ties, certain and seconds is not None, held))

    def _let_go(self, held: _Held, certain: bool) -> None:
        place = self._place(held.workspace)
        place.running -= 1
        place.devices -= held.devices
        place.certain = place.certain and certain
        for host, gpus in held.on:
            self._rooms[host].give_back(gpus)
            if not certain:
                self._guessed.add(host)

    def _place(self, workspace: int) -> Place:
        return self._places.setdefault(workspace, Place())
