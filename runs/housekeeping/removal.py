"""Takes files out of storage whose rows are gone, again and again until storage lets it."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db.models import Q
from django.db.models.functions import Now

from runs.models import StorageRemoval
from webapp import storage

log = logging.getLogger(__name__)
AT_ONCE = 200  # of one round, so that other duties get their turn
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=5), timedelta(minutes=10)
SECOND_PASS = timedelta(hours=1)  # no worker goes on for so long without its lease
# How long a download that has begun before is not disturbed. A file of a folder that is open outlives its removal
# anyhow; an object of a bucket is read when its turn in a zip comes.
DOWNLOADS = timedelta(hours=1)


class StillThere(OSError):
    """Storage was asked to remove files, and lists them all the same."""


def remove_later(
    prefix: str, keys: list[str] | None = None, *, passes: int = 1, downloaded: bool = False
) -> StorageRemoval:
    """Write down what has to go; call it in the transaction that takes the owner of the files away.

    `keys` are the files if not all below the prefix. The files go within seconds of the commit; those of a bucket
    that people may be downloading (`downloaded`) an hour later, though nobody can begin to any more.
    """
    in_a_bucket = storage.local_path("") is None
    return StorageRemoval.objects.create(
        prefix=prefix,
        keys=keys or [],
        passes_left=passes,
        due_at=Now() + DOWNLOADS if downloaded and in_a_bucket else Now(),
    )


def remove_due() -> int:
    """Remove what is due; returns how many removals are done with. Two at once are harmless."""
    done = 0
    for removal in StorageRemoval.objects.filter(due_at__lte=Now()).order_by("due_at")[:AT_ONCE]:
        try:
            _remove(removal)
        except Exception as error:  # each storage has exceptions of its own; all mean: not now
            wait = min(FIRST_WAIT * 2 ** min(removal.tries, 10), LONGEST_WAIT)
            StorageRemoval.objects.filter(pk=removal.pk).update(
                tries=removal.tries + 1, due_at=Now() + wait, error=str(error)[:1000]
            )
            log.warning("%s could not be removed from storage: %s", removal.prefix, error)
            continue
        if removal.passes_left > 1:
            StorageRemoval.objects.filter(pk=removal.pk).update(
                passes_left=removal.passes_left - 1, due_at=Now() + SECOND_PASS, tries=0, error=""
            )
        else:
            removal.delete()
        done += 1
    return done


def _remove(removal: StorageRemoval) -> None:
    if removal.keys:
        for key in removal.keys:
            storage.delete_file(key)
        return
    storage.delete_under(removal.prefix)
    if (left := next(storage.keys_under(removal.prefix), None)) is not None:
        raise StillThere(f"{left} is still there")


def stuck() -> list[StorageRemoval]:
    """What storage has refused to let go of so far."""
    return list(StorageRemoval.objects.filter(~Q(error="")).order_by("created_at")[:50])
