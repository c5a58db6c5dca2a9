"""Which texts share most of their pairs of neighbouring words: MinHash, and an exact count for what it proposes.

Signatures of HASHES minima (Broder, "On the resemblance and containment of documents", 1997) are cut into bands; two
texts that agree in a band are compared. With 12 bands of 3, of two texts that share 80 % of their pairs all but one in
5,000 are found, of those that share 90 % practically all; none is told that does not share ALIKE of them. In a
band each text is compared with the first of those it agrees with and the one before it, not with all: the work grows
with the texts, not with their square.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from webapp.datasets.findings.plain import spaced

Numbers = np.ndarray[Any, np.dtype[np.uint64]]
Places = np.ndarray[Any, np.dtype[np.int64]]

ALIKE = 0.8  # of the pairs of words that either of two texts has, both have
WORDS = 8  # texts of fewer say too little to be told apart from others
HASHES, BAND = 36, 3
LIKELY = 0.55  # signatures that agree less are of texts that are not alike
MOST_PAIRS = 400_000
AT_ONCE = 4_000  # pairs that are counted exactly at a time
ALONE = r"([\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}])"  # written without blanks
_ODD = np.random.default_rng(0).integers(1 << 62, size=HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_FIRST, _SECOND, _MIX = (
    np.uint64(each) for each in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93)
)


class Shingles:
    """Texts as the numbers of their pairs of words, in the order in which they are added."""

    def __init__(self) -> None:
        self.count = 0
        self._numbers: list[Numbers] = []
        self._lengths: list[Places] = []
        self._signatures: list[np.ndarray[Any, np.dtype[np.uint32]]] = []

    def add(self, texts: pa.StringArray) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Take in those that have enough words; which these are."""
        split = pc.ascii_split_whitespace(_separated(texts))
        words = pc.list_value_length(split).to_numpy().astype(np.int64)
        long: np.ndarray[Any, np.dtype[np.bool_]] = words >= WORDS
        if not long.any():
            return long
        split, words = split.filter(pa.array(long)), words[long]
        hashed = _hashed(split.flatten())
        with np.errstate(over="ignore"):
            pairs = _mixed(hashed[:-1] * _FIRST + hashed[1:] * _SECOND)
            inside = np.ones(len(hashed), np.bool_)
            inside[np.cumsum(words) - 1] = (
                False  # the last word of one text and the first of the next are no pair
            )
            pairs, lengths = pairs[inside[:-1]], words - 1
            begins = np.cumsum(lengths) - lengths
            minima = [np.minimum.reduceat((pairs * odd) >> np.uint64(32), begins) for odd in _ODD]
        self._numbers.append(pairs)
        self._lengths.append(lengths)
        self._signatures.append(np.stack(minima, axis=1).astype(np.uint32))
        self.count += len(pairs)
        return long

    def alike(
        self, rank: Places, part: Places
    ) -> tuple[Places, Places, np.ndarray[Any, np.dtype[np.float64]]]:
        """Pairs of texts: (the later, the earlier by `rank`, the share of their pairs of words that both have).

        `rank` orders the texts, those of a `part` (split) together.
        """
        if not self._lengths:
            return np.array([], np.int64), np.array([], np.int64), np.array([], np.float64)
        signatures, lengths = np.concatenate(self._signatures), np.concatenate(self._lengths)
        later, earlier = _likely(signatures, rank, part)
        numbers, begins = np.concatenate(self._numbers), np.cumsum(lengths) - lengths
        shares = [
            _shared(numbers, begins, lengths, later[at : at + AT_ONCE], earlier[at : at + AT_ONCE])
            for at in range(0, len(later), AT_ONCE)
        ]
        share = np.concatenate(shares) if shares else np.array([], np.float64)
        kept = share >= ALIKE
        return later[kept], earlier[kept], share[kept]


def _separated(texts: pa.StringArray) -> pa.StringArray:
    """Words with blanks between them, and none around all."""
    texts = spaced(texts)
    if pc.any(pc.greater(pc.binary_length(texts), pc.utf8_length(texts))).as_py():
        texts = pc.replace_substring_regex(texts, ALONE, r" \1 ")
    return pc.ascii_trim_whitespace(texts)


def _hashed(words: pa.StringArray) -> Numbers:
    coded = words.dictionary_encode()
    each = np.array([zlib.crc32(word) for word in coded.dictionary.cast(pa.binary()).to_pylist()], np.uint64)
    numbers: Numbers = each[coded.indices.to_numpy()]
    return numbers


def _mixed(values: Numbers) -> Numbers:
    values = (values ^ (values >> np.uint64(32))) * _MIX
    return values ^ (values >> np.uint64(32))


def _likely(signatures: np.ndarray[Any, Any], rank: Places, part: Places) -> tuple[Places, Places]:
    """Pairs that agree in a band and in as much of their signatures as texts that are alike do."""
    count = len(signatures)
    found: list[Places] = []
    for band in range(0, HASHES, BAND):
        with np.errstate(over="ignore"):
            key = np.zeros(count, np.uint64)
            for column in range(band, band + BAND):
                key = _mixed(key * _FIRST + signatures[:, column])
        order = np.lexsort((rank, key))
        for begins in (_changes(key[order]), _changes(key[order]) | _changes(part[order])):
            first = order[np.maximum.accumulate(np.where(begins, np.arange(count), 0))]
            found.append((order * count + first)[~begins])
        found.append((order[1:] * count + order[:-1])[~begins[1:]])
    pairs = np.unique(np.concatenate(found))
    later, earlier = pairs // count, pairs % count
    agreed = np.concatenate(
        [
            (signatures[later[at : at + 50_000]] == signatures[earlier[at : at + 50_000]]).mean(axis=1)
            for at in range(0, len(pairs), 50_000)
        ]
        or [np.array([])]
    )
    likely = np.flatnonzero(agreed >= LIKELY)
    if len(likely) > MOST_PAIRS:
        likely = np.sort(likely[np.argpartition(-agreed[likely], MOST_PAIRS)[:MOST_PAIRS]])
    return later[likely], earlier[likely]


def _changes(values: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.concatenate(([True], values[1:] != values[:-1]))


def _shared(
    numbers: Numbers, begins: Places, lengths: Places, later: Places, earlier: Places
) -> np.ndarray[Any, Any]:
    """The Jaccard index of each pair of texts: of the pairs of words that either has, the share that both have."""
    first, second = _own(numbers, begins, lengths, later), _own(numbers, begins, lengths, earlier)
    _, places, _ = np.intersect1d(first[0], second[0], assume_unique=True, return_indices=True)
    both = np.bincount(first[1][places], minlength=len(later))
    either = np.bincount(first[1], minlength=len(later)) + np.bincount(second[1], minlength=len(later)) - both
    share: np.ndarray[Any, Any] = both / np.maximum(either, 1)
    return share


def _own(numbers: Numbers, begins: Places, lengths: Places, texts: Places) -> tuple[Numbers, Places]:
    """(the different numbers of each text, mixed with its place so that no two places share any; the places)."""
    sizes = lengths[texts]
    places = np.repeat(np.arange(len(texts)), sizes)
    within = np.arange(len(places)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    with np.errstate(over="ignore"):
        mixed = numbers[np.repeat(begins[texts], sizes) + within] ^ _mixed(
            places.astype(np.uint64) * _FIRST + _SECOND
        )
    different, at = np.unique(mixed, return_index=True)
    return different, places[at]
