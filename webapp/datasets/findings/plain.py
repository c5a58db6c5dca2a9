"""Texts without case, punctuation and blanks: what two of them have in common where only those differ.

It works on the bytes of a whole batch at once, since a regular expression over a million texts takes longer than
everything else that an inspection does. Letters, numbers and the marks that belong to them (Unicode L, N, M) stay;
so does all beyond the basic plane, such as emoji.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
Places = np.ndarray[Any, np.dtype[np.int64]]

_KEPT = np.array([byte >= 128 or chr(byte).isalnum() for byte in range(256)])
_DROPPED = bytes(byte for byte in range(128) if not _KEPT[byte])
_LOWER = bytes(range(256)).lower()  # of ASCII alone
_STAYS = bytes(_KEPT.astype(np.uint8))
_SPACED = bytes(byte if _KEPT[byte] else 0x20 for byte in _LOWER)


@cache
def _kept_points() -> Mask:
    """Whether a character stays, by its number, in the basic plane."""
    return np.array([unicodedata.category(chr(point))[0] in "LNM" for point in range(1 << 16)])


def spaced(texts: pa.StringArray) -> pa.StringArray:
    """The same texts in small letters, with a blank for each byte of what `plain` leaves out; a missing one is empty."""
    texts = pc.fill_null(texts, "")
    data, offsets = _parts(texts)
    if data.isascii():
        return _array(data.translate(_SPACED), np.diff(offsets))
    data, offsets = _parts(pc.utf8_lower(texts))
    found = np.frombuffer(data, np.uint8)
    return _array(np.where(_mask(found), found, 0x20).astype(np.uint8).tobytes(), np.diff(offsets))


def plain(texts: pa.StringArray) -> pa.StringArray:
    """The same texts, a missing one as an empty one."""
    texts = pc.fill_null(texts, "")
    data, offsets = _parts(texts)
    if not data.isascii():
        data, offsets = _parts(pc.utf8_lower(texts))
        found = np.frombuffer(data, np.uint8)
        mask = _mask(found)
        return _array(found[mask].tobytes(), _sums(mask.view(np.uint8), offsets))
    stays = np.frombuffer(
        data.translate(_STAYS), np.uint8
    )  # an index into _KEPT would take three times as long
    return _array(data.translate(_LOWER, _DROPPED), _sums(stays, offsets))


def _parts(texts: pa.StringArray) -> tuple[bytes, Places]:
    """(the bytes of all texts, where each begins and the last ends)."""
    _, ends, data = texts.buffers()
    if not len(texts) or data is None:
        return b"", np.zeros(len(texts) + 1, np.int64)
    places = np.frombuffer(ends, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    return bytes(memoryview(data)[places[0] : places[-1]]), places - places[0]


def _sums(stays: Bytes, offsets: Places) -> Places:
    """How many bytes of each text stay: of ones and zeros."""
    # One longer, as `reduceat` wants it where the last texts are empty.
    sums = np.add.reduceat(np.append(stays, np.uint8(0)), offsets[:-1], dtype=np.int32)
    return np.where(np.diff(offsets) > 0, sums, 0).astype(np.int64)


def _mask(data: Bytes) -> Mask:
    """Which bytes stay, where there are others than ASCII."""
    mask = _KEPT[data]
    points = _kept_points()
    for first, last, length in ((0xC2, 0xDF, 2), (0xE0, 0xEF, 3)):
        begin = np.flatnonzero((data >= first) & (data <= last))
        number = (data[begin] & (0x1F if length == 2 else 0x0F)).astype(np.int64)
        for step in range(1, length):
            number = number << 6 | (data[begin + step] & 0x3F)
        gone = begin[~points[number]]
        for step in range(length):
            mask[gone + step] = False
    return mask


def _array(data: bytes, lengths: Places) -> pa.StringArray:
    ends = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return pa.StringArray.from_buffers(len(lengths), pa.py_buffer(ends), pa.py_buffer(data))
