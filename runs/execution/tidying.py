"""Files in storage that no row names: what attempts were about to store when they ended.

A worker that dies between a file and its row leaves the file. Whoever ends an attempt tidies after it, and so
does the dispatcher for those whose worker could not.
"""

from __future__ import annotations

import logging
import re
from datetime import timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from runs.models import Artifact, Attempt, Checkpoint, Run
from webapp import storage

log = logging.getLogger(__name__)
# Keys carry the attempt that made them (docs/architecture.md).
MADE_BY = (
    re.compile(r"checkpoints/\d+(\.\d+)?-(?P<attempt>\d+)/"),
    re.compile(r"artifacts/attempt-(?P<attempt>\d+)/"),
    re.compile(r"logs/\.attempt-(?P<attempt>\d+)(-host-\d+)?\..*\.partial$"),
)
AFTER = timedelta(
    seconds=settings.LEASE_SECONDS
)  # a worker that does not know of its end has stopped by then
UNTIL = timedelta(hours=1)
MOST = 20  # a round


def tidy(run_id: int) -> int:
    """Remove what attempts of this run that are over left without a row; returns how many files.

    Read in this order, so that nothing is removed whose row is about to come: keys, then attempts that are
    over (they can add no rows any more), then rows.
    """
    made = {key: attempt for key in storage.keys_under(f"runs/{run_id}") if (attempt := _maker(run_id, key))}
    if not made:
        return 0
    over = set(Attempt.objects.filter(run=run_id).exclude(finished_at=None).values_list("number", flat=True))
    gone = not Run.objects.filter(pk=run_id).exists()
    artifacts = set(Artifact.objects.filter(run=run_id).values_list("storage_key", flat=True))
    kept = tuple(
        f"{prefix}/"
        for prefix in Checkpoint.objects.filter(run=run_id).values_list("storage_prefix", flat=True)
    )
    removed = 0
    for key, attempt in made.items():
        if (attempt in over or gone) and key not in artifacts and not key.startswith(kept):
            storage.delete_file(key)
            removed += 1
    if removed:
        log.info("Run %s: removed %s file(s) that an attempt had left without a row.", run_id, removed)
    return removed


class Tidying:
    """Tidies once after each attempt that has ended, for the dispatcher's rounds."""

    def __init__(self) -> None:
        self._done: set[int] = set()

    def __call__(self) -> None:
        later = Attempt.objects.filter(run=OuterRef("run"), number__gt=OuterRef("number"))
        ended = Attempt.objects.filter(finished_at__lt=Now() - AFTER, finished_at__gt=Now() - UNTIL)
        recent = dict(ended.exclude(Exists(later)).values_list("pk", "run"))
        self._done &= recent.keys()
        for attempt_id in sorted(recent.keys() - self._done)[:MOST]:
            tidy(recent[attempt_id])
            self._done.add(attempt_id)


def _maker(run_id: int, key: str) -> int:
    """The number of the attempt that made a file; 0 if its key does not tell."""
    below = key.removeprefix(f"runs/{run_id}/")
    for pattern in MADE_BY:
        if found := pattern.match(below):
            return int(found["attempt"])
    return 0
