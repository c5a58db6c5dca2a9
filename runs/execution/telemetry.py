"""What this host's devices are and do, by NVIDIA's management library; CPU, memory and disk by psutil.

A GPU may say less than others (no power limit, no use while it is split by MIG), or stop answering:
whatever it does not say is None, and a GPU that does not answer says so and leaves the rest alone.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pynvml
from django.conf import settings

log = logging.getLogger(__name__)
HAS_NONE = {
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_NOT_FOUND,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,  # a driver older than the question
}
_lock = threading.Lock()
_opened = False
_looked = False


def open_nvml() -> bool:
    """Whether there is a driver to ask; raises NVMLError if there is one that does not work."""
    global _opened
    with _lock:
        if not _opened:
            try:
                pynvml.nvmlInit()
            except pynvml.NVMLError as error:
                if error.value in {pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED}:
                    return False
                raise
            _opened = True
        return True


def close_nvml() -> None:
    """Have the next question open the library again, as after the driver was reloaded."""
    global _opened
    with _lock:
        _opened = False


def gpus() -> list[dict[str, Any]]:
    """[{index, uuid, name, memory_bytes, …}] of the GPUs that a trainer started here would see.

    `index` counts as nvidia-smi does. With MIG, `mig` lists the parts, and the memory is that of the first,
    which is what a trainer on this index gets.
    """
    try:
        if not open_nvml():
            return []
        count = int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError as error:
        log.warning("NVIDIA's driver is there but does not work (%s); going on without GPUs.", error)
        close_nvml()
        return []
    found = []
    for index in range(count):
        try:
            device = _facts(index)
        except pynvml.NVMLError as error:
            log.warning("GPU %s does not answer (%s); going on without it.", index, error)
            continue
        if _is_visible(device, os.environ.get("CUDA_VISIBLE_DEVICES")):
            found.append(device)
    return found


def _facts(index: int) -> dict[str, Any]:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    device = {
        "index": index,
        "uuid": _text(pynvml.nvmlDeviceGetUUID(handle)),
        "name": _text(pynvml.nvmlDeviceGetName(handle)),
        "memory_bytes": _memory(handle)[0] or 0,
    }
    if parts := _parts(handle):
        device |= {"mig": parts, "memory_bytes": parts[0]["memory_bytes"]}
    return device


def _parts(handle: Any) -> list[dict[str, Any]]:
    """What MIG has made of a GPU; empty without MIG."""
    mode = _asked(lambda: pynvml.nvmlDeviceGetMigMode(handle)[0])
    if mode != pynvml.NVML_DEVICE_MIG_ENABLE:
        return []
    parts = []
    for number in range(_asked(lambda: pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)) or 0):
        part = _asked(lambda n=number: pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, n))  # type: ignore[misc]
        if part is not None:
            parts.append(
                {
                    "uuid": _text(_asked(lambda p=part: pynvml.nvmlDeviceGetUUID(p)) or ""),  # type: ignore[misc]
                    "name": _text(_asked(lambda p=part: pynvml.nvmlDeviceGetName(p)) or ""),  # type: ignore[misc]
                    "memory_bytes": _memory(part)[0] or 0,
                }
            )
    return parts


def _is_visible(device: dict[str, Any], visible: str | None) -> bool:
    if visible is None:
        return True
    names = [device["uuid"], *(part["uuid"] for part in device.get("mig", []))]
    wanted = [item.strip() for item in visible.split(",") if item.strip()]
    # CUDA takes the beginning of a UUID for the whole.
    return any(
        item == str(device["index"]) or (not item.isdigit() and any(name.startswith(item) for name in names))
        for item in wanted
    )


def driver_versions(*, strict: bool = False) -> dict[str, str]:
    """{driver, cuda}: of the driver, and the newest CUDA that it can run; empty without one.

    One that does not work has none either; if `strict`, it raises NVMLError.
    """
    try:
        if not open_nvml():
            return {}
        number = int(pynvml.nvmlSystemGetCudaDriverVersion_v2())
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        if strict:
            raise
        return {}
    return {"driver": driver, "cuda": f"{number // 1000}.{number % 1000 // 10}"}


def sample(devices: list[dict[str, Any]], disk: Path | None = None) -> dict[str, Any]:
    """{devices: [{index, uuid, name, memory_bytes, memory_used, utilisation, temperature, power,
    power_limit, error}], host: {cpu, memory_bytes, memory_used, load, disk_bytes, disk_free}}.

    Memory in bytes, use from 0 to 1, temperature in °C, power in watts; None where it is not known.
    """
    return {"devices": [device_sample(device) for device in devices], "host": host_sample(disk)}


def device_sample(device: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {name: device.get(name) for name in ("index", "uuid", "name", "memory_bytes")}
    try:
        if not open_nvml():
            raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
        # Its number may have changed since: the UUID never does.
        handle = pynvml.nvmlDeviceGetHandleByUUID(str(device["uuid"]))
        found["memory_used"] = _memory(handle)[1]
        found["utilisation"] = _asked(lambda: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
        found["temperature"] = _asked(
            lambda: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)
        )
        found["power"] = _asked(lambda: pynvml.nvmlDeviceGetPowerUsage(handle) / 1000)
        found["power_limit"] = _asked(lambda: pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000)
    except pynvml.NVMLError as error:
        found["error"] = str(error)
        if error.value == pynvml.NVML_ERROR_UNINITIALIZED:
            close_nvml()
    return found


def host_sample(disk: Path | None = None) -> dict[str, Any]:
    global _looked
    memory = psutil.virtual_memory()
    # Since the sample before; where there is none, that would be 0.
    cpu = psutil.cpu_percent(interval=None if _looked else 0.1) / 100
    _looked = True
    found: dict[str, Any] = {
        "cpu": cpu,
        "memory_bytes": memory.total,
        "memory_used": memory.total - memory.available,
        "load": round(psutil.getloadavg()[0], 2),
    }
    try:
        usage = psutil.disk_usage(str(disk or settings.HOME))
    except OSError:
        return found
    return found | {"disk_bytes": usage.total, "disk_free": usage.free}


def _asked(question: Callable[[], Any]) -> Any:
    """The answer; None where this device or its driver has none to give. A device that is gone raises."""
    try:
        return question()
    except pynvml.NVMLError as error:
        if error.value in HAS_NONE:
            return None
        raise


def _memory(handle: Any) -> tuple[int | None, int | None]:
    """(total, used) bytes. A device that shares the host's memory has none of its own."""
    found = _asked(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
    return (int(found.total), int(found.used)) if found is not None else (None, None)


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
