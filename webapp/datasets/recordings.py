"""Recordings that strangers send: how long they are, and whether all of what their head promises is there."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr

from webapp.datasets.pictures import Unreadable

FORMATS = "WAV, FLAC, MP3 or OGG"
RATES = range(1_000, 768_001)  # samples a second
LONGEST_SECONDS = 4 * 3600
BLOCK = 1 << 16  # samples decoded at once
UNKNOWN_LENGTH = (0, 0xFFFFFFFF)  # of the data of a WAV that was written to a pipe
CUT = "Copy it again from where it comes from, or take it out."


@dataclass(frozen=True)
class Recording:
    seconds: float
    rate: int
    channels: int


def content_type(data: bytes) -> str:
    """Of a recording that pages play, by first bytes; empty for anything else."""
    if data[:4] in (b"RIFF", b"RF64") and data[8:12] == b"WAVE":
        return "audio/wav"
    if data.startswith(b"fLaC"):
        return "audio/flac"
    if data.startswith(b"OggS"):
        return "audio/ogg"
    if data.startswith(b"ID3") or (
        len(data) > 2 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] & 0x06
    ):
        return "audio/mpeg"
    return ""


def look_into(data: bytes, *, whole: bool) -> Recording:
    """Length and rate; raises Unreadable. `whole`: decode what is packed, so that a cut one is found."""
    kind = content_type(data)
    if not kind:
        raise Unreadable("is not a recording that can be read", f"Use {FORMATS}, or take the file out.")
    if kind == "audio/wav":
        _check_wav(data)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as opened:
            rate, frames, channels = opened.samplerate, opened.frames, opened.channels
            if rate not in RATES:
                raise Unreadable(
                    f"says that it has {rate:,} samples a second", "Write it again: its header is wrong."
                )
            if frames <= 0:
                raise Unreadable("holds no sound", "Take it out.")
            if frames > rate * LONGEST_SECONDS:
                raise Unreadable(
                    f"is longer than {LONGEST_SECONDS // 3600} hours", "Cut it into shorter ones."
                )
            if whole and opened.subtype in ("FLOAT", "DOUBLE") and not _finite(opened):
                raise Unreadable("holds values that are no numbers", "Write it again, in 16 bits.")
            if whole and kind != "audio/wav":
                decoded = _decoded(opened, frames)
                # The head of an MP3 is an estimate; a second is more than it is ever off.
                if decoded < frames - (rate if kind == "audio/mpeg" else 0):
                    raise Unreadable(f"ends after {decoded / rate:.1f} of {frames / rate:.1f} seconds", CUT)
                frames = decoded
    except (soundfile.SoundFileError, RuntimeError, ValueError, OSError) as error:
        raise Unreadable("is cut off or damaged", CUT) from error
    return Recording(frames / rate, rate, channels)


def at_rate(data: bytes, rate: int) -> bytes:
    """The recording with `rate` samples a second, in one channel: as it is where it is so, else as FLAC in 16 bits.

    Block by block, so that memory does not depend on its length. Raises Unreadable.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as opened:
            if (opened.samplerate, opened.channels) == (rate, 1):
                return data
            target = io.BytesIO()
            stream = soxr.ResampleStream(opened.samplerate, rate, 1, dtype="float32")
            with soundfile.SoundFile(target, "w", rate, 1, "PCM_16", format="FLAC") as made:
                while len(block := opened.read(BLOCK, dtype="float32", always_2d=True)):
                    made.write(stream.resample_chunk(block.mean(axis=1)))
                made.write(stream.resample_chunk(np.zeros(0, np.float32), last=True))
            return target.getvalue()
    except (soundfile.SoundFileError, RuntimeError, ValueError, OSError) as error:
        raise Unreadable("is cut off or damaged", CUT) from error


def _finite(opened: soundfile.SoundFile) -> bool:
    return all(np.isfinite(block).all() for block in opened.blocks(BLOCK, dtype="float32"))


def _decoded(opened: soundfile.SoundFile, most: int) -> int:
    frames = 0
    while block := len(opened.read(BLOCK, dtype="float32")):
        frames += block
        if frames > most + BLOCK:
            break
    return frames


def _check_wav(data: bytes) -> None:
    """Whether the samples that the header promises are there: libsndfile reads what is left without a word."""
    for name, start, size in _chunks(data):
        if name == b"data":
            there = len(data) - start
            if size not in UNKNOWN_LENGTH and size > there:
                raise Unreadable(
                    f"has {there:,} bytes of sound, and {size:,} by what its header says: it is cut off, "
                    "or its header is wrong",
                    CUT,
                )
            return
    raise Unreadable("holds no sound", "Write it again as WAV, or take it out.")


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, where its content starts, how long it says to be)"""
    place = 12
    while place + 8 <= len(data):
        size = int.from_bytes(data[place + 4 : place + 8], "little")
        yield data[place : place + 4], place + 8, size
        place += 8 + size + size % 2
