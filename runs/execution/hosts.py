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


def slot_devices(devices: list[dict[str, Any]], slots: int) -> list[list[int] | None]:
    """The GPUs of each slot: shared out evenly; None where there are none. `slots` 0: one a GPU."""
    if not devices:
        return [None] * (slots or 1)
    indexes = [int(device["index"]) for device in devices]
    count = slots or len(indexes)
    each = max(1, len(indexes) // count)
    return [[indexes[(slot * each + n) % len(indexes)] for n in range(each)] for slot in range(count)]


def queues_for(devices: list[list[int] | None]) -> list[str]:
    """What the slots can hold. A slot with GPUs takes runs that ask for none, too."""
    largest = max((len(slot or []) for slot in devices), default=0)
    return ["cpu", *(f"gpu{count}" for count in (1, 2, 4, 8) if count <= largest)] if devices else []
