"""The time that attempts took, added to their workspace's days."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.db import connection

from runs.models import Attempt
from runs.queueing.choice import GPUS

# An attempt over midnight counts on both days, each with its part.
ADD = f"""
INSERT INTO runs_usage (workspace_id, day, gpu_seconds, slot_seconds)
SELECT r.workspace_id, midnight.day::date, {GPUS} * took.seconds, greatest(r.nodes, {GPUS}) * took.seconds
FROM runs_attempt a JOIN runs_run r ON r.id = a.run_id
CROSS JOIN LATERAL generate_series(date_trunc('day', a.started_at AT TIME ZONE %(zone)s),
    a.finished_at AT TIME ZONE %(zone)s, interval '1 day') AS midnight (day)
CROSS JOIN LATERAL (SELECT greatest(0, extract(epoch FROM
    least(a.finished_at, (midnight.day + interval '1 day') AT TIME ZONE %(zone)s)
    - greatest(a.started_at, midnight.day AT TIME ZONE %(zone)s))) AS seconds) took
WHERE a.id = %(attempt)s
ON CONFLICT (workspace_id, day) DO UPDATE SET gpu_seconds = runs_usage.gpu_seconds + excluded.gpu_seconds,
    slot_seconds = runs_usage.slot_seconds + excluded.slot_seconds
"""  # noqa: S608 – of constants alone
NOW = f"""
SELECT count(a.id), coalesce(sum(greatest(r.nodes, {GPUS})), 0),
    coalesce(sum({GPUS} * took.seconds), 0) + coalesce((SELECT gpu_seconds FROM runs_usage
        WHERE workspace_id = %(workspace)s AND day = (now() AT TIME ZONE %(zone)s)::date), 0)
FROM runs_run r JOIN runs_attempt a ON a.run_id = r.id AND a.number = r.attempt
CROSS JOIN LATERAL (SELECT greatest(0, extract(epoch FROM now() - greatest(a.started_at,
    date_trunc('day', now() AT TIME ZONE %(zone)s) AT TIME ZONE %(zone)s))) AS seconds) took
WHERE r.status = 'running' AND r.workspace_id = %(workspace)s
"""  # noqa: S608 – of constants alone


@dataclass(frozen=True)
class Used:
    """What a workspace holds now and has used since midnight of the server's time zone."""

    running: int
    devices: int
    gpu_hours: float


def add(attempt: Attempt) -> None:
    """Count an attempt that has just ended; in the transaction that ends it, so that it counts once."""
    with connection.cursor() as cursor:
        cursor.execute(ADD, {"attempt": attempt.pk, "zone": settings.TIME_ZONE})


def used_by(workspace_id: int) -> Used:
    """Running attempts count up to this moment."""
    with connection.cursor() as cursor:
        cursor.execute(NOW, {"workspace": workspace_id, "zone": settings.TIME_ZONE})
        running, devices, seconds = cursor.fetchone()
    return Used(int(running), int(devices), float(seconds) / 3600)
