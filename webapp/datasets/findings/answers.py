"""Answers that do not stand in their context where they say: nothing can be learnt from where they are."""

# ruff: noqa: S608
from __future__ import annotations

from collections.abc import Callable

from webapp.datasets.columns import quoted
from webapp.datasets.findings import Rows, plural
from webapp.datasets.problems import Problem
from webapp.datasets.showing import context_column


def find(rows: Rows, add: Callable[[Problem], None]) -> None:
    columns = [{"name": column.name, "kind": column.kind} for column in rows.columns]
    context = context_column(columns)
    for column in rows.columns:
        if column.kind != "answers" or not context:
            continue
        answers, text = quoted(column.name), quoted(context)
        # Character n of the context is number n + 1 in SQL; where there is no context, nothing stands in it.
        stands = (
            f"substring({text}, {answers}.answer_start[n] + 1, length({answers}.text[n])) = {answers}.text[n]"
            f" AND {answers}.answer_start[n] >= 0"
        )
        elsewhere = (
            f"len(list_filter(range(1, len({answers}.text) + 1), lambda n: NOT coalesce({stands}, false)))"
        )
        count, split, row = rows.ask(
            f'SELECT count(*), min_by("*split", ("*split", "*row")), min_by("*row", ("*split", "*row"))'
            f" FROM rows WHERE {elsewhere} > 0"
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
