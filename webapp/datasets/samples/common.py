"""What a sample is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar


class Sample(ABC):
    """A dataset that one can try things with."""

    slug: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]  # what it is and what it is good for
    facts: ClassVar[str]  # its size in a few words
    origin: ClassVar[str]
    icon: ClassVar[str] = "database"  # of Tabler icons
    order: ClassVar[int] = 100

    @abstractmethod
    def make(self, folder: Path) -> list[Path]:
        """Write it as files that could be uploaded; raises Refused where what it is made of is missing."""
