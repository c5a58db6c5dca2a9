"""What pictures look like, coarsely: a small grey copy of each, by which near copies of it are found.

Whoever decodes a picture while files are read leaves its copy here (`remember`), in this process alone, so that the look
for pictures that are alike (findings/similar_pictures.py) need not decode it again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 18, 16
DRAFT = 64  # pixels of a side that are enough for it
MOST_KEPT = 100_000  # of about 400 bytes each
FLAT = 4.0  # deviation of its greys, of 255, below which a picture has nothing to tell it by
LIKE = 0.995  # correlation of the greys
NEAR = 4  # bits of 64 that differ; five bands of bits find all pairs up to that
BANDS = ((0, 13), (13, 13), (26, 13), (39, 13), (52, 12))  # (first bit, bits)
NEIGHBOURS = 16  # in the order of a band, that each picture is compared with

_kept: dict[int, bytes] = {}

Places = np.ndarray[Any, np.dtype[np.int64]]


def draft(picture: Image.Image) -> None:
    """Have a JPEG read to its end, but the arithmetic done for few of its pixels: enough for `copy_of`."""
    if picture.format == "JPEG":
        picture.draft(picture.mode, (max(DRAFT, picture.width // 8), max(DRAFT, picture.height // 8)))


def remember(data: bytes, picture: Image.Image) -> None:
    """Keep the copy of a decoded picture for `recalled`."""
    if len(_kept) < MOST_KEPT:
        _kept[hash(data)] = copy_of(picture)


def recalled(data: bytes) -> bytes | None:
    """The copy of the picture with these bytes, if it was decoded in this process."""
    return _kept.get(hash(data))


def copy_of(picture: Image.Image) -> bytes:
    """WIDTH × HEIGHT greys, row by row; of a picture that `pictures.eight_bits` need not change."""
    if picture.mode in ("P", "PA"):
        picture = picture.convert("RGBA")
    grey = picture if picture.mode == "L" else picture.convert("L")
    return grey.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR, reducing_gap=3.0).tobytes()


def alike(copies: list[bytes]) -> tuple[Places, Places, np.ndarray[Any, np.dtype[np.float64]]]:
    """Pairs of pictures that are alike, by their places: (the later, the earlier, the correlation of their greys).

    Candidates are those whose difference hashes (each bit: whether a spot is lighter than the one left of it) differ in
    at most NEAR bits.
    """
    greys = np.frombuffer(b"".join(copies), np.uint8).reshape(len(copies), HEIGHT * WIDTH)
    hashes = _difference_hashes(greys)
    told = np.flatnonzero(greys.std(axis=1) >= FLAT)
    found: list[Places] = []
    for first, bits in BANDS:
        key = (hashes[told] >> np.uint64(first)) & np.uint64((1 << bits) - 1)
        order = told[np.lexsort((told, hashes[told], key))]
        keys = (hashes[order] >> np.uint64(first)) & np.uint64((1 << bits) - 1)
        for step in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
            one, other = order[step:], order[:-step]
            near = (keys[step:] == keys[:-step]) & (np.bitwise_count(hashes[one] ^ hashes[other]) <= NEAR)
            found.append(np.maximum(one, other)[near] * len(copies) + np.minimum(one, other)[near])
    pairs = np.unique(np.concatenate(found or [np.array([], np.int64)]))
    later, earlier = pairs // max(1, len(copies)), pairs % max(1, len(copies))
    share = np.array(
        [_correlation(greys[a], greys[b]) for a, b in zip(later, earlier, strict=True)], np.float64
    )
    kept = share >= LIKE
    return later[kept], earlier[kept], share[kept]


def _difference_hashes(greys: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    spots = greys.reshape(-1, 8, HEIGHT // 8, 9, WIDTH // 9).sum(axis=(2, 4), dtype=np.int32)
    bits = (spots[:, :, 1:] > spots[:, :, :-1]).reshape(-1, 64)
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64).reshape(-1)


def _correlation(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    return float(np.corrcoef(one.astype(np.float64), other.astype(np.float64))[0, 1])
