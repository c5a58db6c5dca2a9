"""Why an attempt ended, in words for the person whose run it is."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Any

LOG_LINES = 50


def failure(
    code: str, message: str, hint: str, log_tail: str, details: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a run keeps of its failure, with the last lines of the log; runs/next_steps.py makes buttons of it."""
    lines = log_tail.rstrip("\n").split("\n")[-LOG_LINES:] if log_tail else []
    return {"code": code, "message": message, "hint": hint, "log_tail": lines, "details": dict(details or {})}


def reported(event: Mapping[str, Any], log_tail: str) -> dict[str, Any]:
    """The trainer's own `failed` event."""
    code, message, hint = str(event["code"]), str(event["message"]), str(event.get("hint") or "")
    return failure(code, message, hint, log_tail, event.get("details"))


def killed(number: int, out_of_memory: bool, log_tail: str) -> dict[str, Any]:
    """The trainer was ended by a signal that was not ours."""
    if out_of_memory and number == signal.SIGKILL:
        return failure(
            "out_of_memory",
            "The training process was stopped by the system because the host ran out of memory.",
            "Lower the batch size or the maximum length, choose a smaller model or a method that trains fewer "
            "weights (head, LoRA), or let fewer runs share the host.",
            log_tail,
        )
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return failure(
        "crashed",
        f"The training process was ended by {name}.",
        "SIGKILL mostly means that somebody, or the system for lack of memory, ended it; SIGSEGV and SIGABRT are "
        "faults in a library. The last lines of the log may say more.",
        log_tail,
    )


def rank_lost(
    ending: Mapping[str, Any], log_tail: str, where: str = "", ooms: bool = False
) -> dict[str, Any]:
    """One of several processes is gone; the trainer's `lost` event says which."""
    if ooms and ending.get("signal") == signal.SIGKILL:
        return killed(signal.SIGKILL, True, log_tail)
    return failure(
        "crashed",
        f"{where}{ending.get('message') or 'The processes of the run lost each other.'}",
        "SIGKILL mostly means that somebody, or the system for lack of memory, ended it; SIGSEGV and SIGABRT are "
        "faults in a library. The other processes were ended with it. The last lines of the log may say more.",
        log_tail,
    )


def left_without_reason(status: int, log_tail: str) -> dict[str, Any]:
    """The trainer ended by itself without saying how."""
    return failure(
        "crashed",
        f"The training process ended with status {status} and without a reason.",
        "The last lines of the log show where it was.",
        log_tail,
    )


def could_not_store(error: Exception, log_tail: str) -> dict[str, Any]:
    """Training is done, but its files are not where people can get them."""
    return failure(
        "crashed",
        f"The model was trained, but its files could not be stored: {error}.",
        "See whether the storage (STORAGE_URL) is reachable and writable, then try the run again: it goes on from "
        "its last checkpoint.",
        log_tail,
    )


def could_not_fetch(error: Exception, log_tail: str) -> dict[str, Any]:
    """What the run needs is in a storage that does not answer."""
    return failure(
        "worker_lost",
        f"The worker could not get the run's files from the storage: {error}.",
        "See whether the storage (STORAGE_URL) is reachable from that host, then try the run again.",
        log_tail,
    )


def disk_full(log_tail: str) -> dict[str, Any]:
    """The worker itself met a full disk."""
    return failure(
        "disk_full",
        "The disk of the worker or of the storage is full.",
        "Free space there (old runs can be deleted from their pages), then try the run again.",
        log_tail,
    )


def time_limit(seconds: float, log_tail: str) -> dict[str, Any]:
    """The deployment's limit on one attempt was reached."""
    return failure(
        "time_limit",
        f"The run took longer than the limit of {seconds / 3600:.3g} hours.",
        "Choose fewer epochs or steps, fewer rows or a smaller model; or ask whoever runs this server to raise "
        "TUNEBOARD_RUN_TIME_LIMIT_SECONDS. Tried again, the run goes on from its last checkpoint.",
        log_tail,
    )


def worker_fault(error: BaseException, log_tail: str) -> dict[str, Any]:
    """A mistake of ours, or of the host: told as it is."""
    return failure(
        "crashed",
        f"The worker could not go on with this run: {type(error).__name__}: {error}",
        "The worker's own log has the details.",
        log_tail,
    )
