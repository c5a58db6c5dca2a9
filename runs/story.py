"""The story of a run: its events, newest first, in chapters by attempt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Q, QuerySet

from runs.models import Attempt, Event, Run

# What can be asked for: (name, title, which events).
PARTS: tuple[tuple[str, str, Q], ...] = (
    (
        "problems",
        "Problems",
        Q(kind__in=["lost", "failed", "checkpoint_damaged", "problem", "stalled", "diverged"]),
    ),
    ("checkpoints", "Checkpoints", Q(kind__startswith="checkpoint") | Q(kind="resumed_from")),
    (
        "states",
        "Started, stopped, ended",
        Q(kind__in=["submitted", "started", "resumed_from", "lost", "released", "paused", "held", "resumed"])
        | Q(kind__in=["retried", "stopped", "cancelled", "succeeded", "failed"]),
    ),
)


@dataclass
class Chapter:
    """The events of one attempt, or those before the first."""

    number: int
    title: str
    events: list[Event] = field(default_factory=list)


class StoryFilter:
    """Which events a page shows, out of its address."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.q = str(data.get("q", "")).replace("\0", "").strip()
        self.part = next((name for name, *_ in PARTS if name == data.get("part")), "")
        attempt = str(data.get("attempt", ""))
        self.attempt = int(attempt) if attempt.isdecimal() and len(attempt) < 10 else None

    @property
    def narrows(self) -> bool:
        return bool(self.q or self.part or self.attempt is not None)

    def apply(self, events: QuerySet[Event]) -> QuerySet[Event]:
        if self.q:
            events = events.filter(message__icontains=self.q)
        if self.attempt is not None:
            events = events.filter(attempt=self.attempt)
        for name, _, condition in PARTS:
            if name == self.part:
                events = events.filter(condition)
        return events


def newest_first(run: Run) -> QuerySet[Event]:
    return run.events.order_by("-at", "-id")


def chapters(events: Iterable[Event], attempts: Iterable[Attempt]) -> list[Chapter]:
    """In the order of the events. What people did between two attempts stands with the one before."""
    hosts = {attempt.number: attempt.worker.host if attempt.worker else "" for attempt in attempts}
    found: list[Chapter] = []
    for event in events:
        if not found or found[-1].number != event.attempt:
            host = hosts.get(event.attempt, "")
            title = (
                f"Attempt {event.attempt}{f' on {host}' if host else ''}"
                if event.attempt
                else "Before it started"
            )
            found.append(Chapter(event.attempt, title))
        found[-1].events.append(event)
    return found
