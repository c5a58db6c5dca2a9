"""Which device trains, and in which precision."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

from runs.training.events import TrainingFailure


def use_only(devices: Sequence[int] | None) -> bool:
    """Have this process see these GPUs alone; False if it is too late for that, as CUDA has been touched.

    None: whatever there is. An empty list: none.
    """
    if devices is None:
        return True
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, devices))
    return not cuda_is_touched()


def cuda_is_touched() -> bool:
    """Whether this process has initialised the CUDA driver: it then sees the GPUs of that moment for good."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    not_initialised = 3  # CUDA_ERROR_NOT_INITIALIZED
    return bool(driver.cuDeviceGetCount(ctypes.byref(ctypes.c_int())) != not_initialised)


@cache
def device() -> torch.device:
    """The first CUDA device, else the CPU. (Apple's and others' devices lack exact resume.)"""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@cache
def has_bf16() -> bool:
    """Whether the device computes bfloat16 faster than float32.

    CPUs with AMX do. Those with the older AVX-512 instructions alone take twice as long for BERT's matrices.
    """
    if device().type == "cuda":
        return bool(torch.cuda.get_device_capability() >= (8, 0))
    try:
        flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[-1].split("\n", 1)[0].split()
    except OSError:
        return False
    return "amx_bf16" in flags


def use_bf16(precision: str) -> bool:
    """What the setting `precision` comes to here; raises TrainingFailure for bf16 on a GPU without it."""
    if precision == "bf16" and device().type == "cuda" and not has_bf16():
        raise TrainingFailure(
            "bad_settings",
            f"{torch.cuda.get_device_name()} has no bfloat16.",
            "Choose the precision “auto” or float32.",
        )
    return has_bf16() if precision == "auto" else precision == "bf16"


def autocast(precision: str) -> torch.autocast:
    """For forward passes outside the Trainer: the precision that training would have."""
    return torch.autocast(device().type, dtype=torch.bfloat16, enabled=use_bf16(precision))


def keep_freed_memory() -> None:
    """Have the C library keep large blocks for the next use instead of giving each back to the system.

    Otherwise every layer of a convolutional network pays for fresh zeroed pages: EfficientNet-lite0 in
    batches of 64 reads 2.6 times as many pictures a second with it, for a tenth more memory (2 CPU cores).
    """
    trim_threshold, mmap_max = -1, -4  # malloc.h of the GNU C library
    with contextlib.suppress(AttributeError, OSError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(mmap_max, 0)
        library.mallopt(trim_threshold, 2**31 - 1)


def describe() -> str:
    """For the log."""
    where = (
        torch.cuda.get_device_name() if device().type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    )
    return f"{where}, {'with' if has_bf16() else 'without'} bfloat16"
