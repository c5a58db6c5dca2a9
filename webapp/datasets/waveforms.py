"""How loud a recording is over its length, as a path that a page draws."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import soundfile

from webapp.datasets.recordings import BLOCK, content_type

BARS = 200
WIDTH, HEIGHT = 600, 64  # of the drawing's own coordinates
MOST_SECONDS = 120  # of sound that are decoded for a page


@dataclass(frozen=True)
class Waveform:
    """`path`: an upright line for each of BARS stretches of time, from the lowest to the highest sample in it."""

    path: str
    seconds: float
    drawn: float  # of `seconds`, from the beginning on
    rate: int
    channels: int
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def is_whole(self) -> bool:
        return self.drawn >= self.seconds


def waveform(data: bytes) -> Waveform | None:
    """Of the channels' mean; None for what cannot be decoded. Memory stays at a block of samples."""
    if not content_type(data):
        return None
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as opened:
            rate, channels, frames = opened.samplerate, opened.channels, opened.frames
            if rate <= 0 or frames <= 0:
                return None
            drawn = min(frames, rate * MOST_SECONDS)
            low, high = _peaks(opened, drawn)
    except (soundfile.SoundFileError, RuntimeError, ValueError, OSError):
        return None
    return Waveform(_path(low, high), frames / rate, drawn / rate, rate, channels)


def _peaks(opened: soundfile.SoundFile, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest sample, from -1 to 1, of each stretch [BARS]."""
    low, high = np.zeros(BARS), np.zeros(BARS)
    done = 0
    block = max(1, BLOCK // opened.channels)
    while done < frames:
        read = opened.read(min(block, frames - done), dtype="float32", always_2d=True)
        if not len(read):
            break
        sound = np.nan_to_num(read).clip(-1, 1).mean(axis=1)
        bars = (np.arange(done, done + len(sound), dtype=np.int64) * BARS) // frames
        np.minimum.at(low, bars, sound)
        np.maximum.at(high, bars, sound)
        done += len(sound)
    return low, high


def _path(low: np.ndarray, high: np.ndarray) -> str:
    """Quiet recordings fill the height, too; silence is a line of dots."""
    loudest = max(float(np.abs(low).max()), float(high.max()))
    scale = (HEIGHT / 2 - 1) / loudest if loudest > 0 else 0.0
    step, middle = WIDTH / BARS, HEIGHT / 2
    return "".join(
        f"M{step * (bar + 0.5):.1f} {middle - max(0.5, top * scale):.1f}V{middle - min(-0.5, bottom * scale):.1f}"
        for bar, (bottom, top) in enumerate(zip(low.tolist(), high.tolist(), strict=True))
    )
