"""Archives, pictures and recordings for tests, made in memory."""

from __future__ import annotations

import io
import tarfile
import zipfile
from typing import Any

import numpy as np
import soundfile
from PIL import Image


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return target.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w:gz", *members: tarfile.TarInfo) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in members:
            archive.addfile(member)
    return target.getvalue()


def picture(
    number: int = 0, kind: str = "PNG", size: tuple[int, int] = (12, 10), mode: str = "RGB", **options: Any
) -> bytes:
    """A picture in one colour, another for each number."""
    target = io.BytesIO()
    colour: Any = (40 * number % 256, 90, 200 - number % 100)
    image = Image.new("RGB", size, colour).convert(mode)
    image.save(target, kind, **options)
    return target.getvalue()


def recording(number: int = 0, kind: str = "WAV", seconds: float = 0.25, rate: int = 8_000) -> bytes:
    """A tone, higher for each number."""
    target = io.BytesIO()
    times = np.arange(int(seconds * rate)) / rate
    soundfile.write(target, 0.3 * np.sin(2 * np.pi * (200 + 40 * number) * times), rate, format=kind)
    return target.getvalue()
