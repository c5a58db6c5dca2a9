"""Answers that do not stand in their context where they say: nothing can be learnt from where they are."""

# ruff: noqa: S608
from __future__ import annotations

from collections.abc import Callable

from webapp.datasets.columns import quoted
from webapp.datasets.findings import ROW, SPLIT, Rows, plural
from webapp.datasets.problems import Problem
from webapp.datasets.showing import context_column


def _elsewhere(answers: str, context: str) -> str:
    """Whether an answer of a row does not stand where it says; where there is no context, nothing stands in it."""
    # Character n of the context is number n + 1 in SQL.
    stands = (
        f"substring({context}, {answers}.answer_start[n] + 1, length({answers}.text[n])) = {answers}.text[n]"
        f" AND {answers}.answer_start[n] >= 0"
    )
    return f"len(list_filter(range(1, len({answers}.text) + 1), lambda n: NOT coalesce({stands}, false))) > 0"


def _context(rows: Rows) -> str:
    return context_column([{"name": column.name, "kind": column.kind} for column in rows.columns])


def _select(rows: Rows, _code: str, column: str, _split: str) -> str:
    wrong = _elsewhere(quoted(column), quoted(_context(rows)))
    return f"SELECT {SPLIT} AS split, {ROW} AS row FROM rows WHERE {wrong}"


SELECTS = {"answers_elsewhere": _select}


def find(rows: Rows, add: Callable[[Problem], None]) -> None:
    context = _context(rows)
    for column in rows.columns:
        if column.kind != "answers" or not context:
            continue
        count, split, row = rows.ask(
            f"SELECT count(*), min_by({SPLIT}, ({SPLIT}, {ROW})), min_by({ROW}, ({SPLIT}, {ROW}))"
            f" FROM rows WHERE {_elsewhere(quoted(column.name), quoted(context))}"
        )[0]
        if count:
            add(
                Problem(
                    "answers_elsewhere",
                    f"{plural(count, 'row')} of “{column.name}” {'has' if count == 1 else 'have'} an answer that does not "
                    f"stand in “{context}” where it says (answer_start).",
                    "Look for a text that was changed after it was marked, or positions counted in bytes or from 1.",
                    severity="serious",
                    split=split,
                    row=int(row),
                    column=column.name,
                    count=count,
                )
            )
