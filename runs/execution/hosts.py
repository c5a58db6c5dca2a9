"""What this host offers a run: its name, slots, library versions. No torch is imported to find out."""

from __future__ import annotations

import fcntl
import importlib.util
import logging
import platform
import socket
import subprocess
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import IO, Any

from django.conf import settings

from runs.execution.pool import Pool
from runs.execution.telemetry import driver_versions, gpus

log = logging.getLogger(__name__)
__all__ = ["claim_name", "gpus", "own_version", "pool_of", "queues_for", "same_version", "versions"]
PACKAGES = ("torch", "transformers", "datasets", "peft", "trl", "timm", "scikit-learn")
MAX_WORKERS = 64  # that share one home


def claim_name() -> tuple[str, IO[str]]:
    """A name that no other live worker has and that is the same after a restart, with the lock on it.

    The lock goes with this process, however that ends, so whoever gets a name knows that its last
    holder is dead. Keep the file open.
    """
    settings.HOME.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()
    for number in range(1, MAX_WORKERS + 1):
        lock = (settings.HOME / f"worker-{host}-{number}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        suffix = f"#{number}" if number > 1 else ""
        return f"{host}:{settings.HOME}"[: 200 - len(suffix)] + suffix, lock
    raise RuntimeError(f"{MAX_WORKERS} workers already share {settings.HOME}; give this one its own home.")


def can_train() -> bool:
    """Whether the training extra is installed, or another trainer is configured."""
    return bool(settings.TRAINER_COMMAND) or all(
        importlib.util.find_spec(name) is not None for name in ("torch", "transformers")
    )


@cache
def own_version() -> str:
    """Tuneboard's own, with the commit where it runs from a checkout: `0.1.0+g1a2b3c4d5e6f`."""
    number = _own_number()
    if not (settings.ROOT / ".git").exists():
        return number
    # As a container's root does, which owns nothing of a checkout that is mounted.
    asked = ["git", "-c", f"safe.directory={settings.ROOT}", "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(asked, cwd=settings.ROOT, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return number
    commit = done.stdout.strip()
    return f"{number}+g{commit}" if done.returncode == 0 and commit else number


def _own_number() -> str:
    """As the code that runs says: what is installed may be of an earlier checkout."""
    described = settings.ROOT / "pyproject.toml"
    if described.exists():
        return str(tomllib.loads(described.read_text())["project"]["version"])
    try:
        return version("tuneboard")
    except PackageNotFoundError:
        return "0"


def same_version(one: str, other: str) -> bool:
    """Whether two of `own_version` are of the same code, as far as they say; unknown ones are."""
    if not one or not other:
        return True
    (number, _, commit), (other_number, _, other_commit) = one.partition("+g"), other.partition("+g")
    return number == other_number and (not commit or not other_commit or commit == other_commit)


def versions() -> dict[str, str]:
    """Of what decides how a run turns out."""
    found = {"tuneboard": own_version(), "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | driver_versions()


def pool_of(devices: list[dict[str, Any]], slots: int) -> Pool:
    """The GPUs of this host as runs share them. `slots` 0: one a GPU, or one where there are none."""
    indexes = [int(device["index"]) for device in devices]
    return Pool(indexes, slots or len(indexes) or 1)


def queues_for(pool: Pool) -> list[str]:
    """What this worker can hold. One with GPUs takes runs that ask for none, too."""
    return ["cpu", *(f"gpu{count}" for count in (1, 2, 4, 8) if count <= pool.size)] if pool.slots else []
