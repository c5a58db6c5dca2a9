"""The shape in which a task hands its rows to what trains: examples that can be indexed, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol


class Examples(Protocol):
    """Rows of one split, ready for the model."""

    @property
    def labels(self) -> Sequence[int]: ...

    @property
    def lengths(self) -> Sequence[int] | None:
        """Tokens a row, where rows differ."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> dict[str, Any]: ...


def batches(examples: Examples, size: int) -> Iterator[list[int]]:
    """Row numbers in batches of like length, longest first: what does not fit in memory shows at once."""
    lengths = examples.lengths
    order = list(range(len(examples)))
    if lengths is not None:
        order.sort(key=lambda row: lengths[row], reverse=True)
    for start in range(0, len(order), size):
        yield order[start : start + size]
