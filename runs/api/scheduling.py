"""When and where a run may start, as scripts say it and are told it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from django.utils import timezone
from ninja import Field, Schema

from runs.launch import Scheduling
from runs.models import Run
from runs.queueing.waiting import waiting
from webapp.api import ApiError

PriorityName = Literal["low", "normal", "high"]


class SchedulingIn(Schema):
    """All of it may be left out."""

    priority: PriorityName = Field("normal", description="low, normal or high")
    not_before: datetime | None = Field(
        None, description="when it may start; the server's time zone where none is given"
    )
    after: int | None = Field(None, description="id of a run that has to succeed first")
    time_limit_seconds: int | None = Field(None, description="then it saves a checkpoint and ends")
    memory_gb: float | None = Field(None, gt=0, le=10_000, description="of one device; estimated if left out")


class WaitingOut(Schema):
    """Why a queued run has not started. `blocked`: it does not until something changes."""

    message: str
    reason: str
    blocked: bool
    ahead: int | None
    expected_start: datetime | None


def scheduling_of(payload: SchedulingIn, runs: Any) -> Scheduling:
    """What the launch takes; `runs` are those that `after` may name."""
    return Scheduling(**changes_of(payload, runs))


def changes_of(payload: SchedulingIn, runs: Any) -> dict[str, Any]:
    """Only what was said, under the launch's names; raises ApiError."""
    said = payload.model_fields_set
    found: dict[str, Any] = {}
    if "priority" in said:
        found["priority"] = Run.Priority[payload.priority.upper()]
    if "not_before" in said:
        moment = payload.not_before
        found["not_before"] = timezone.make_aware(moment) if moment and timezone.is_naive(moment) else moment
    if "after" in said:
        found["after"] = _run(payload.after, runs)
    if "time_limit_seconds" in said:
        found["time_limit_seconds"] = payload.time_limit_seconds
    if "memory_gb" in said:
        found["memory_bytes"] = round(payload.memory_gb * 1e9) if payload.memory_gb else None
    return found


def _run(pk: int | None, runs: Any) -> Run | None:
    if pk is None:
        return None
    found: Run | None = runs.filter(pk=pk).first()
    if found is None:
        told = f"There is no run {pk} in this workspace."
        raise ApiError(422, "invalid", told, {"after": told})
    return found


def waiting_out(run: Run) -> dict[str, Any] | None:
    """Of a queued run, or one that is asked to stop."""
    found = waiting(run)
    if found is None:
        return None
    return {
        "message": found.headline,
        "reason": found.reason,
        "blocked": found.blocked,
        "ahead": found.ahead,
        "expected_start": None if found.blocked else found.starts_at,
    }
