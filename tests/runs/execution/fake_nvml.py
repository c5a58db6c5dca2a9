"""NVIDIA's management library as a driver with some GPUs would answer; the real one needs a GPU."""
# ruff: noqa: N802 – the names are NVIDIA's

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml


@dataclass
class Gpu:
    """One GPU. `lost` answers nothing any more; what is in `without` it does not support."""

    uuid: str
    name: str = "NVIDIA H100 80GB HBM3"
    memory: int = 80 * 2**30
    used: int = 10 * 2**30
    use: int = 75
    temperature: int = 61
    power: int = 412_500  # milliwatts
    limit: int = 700_000
    lost: bool = False
    without: set[str] = field(default_factory=set)
    parts: list[Gpu] = field(default_factory=list)  # of MIG

    def say(self, what: str, value: Any) -> Any:
        if self.lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        if what in self.without:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return value


class FakeNvml:
    """Stands where the module `pynvml` does; its constants and errors are the real ones."""

    def __init__(self, *gpus: Gpu, init_error: int | None = None) -> None:
        self.gpus = list(gpus)
        self.init_error = init_error
        self.inits = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("nvml"):
            raise AssertionError(f"teach the fake about {name}")
        return getattr(pynvml, name)

    def nvmlInit(self) -> None:
        self.inits += 1
        if self.init_error is not None:
            raise pynvml.NVMLError(self.init_error)

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Gpu:
        gpu: Gpu = self.gpus[index].say("handle", self.gpus[index])
        return gpu

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Gpu:
        for gpu in self.gpus:
            if gpu.uuid == uuid:
                found: Gpu = gpu.say("handle", gpu)
                return found
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    def nvmlDeviceGetUUID(self, gpu: Gpu) -> str:
        return gpu.uuid

    def nvmlDeviceGetName(self, gpu: Gpu) -> str:
        return gpu.name

    def nvmlDeviceGetMemoryInfo(self, gpu: Gpu) -> Any:
        return gpu.say("memory", SimpleNamespace(total=gpu.memory, used=gpu.used))

    def nvmlDeviceGetUtilizationRates(self, gpu: Gpu) -> Any:
        return gpu.say("use", SimpleNamespace(gpu=gpu.use, memory=1))

    def nvmlDeviceGetTemperature(self, gpu: Gpu, sensor: int) -> int:
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return int(gpu.say("temperature", gpu.temperature))

    def nvmlDeviceGetPowerUsage(self, gpu: Gpu) -> int:
        return int(gpu.say("power", gpu.power))

    def nvmlDeviceGetEnforcedPowerLimit(self, gpu: Gpu) -> int:
        return int(gpu.say("limit", gpu.limit))

    def nvmlDeviceGetMigMode(self, gpu: Gpu) -> list[int]:
        if "mig" in gpu.without:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        mode = pynvml.NVML_DEVICE_MIG_ENABLE if gpu.parts else pynvml.NVML_DEVICE_MIG_DISABLE
        return [mode, mode]

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: Gpu) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: Gpu, number: int) -> Gpu:
        if number >= len(gpu.parts):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return gpu.parts[number]

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.82.07"

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return 13000


def install(monkeypatch: Any, *gpus: Gpu, init_error: int | None = None) -> FakeNvml:
    """A driver with these GPUs for the rest of a test."""
    from runs.execution import telemetry

    fake = FakeNvml(*gpus, init_error=init_error)
    monkeypatch.setattr(telemetry, "pynvml", fake)
    monkeypatch.setattr(telemetry, "_opened", False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return fake


Installed = Callable[..., FakeNvml]
