"""What is found out about values that DuckDB does not look into, as they pass by: sizes, lengths, classes.

Also where a picture or a recording is found that cannot be read.
"""

from __future__ import annotations

from array import array as numbers
from collections import Counter
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from webapp.datasets import masks, pictures, recordings
from webapp.datasets.limits import Limits
from webapp.datasets.pictures import Unreadable

MOST_RATES = 10  # different sample rates that are told


class BadValue(Exception):
    """A value that cannot be used, by its place in the batch."""

    def __init__(self, place: int, reason: Unreadable) -> None:
        super().__init__(reason.why)
        self.place, self.reason = place, reason


class Tally:
    """Of one column of a kind without more to tell."""

    kind: ClassVar[str] = ""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.names: set[str] = set()  # of the classes that its values have

    def add(self, array: pa.Array) -> None:
        """Look at a batch; raises BadValue."""

    def join(self, other: Tally) -> None:
        """Take in what was found in another file."""
        self.names |= other.names

    def facts(self) -> dict[str, Any]:
        """What pages and API tell of the column."""
        return {}

    def named(self, given: list[str]) -> list[str]:
        """The names of the classes in the order of their numbers; first those that are `given`."""
        return given + sorted(self.names - set(given))


class PictureTally(Tally):
    kind = "image"

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.sizes = numbers("I")

    def add(self, array: pa.Array) -> None:
        for place, value in enumerate(array):
            if value.is_valid:
                try:
                    self.sizes.extend(
                        pictures.size_of(value["bytes"].as_py() or b"", self.limits.image_pixels)
                    )
                except Unreadable as error:
                    raise BadValue(place, error) from error

    def join(self, other: Tally) -> None:
        super().join(other)
        assert isinstance(other, PictureTally)
        self.sizes.extend(other.sizes)

    def facts(self) -> dict[str, Any]:
        sizes = np.array(self.sizes, np.int64).reshape(-1, 2)
        if not len(sizes):
            return {}
        return {"width": _spread(sizes[:, 0]), "height": _spread(sizes[:, 1])}


MOST_NAMED = 1000  # masks of unknown values


class MaskTally(PictureTally):
    kind = "mask"

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.highest = -1  # class of any pixel
        self.unknown: dict[str, Any] = {}
        self._named: set[str] = set()  # the masks of `unknown`

    def add(self, array: pa.Array) -> None:
        for place, value in enumerate(array):
            if value.is_valid:
                try:
                    pixels = masks.counts(value["bytes"].as_py() or b"", self.limits.image_pixels)
                except Unreadable as error:
                    raise BadValue(place, error) from error
                self.sizes.extend(masks.size_of(value["bytes"].as_py()) or (0, 0))
                self.highest = max(self.highest, *np.flatnonzero(pixels[: masks.IGNORED]), -1)

    @property
    def count(self) -> int:
        """Masks so far."""
        return len(self.sizes) // 2

    def note_unknown(self, file: str, sha256: str, values: list[int]) -> None:
        """A mask that had values without a name; `sha256` is of what is kept of it."""
        self._join_unknown({"file": file, "masks": [sha256], "values": values, "count": 1, "more": False})

    def _join_unknown(self, other: dict[str, Any]) -> None:
        """`masks`: SHA-256 of those that are kept, the first one first; `more`: not all of them are named."""
        if not self.unknown:
            self.unknown = {"file": other["file"], "masks": [], "values": [], "count": 0, "more": False}
        mine = self.unknown
        for sha256 in other["masks"]:
            if sha256 in self._named:
                continue
            if len(self._named) < MOST_NAMED:
                self._named.add(sha256)
                mine["masks"].append(sha256)
            else:
                mine["more"] = True
        mine["more"] |= other["more"]
        mine["values"] = sorted({*mine["values"], *other["values"]})
        mine["count"] += other["count"]

    def join(self, other: Tally) -> None:
        super().join(other)
        assert isinstance(other, MaskTally)
        self.highest = max(self.highest, other.highest)
        if other.unknown:
            self._join_unknown(other.unknown)

    def named(self, given: list[str]) -> list[str]:
        """Classes without a name are called by their numbers."""
        return given + [str(number) for number in range(len(given), int(self.highest) + 1)]

    def facts(self) -> dict[str, Any]:
        return super().facts() | ({"unknown": self.unknown} if self.unknown else {})


