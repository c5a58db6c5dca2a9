"""The only place where a run changes state.

Each change is one compare-and-set UPDATE that names the states it may start from, with its Event in
the same transaction; what follows from it (waking a worker) happens on commit. A change that is not
allowed raises; it is never ignored.

Two rows are locked, always in this order: the attempt, then its run. What the worker that holds an
attempt does is fenced by the attempt: once `finished_at` is set, by whoever, it may write no more.
"""

from __future__ import annotations

from runs.lifecycle.attempts import (
    claim,
    fail,
    hold,
    leave,
    lose,
    lose_expired,
    succeed,
    worker_lost,
)
from runs.lifecycle.changes import CHANGES, LeaseLost, NotAllowed
from runs.lifecycle.requests import (
    delete,
    extend,
    prioritise,
    request_cancel,
    request_pause,
    resume,
    retry,
    start_now,
    submit,
)

__all__ = [
    "CHANGES",
    "LeaseLost",
    "NotAllowed",
    "claim",
    "delete",
    "extend",
    "fail",
    "hold",
    "leave",
    "lose",
    "lose_expired",
    "prioritise",
    "request_cancel",
    "request_pause",
    "resume",
    "retry",
    "start_now",
    "submit",
    "succeed",
    "worker_lost",
]
