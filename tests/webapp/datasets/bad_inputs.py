"""Inputs that strangers send: what each is, how it is made, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.webapp.datasets.conftest import refusal

MB = 1 << 20


@dataclass(frozen=True)
class Case:
    """`code`: it is refused with that; else it is read with `rows`, and warned of by these codes and no others."""

    what: str
    name: str
    make: Callable[[], bytes]
    code: str = ""
    says: str = ""  # in the message
    row: int | None = None
    warned: tuple[str, ...] = ()
    rows: int = 0
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.what


def check(case: Case, convert: Any) -> Any:
    """Try it; what became of it, or the problem."""
    if case.code:
        problem = refusal(convert, (case.name, case.make()))
        assert problem.code == case.code, problem
        assert case.says in problem.message, problem
        assert problem.row == case.row, problem
        assert problem.hint
        return problem
    made = convert((case.name, case.make()))
    assert {problem["code"] for problem in made.problems} == set(case.warned)
    assert made.rows == case.rows == sum(made.splits.values())
    assert all(case.says in problem["message"] + problem["hint"] for problem in made.problems)
    if case.columns:
        assert tuple(column["name"] for column in made.columns) == case.columns
    return made
