"""What is wrong with an uploaded file, in words for the person who made it. No Django in here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

SEVERITIES = ("error", "serious", "warning")


@dataclass(frozen=True)
class Problem:
    """One thing that was found. `row` counts as an editor counts lines (the first is 1), unless
    `split` is given."""

    code: str
    message: str
    hint: str = ""
    severity: str = "error"  # error (refused) | serious | warning
    file: str = ""
    split: str = ""  # where the example is a row of the version: `row` counts that split's rows, from 1
    row: int | None = None
    column: str = ""
    count: int | None = None  # how often, where it was found more than once
    other_split: str = ""  # the row that the example is like, or disagrees with
    other_row: int | None = None
    values: tuple[str, ...] = ()  # classes that it is about, the most frequent first

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Refused(Exception):
    """The files cannot become a dataset; the problem says why and what to do."""

    def __init__(self, code: str, message: str, hint: str = "", **where: Any) -> None:
        super().__init__(message)
        self.problem = Problem(code, message, hint, **where)


class Problems:
    """Collects the warnings of one inspection, each said once."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], Problem] = {}

    def warn(self, code: str, message: str, hint: str = "", **where: Any) -> None:
        self.add(Problem(code, message, hint, severity="warning", **where))

    def add(self, problem: Problem) -> None:
        self._found.setdefault((problem.code, problem.file, problem.column), problem)

    def as_json(self) -> list[dict[str, Any]]:
        """Most serious first, else as they were found."""
        ordered = sorted(self._found.values(), key=lambda problem: SEVERITIES.index(problem.severity))
        return [problem.as_json() for problem in ordered]


def shown(value: str, length: int = 60) -> str:
    """A value from a file, short and on one line, for use in a sentence."""
    flat = "".join(character if character.isprintable() else " " for character in value[: length + 1])
    flat = " ".join(flat.split())
    return f"“{flat[:length]}…”" if len(flat) > length else f"“{flat}”"
