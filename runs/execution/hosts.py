"""What this host offers a run: its name, GPUs, library versions. No torch is imported to find out."""

from __future__ import annotations

import fcntl
import importlib.util
import logging
import os
import platform
import shutil
import socket
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import IO, Any

from django.conf import settings

from runs.execution.pool import Pool

log = logging.getLogger(__name__)
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


def gpus() -> list[dict[str, Any]]:
    """[{index, name, memory_bytes}] of the GPUs that a trainer started here would see."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
    except (subprocess.SubprocessError, OSError) as error:
        log.warning("nvidia-smi is there but does not work (%s); going on without GPUs.", error)
        return []
    found = []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    wanted = [item.strip() for item in visible.split(",")] if visible is not None else None
    for line in output.splitlines():
        index, uuid, name, memory = (part.strip() for part in line.split(",", 3))
        if wanted is None or index in wanted or uuid in wanted:
            size = int(memory) * 2**20 if memory.isdigit() else 0
            found.append({"index": int(index), "name": name, "memory_bytes": size})
    return found


def can_train() -> bool:
    """Whether the training extra is installed, or another trainer is configured."""
    return bool(settings.TRAINER_COMMAND) or all(
        importlib.util.find_spec(name) is not None for name in ("torch", "transformers")
    )


def versions() -> dict[str, str]:
    """Of what decides how a run turns out."""
    found = {"python": platform.python_version()}
    for name in ("tuneboard", *PACKAGES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def pool_of(devices: list[dict[str, Any]], slots: int) -> Pool:
    """The GPUs of this host as runs share them. `slots` 0: one a GPU, or one where there are none."""
    indexes = [int(device["index"]) for device in devices]
    return Pool(indexes, slots or len(indexes) or 1)


def queues_for(pool: Pool) -> list[str]:
    """What this worker can hold. One with GPUs takes runs that ask for none, too."""
    return ["cpu", *(f"gpu{count}" for count in (1, 2, 4, 8) if count <= pool.size)] if pool.slots else []
