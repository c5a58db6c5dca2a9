"""What an edit is checked against when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Facts:
    """What is known of a version without its files, as DatasetVersion has it."""

    columns: list[dict[str, Any]]
    splits: dict[str, int]
    suggested: dict[str, Any]
