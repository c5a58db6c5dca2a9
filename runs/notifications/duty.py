"""What the dispatcher does for notifications at each of its rounds."""

from __future__ import annotations

import time

from runs.notifications import sending, stalls

PRUNE_SECONDS = 3600.0
_sender: sending.Sender | None = None
_pruned_at = float("-inf")  # of time.monotonic


def notify() -> None:
    """Have what is due sent by threads of its own, look for stalls, and drop what is old once an hour."""
    global _sender, _pruned_at
    if _sender is None:
        _sender = sending.Sender()
    _sender.poke()
    stalls.look()
    if time.monotonic() - _pruned_at > PRUNE_SECONDS:
        _pruned_at = time.monotonic()
        sending.prune()
