"""Which run a worker takes next, chosen and locked in one statement.

The queue is an index of runs that are ready, by workspace, queue, rank and age. The statement skips through
it from one (workspace, queue) to the next and looks at the first run of each that fits the worker, so
its cost grows with the number of workspaces that wait, not with the number of runs.

Higher ranks go first. Within a rank the workspace goes first whose runs hold the smallest share of the
devices now, for its weight; then the one that has used the least today, for its weight; then the run
that has waited longest. A workspace at one of its limits is passed over.

Limits and shares are right only if claims are made one after the other: the caller holds `take_turn`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connection

TURN = 0x74756E65  # the advisory lock of all claims: "tune"
STUCK_SECONDS = 5  # a worker that is stopped or cut off amid a claim holds up the others no longer than that

# How many GPUs a run needs on all of its hosts, by the name of its queue.
GPUS = "(CASE WHEN r.queue ~ '^gpu[0-9]+$' THEN substr(r.queue, 4)::int ELSE 0 END * r.nodes)"

NEXT = f"""
WITH RECURSIVE waiting (workspace_id) AS (
    (SELECT workspace_id FROM runs_run WHERE status = 'queued' AND waits_for = '' ORDER BY workspace_id LIMIT 1)
  UNION ALL
    SELECT following.* FROM waiting CROSS JOIN LATERAL (
        SELECT workspace_id FROM runs_run WHERE status = 'queued' AND waits_for = ''
          AND workspace_id > waiting.workspace_id
        ORDER BY workspace_id LIMIT 1) following
), today AS (
    SELECT date_trunc('day', now() AT TIME ZONE %(zone)s) AS starts
), running AS (
    SELECT r.workspace_id, count(*) AS runs, sum(greatest(r.nodes, {GPUS})) AS devices,
           sum({GPUS} * took.seconds) AS gpu_seconds, sum(greatest(r.nodes, {GPUS}) * took.seconds) AS slot_seconds
    FROM runs_run r JOIN runs_attempt a ON a.run_id = r.id AND a.number = r.attempt CROSS JOIN today
    CROSS JOIN LATERAL (SELECT greatest(0, extract(
        epoch FROM now() - greatest(a.started_at, today.starts AT TIME ZONE %(zone)s))) AS seconds) took
    WHERE r.status = 'running' GROUP BY r.workspace_id
)
SELECT chosen.id, locked.*
FROM (SELECT candidate.id
FROM waiting
CROSS JOIN unnest(%(queues)s::text[], %(memory)s::bigint[]) AS offer (queue, memory)
JOIN accounts_workspace workspace ON workspace.id = waiting.workspace_id
CROSS JOIN today
LEFT JOIN running ON running.workspace_id = workspace.id
LEFT JOIN runs_usage used ON used.workspace_id = workspace.id AND used.day = today.starts::date
CROSS JOIN LATERAL (
    SELECT id, rank, queued_at FROM runs_run
    WHERE status = 'queued' AND waits_for = '' AND workspace_id = waiting.workspace_id
      AND queue = offer.queue AND (offer.memory IS NULL OR memory_bytes IS NULL OR memory_bytes <= offer.memory)
      AND id <> ALL (%(skip)s::bigint[])
    ORDER BY rank DESC, queued_at, id LIMIT 1) candidate
WHERE (workspace.max_concurrent_runs IS NULL OR coalesce(running.runs, 0) < workspace.max_concurrent_runs)
  AND (offer.queue = 'cpu' OR workspace.gpu_hours_a_day IS NULL
       OR coalesce(used.gpu_seconds, 0) + coalesce(running.gpu_seconds, 0) < 3600 * workspace.gpu_hours_a_day)
ORDER BY candidate.rank DESC,
    coalesce(running.devices, 0) / greatest(workspace.queue_weight, 0.001),
    (coalesce(used.slot_seconds, 0) + coalesce(running.slot_seconds, 0)) / greatest(workspace.queue_weight, 0.001),
    candidate.queued_at, candidate.id
LIMIT 1) chosen
LEFT JOIN LATERAL (
    SELECT clock_timestamp(), nodes, attempt FROM runs_run
    WHERE id = chosen.id AND status = 'queued' AND waits_for = '' FOR UPDATE SKIP LOCKED) locked ON true
"""  # noqa: S608 – of constants alone

# One look at an index tells whether there is something for runs/queueing/release.py to do.
TURN_TAKEN = """
SELECT set_config('idle_in_transaction_session_timeout', %s, true), set_config('jit', 'off', true),
    set_config('join_collapse_limit', '1', true), pg_advisory_xact_lock(%s),
    EXISTS (SELECT FROM runs_run WHERE status = 'queued' AND waits_for = 'time' AND not_before <= now())
"""


@dataclass(frozen=True)
class Locked:
    """A run that is ready, its row locked. `at`: the time by the database's clock, which is that of leases."""

    at: datetime
    nodes: int  # on how many hosts it is to train
    attempt: int  # its last one


def take_turn() -> bool:
    """Wait until no other claim is under way; for the rest of the transaction none will be.

    Returns whether a run's time had come by then that nobody has released: it is not among those that are ready.
    """
    with connection.cursor() as cursor:
        # jit: compiling this small statement takes longer than running it, whatever the planner guesses.
        # join_collapse_limit: its joins are written in their best order; to try the others took half of the planning.
        cursor.execute(TURN_TAKEN, [f"{STUCK_SECONDS}s", TURN])
        return bool(cursor.fetchone()[-1])


def next_run(offers: Mapping[str, int | None], skip: Iterable[int] = ()) -> tuple[int, Locked | None] | None:
    """(its id, its row) of the run that is to be taken by whoever can hold these now; None if there is none.

    Without its row somebody is changing it at this moment, or it is not ready any more.
    `offers`: for each queue the largest memory estimate in bytes that fits; None where that is not known.
    `skip`: runs that turned out to be in somebody else's hands.
    """
    values: dict[str, Any] = {
        "zone": settings.TIME_ZONE,
        "queues": list(offers),
        "memory": list(offers.values()),
        "skip": list(skip),
    }
    with connection.cursor() as cursor:
        cursor.execute(NEXT, values)
        row = cursor.fetchone()
    if row is None:
        return None
    run_id, at, nodes, attempt = row
    return run_id, None if at is None else Locked(at, nodes, attempt)
