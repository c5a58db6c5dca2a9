"""What a trainer reports: one JSON object a line, appended to `events.jsonl` in the work folder.

The worker reads whole lines from the offset it last stored and inserts them in the transaction that
stores the new offset, so each counts exactly once. Every event has `type`, `at` (Unix seconds by
this host's clock, for whoever reads the file: what is stored has the time of the database) and:

    phase       phase: preparing | training | evaluating | packaging; message
    progress    step, total_steps, epoch, rate (examples/s or null), eta_seconds (or null)
    metric      step, values {series: number}      loss, learning_rate, validation_accuracy, …
    baseline    name, title, metrics {name: number}
    answers     step, items [{number, prompt, expected, answer}]
    results     values {key: JSON}                 merged into the run: confusion_matrix, labels, …
    checkpoint  step, path (inside the work folder), is_best, keep [steps that still count]
    message     text                                a line of the run's story
    artifacts   folder (inside the work folder), files [{name, size, sha256}]
    done        metrics {name: number}              final; the last event of a run that succeeded
    stopped     step                                saved and left because it was asked to
    failed      code, message, hint, details        the last event of a run that failed; details: facts
                                                    that lead on, as {split, row (from 1), column} of a bad row
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from pathlib import Path
from typing import Any

FAILURE_CODES = (
    "out_of_memory",
    "bad_data",
    "bad_settings",
    "model_unavailable",
    "diverged",
    "disk_full",
    "crashed",
    "worker_lost",
    "time_limit",
)
PREDICTIONS = "predictions.parquet"  # among a run's files: what its model says of the held-out rows


class TrainingFailure(Exception):
    """Ends a run with a reason that a person can act on."""

    def __init__(
        self, code: str, message: str, hint: str = "", details: dict[str, Any] | None = None
    ) -> None:
        if code not in FAILURE_CODES:
            raise ValueError(f"unknown failure code {code!r}")
        super().__init__(message)
        self.code, self.message, self.hint, self.details = code, message, hint, details or {}


class EventWriter:
    """Appends events; each is one `write` of one line, so that a reader sees it whole or not yet."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._lock = threading.Lock()  # checkpoints are announced by a thread of their own

    def write(self, type: str, **values: Any) -> None:
        """Append one event. Numbers that JSON cannot carry (NaN, infinities) become null."""
        line = json.dumps({"type": type, "at": time.time(), **_finite(values)}, separators=(",", ":"))
        data = line.encode() + b"\n"
        with self._lock:
            while data:
                data = data[os.write(self._descriptor, data) :]

    def close(self) -> None:
        os.close(self._descriptor)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, "item"):  # a NumPy or torch scalar
        return _finite(value.item())
    return value
