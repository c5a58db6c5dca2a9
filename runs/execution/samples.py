"""The samples of a host: stored with each beat of its worker, drawn as charts, removed after a time."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from runs.models import Worker, WorkerSample

SAMPLES_EACH = 4  # samples of a bucket, where there are more
BUCKETS = 500  # of a chart that is some 600 pixels wide; a host has many

# One statement: the worker is seen, by the database's clock, with its newest values, and a new sample
# has its row. No row back means that somebody took this worker off the list.
BEAT = """
    WITH seen AS (
        UPDATE runs_worker SET last_seen_at = statement_timestamp(), telemetry = %(telemetry)s::jsonb
        WHERE id = %(worker)s RETURNING id, draining
    ), kept AS (
        INSERT INTO runs_workersample (worker_id, at, values)
        SELECT id, statement_timestamp(), %(values)s::jsonb FROM seen WHERE %(values)s::jsonb IS NOT NULL
    )
    SELECT draining FROM seen
"""
# Buckets of whole seconds, as many as fit; the bounds come from the index sample_chart_points.
# Of a long time only every so many samples is read, the newest always: a bucket's bounds are then of several.
POINTS = """
WITH bounds AS (
    SELECT floor(extract(epoch FROM min(at)))::bigint AS low,
           greatest(1, (floor(extract(epoch FROM max(at)))::bigint - floor(extract(epoch FROM min(at)))::bigint
                        + %(buckets)s) / %(buckets)s) AS width,
           greatest(1, count(*) / (%(buckets)s * %(each)s)) AS every
    FROM runs_workersample WHERE worker_id = %(worker)s AND at >= %(from)s
), numbered AS (
    SELECT id, row_number() OVER (ORDER BY at DESC, id DESC) - 1 AS number
    FROM runs_workersample WHERE worker_id = %(worker)s AND at >= %(from)s
), sample AS (
    SELECT floor(extract(epoch FROM at))::bigint AS second, values
    FROM bounds, numbered JOIN runs_workersample USING (id) WHERE number %% every = 0
), value AS (
    SELECT item.key, sample.second, (sample.second - bounds.low) / bounds.width AS bucket, item.value::float8 AS value
    FROM bounds, sample, jsonb_each_text(sample.values) item
)
SELECT key, max(second), min(value), avg(value), max(value) FROM value GROUP BY key, bucket ORDER BY 1, 2
"""


def series_of(sample: dict[str, Any]) -> dict[str, float]:
    """A sample as flat series: `gpu0.utilisation`, `cpu`, `memory_used`, …; what is not known is left out."""
    found: dict[str, float] = {}
    for device in sample.get("devices", []):
        for name in ("utilisation", "memory_used", "temperature", "power"):
            found[f"gpu{device.get('index')}.{name}"] = device.get(name)
    host = sample.get("host", {})
    found |= {name: host.get(name) for name in ("cpu", "memory_used", "load")}
    if "disk_free" in host:
        found["disk_used"] = host["disk_bytes"] - host["disk_free"]
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def beat(worker_id: int, sample: dict[str, Any], *, is_new: bool) -> bool | None:
    """Say that the worker is there; returns whether it is to drain, or None if it is not on the list."""
    values = json.dumps(series_of(sample)) if is_new else None
    with connection.cursor() as cursor:
        cursor.execute(BEAT, {"worker": worker_id, "telemetry": json.dumps(sample), "values": values})
        row = cursor.fetchone()
    return bool(row[0]) if row is not None else None


def prune() -> int:
    """Remove samples of all workers that are older than SAMPLES_KEEP_HOURS; returns how many."""
    before = Now() - timedelta(hours=settings.SAMPLES_KEEP_HOURS)
    workers = list(Worker.objects.values_list("pk", flat=True))
    return WorkerSample.objects.filter(worker__in=workers, at__lt=before).delete()[0]


def points(
    worker_id: int, seconds: float, since: dict[str, int] | None = None
) -> dict[str, dict[str, list[float]]]:
    """{series: {step, min, mean, max}} of the last `seconds`; step is the second since 1970 that a bucket ends in.

    At most about BUCKETS a series. With `since`, the last second drawn of each series, only what is newer.
    """
    now = timezone.now()
    start = now - timedelta(seconds=seconds)
    if since:  # all series are of the same samples, so one that has ended does not hold the others up
        drawn = min(max(since.values()), int(now.timestamp()) + 3600)
        start = max(start, datetime.fromtimestamp(drawn + 1, now.tzinfo))
    asked: dict[str, Any] = {"worker": worker_id, "from": start, "buckets": BUCKETS, "each": SAMPLES_EACH}
    found: dict[str, dict[str, list[float]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(POINTS, asked)
        for series, step, low, mean, high in cursor.fetchall():
            lists = found.setdefault(series, {"step": [], "min": [], "mean": [], "max": []})
            lists["step"].append(step)
            for name, value in (("min", low), ("mean", mean), ("max", high)):
                lists[name].append(float(f"{value:.6g}"))
    return found