class RecordingTally(Tally):
    kind = "audio"

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.seconds = numbers("d")
        self.rates: Counter[int] = Counter()

    def add(self, array: pa.Array) -> None:
        for place, value in enumerate(array):
            if value.is_valid:
                try:
                    found = recordings.look_into(value["bytes"].as_py() or b"", whole=False)
                except Unreadable as error:
                    raise BadValue(place, error) from error
                self.seconds.append(found.seconds)
                self.rates[found.rate] += 1

    def join(self, other: Tally) -> None:
        super().join(other)
        assert isinstance(other, RecordingTally)
        self.seconds.extend(other.seconds)
        self.rates += other.rates

    def facts(self) -> dict[str, Any]:
        seconds = np.array(self.seconds)
        if not len(seconds):
            return {}
        rates = {str(rate): count for rate, count in self.rates.most_common(MOST_RATES)}
        told = {name: round(float(value), 3) for name, value in _spread(seconds).items()}
        return {"seconds": {**told, "total": round(float(seconds.sum()), 1)}, "rates": rates}


class ListTally(Tally):
    """Of lists: how long they are."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self.lengths = numbers("I")

    def add(self, array: pa.Array) -> None:
        self.lengths.extend(pc.list_value_length(array.drop_null()).to_pylist())

    def join(self, other: Tally) -> None:
        super().join(other)
        assert isinstance(other, ListTally)
        self.lengths.extend(other.lengths)

    def facts(self) -> dict[str, Any]:
        lengths = np.array(self.lengths, np.int64)
        return {"items": {**_spread(lengths), "total": int(lengths.sum())}} if len(lengths) else {}


class TokensTally(ListTally):
    kind = "tokens"


class AnswersTally(ListTally):
    kind = "answers"

    def add(self, array: pa.Array) -> None:
        texts, starts = pc.struct_field(array, "text"), pc.struct_field(array, "answer_start")
        counts = [pc.fill_null(pc.list_value_length(lists), 0) for lists in (texts, starts)]
        uneven = pc.not_equal(*counts)
        if pc.any(uneven, min_count=0).as_py():
            hint = "Write one answer_start for each text."
            raise BadValue(
                pc.index(uneven, True).as_py(), Unreadable("has not as many positions as answers", hint)
            )
        super().add(texts.filter(pc.is_valid(array)))


class TagsTally(ListTally):
    kind = "tags"

    def add(self, array: pa.Array) -> None:
        super().add(array)
        self.names |= set(pc.unique(array.drop_null().flatten()).to_pylist())

    def named(self, given: list[str]) -> list[str]:
        """Outside first, then entity by entity, its beginning before its inside."""
        others = self.names - set(given)
        return given + sorted(others, key=lambda name: (name != "O", name.partition("-")[2] or name, name))


class ObjectsTally(ListTally):
    kind = "objects"

    def add(self, array: pa.Array) -> None:
        _check_boxes(array)
        category = array.drop_null().field("category")
        super().add(category)
        self.names |= set(pc.unique(category.flatten()).to_pylist())


def _check_boxes(array: pa.Array) -> None:
    """Each box is four numbers and has a class; raises BadValue for the first that is not so."""
    hint = "Write x, y, width and height in pixels, and one category, for each box."
    boxes, category = pc.struct_field(array, "bbox"), pc.struct_field(array, "category")
    counts = [pc.fill_null(pc.list_value_length(lists), 0) for lists in (boxes, category)]
    uneven = pc.not_equal(*counts)
    if pc.any(uneven, min_count=0).as_py():
        raise BadValue(
            pc.index(uneven, True).as_py(), Unreadable("has not as many categories as boxes", hint)
        )
    corners = boxes.flatten()
    numbers = corners.flatten().to_numpy(zero_copy_only=False)
    four = pc.fill_null(pc.equal(pc.list_value_length(corners), 4), False)
    if not pc.all(four, min_count=0).as_py():
        wrong = pc.index(four, False).as_py()
    elif not np.isfinite(numbers).all():
        wrong = int(np.argmin(np.isfinite(numbers))) // 4
    else:
        return
    place = pc.list_parent_indices(boxes)[wrong].as_py()
    raise BadValue(place, Unreadable("has a box that is not four numbers", hint))


def _spread(values: np.ndarray[Any, Any]) -> dict[str, Any]:
    p50, p95 = np.percentile(values, (50, 95), method="nearest")
    return {"min": values.min().item(), "p50": p50.item(), "p95": p95.item(), "max": values.max().item()}


TALLIES: dict[str, type[Tally]] = {
    each.kind: each
    for each in (
        PictureTally, MaskTally, RecordingTally, TokensTally, TagsTally, ObjectsTally, AnswersTally,
    )
}  # fmt: skip


def joined(files: Iterable[dict[str, Tally]]) -> dict[str, Tally]:
    """What was found in all files together, by column."""
    found: dict[str, Tally] = {}
    for tallies in files:
        for name, tally in tallies.items():
            if name in found:
                found[name].join(tally)
            else:
                found[name] = tally
    return found
