"""What an exception out of the libraries means for the person whose run it ended."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runs.training.events import TrainingFailure
from runs.training.spec import SpecError

NO_ROOM_BYTES = 4 << 20


def explain(
    error: BaseException, settings: dict[str, Any] | None = None, workdir: Path | None = None
) -> TrainingFailure:
    """A failure with a reason code; `crashed` for what nobody foresaw."""
    if isinstance(error, TrainingFailure):
        return error
    if isinstance(error, SpecError):
        return TrainingFailure("bad_settings", str(error), "Launch the run again.")
    if is_out_of_memory(error):
        where = "GPU" if "cuda" in str(error).lower() else "training process"
        return TrainingFailure("out_of_memory", f"The {where} ran out of memory.", smaller(settings or {}))
    if _is_disk_full(error, workdir):
        return TrainingFailure(
            "disk_full",
            "The disk of the worker is full.",
            "Free space there, then try the run again: it goes on from its last checkpoint.",
        )
    if any(type(cause).__name__ == "SafetensorError" for cause in _causes(error)):
        return TrainingFailure(
            "model_unavailable",
            f"The weights of the model cannot be read: {_short(str(error))}",
            "The file is damaged or cut short: fetch or add the model again, or choose another one.",
        )
    return TrainingFailure(
        "crashed",
        f"The training ended with an error: {type(error).__name__}: {_short(str(error))}",
        "The last lines of the log show where it was.",
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Torch says it in several ways: its own class on CUDA, a RuntimeError on the CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ in {
        "OutOfMemoryError",
        "AcceleratorOutOfMemoryError",
    }:
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "not enough memory" in text or "can't allocate memory" in text
    )


def smaller(settings: dict[str, Any]) -> str:
    """Which of these settings to lower, and to what, for a run that needs about half the memory."""
    batch = int(settings.get("per_device_train_batch_size") or 0)
    accumulation = int(settings.get("gradient_accumulation_steps") or 1)
    advice = []
    if batch > 1:
        advice.append(
            f"per_device_train_batch_size {max(1, batch // 2)} with gradient_accumulation_steps "
            f"{accumulation * 2} (the result stays the same)"
        )
    length = int(settings.get("max_length") or 0)
    if length > 64:
        advice.append(f"max_length {length // 2}")
    evaluation = int(settings.get("per_device_eval_batch_size") or 0)
    if evaluation > max(1, batch):
        advice.append(f"per_device_eval_batch_size {max(1, evaluation // 2)}")
    advice.append("a smaller model, or a method that trains fewer weights (head, LoRA)")
    return f"Try {', or '.join(advice)}."


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, what it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_disk_full(error: BaseException, workdir: Path | None) -> bool:
    for cause in _causes(error):
        text = str(cause).lower()
        if isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}:
            return True
        if "no space left on device" in text:  # safetensors wraps it in its own
            return True
        # torch says where in its writer it was, and not why: what is left on the disk tells.
        writing = "inline_container" in text or "pytorchstreamwriter" in text
        if writing and workdir is not None and shutil.disk_usage(workdir).free < NO_ROOM_BYTES:
            return True
    return False


def _short(text: str, limit: int = 500) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"
