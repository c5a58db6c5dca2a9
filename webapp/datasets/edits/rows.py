"""Rows that go: by their numbers, or because of what the inspection found about them."""

# ruff: noqa: S608
from __future__ import annotations

from typing import Any

from webapp.datasets.columns import quoted
from webapp.datasets.edits import Edit, Wrong, need_column
from webapp.datasets.edits.plan import Facts, Parent, Plan
from webapp.datasets.findings import plural

MOST_ROWS = 10_000  # named one by one


class DropRows(Edit):
    """Rows that a person picked."""

    slug = "drop_rows"
    takes = {"split": ..., "rows": ...}

    def check(self, asked: dict[str, Any], facts: Facts) -> None:
        total = facts.splits.get(asked["split"]) if isinstance(asked["split"], str) else None
        if total is None:
            raise Wrong(split=f"There is no such split. There are: {', '.join(facts.splits)}.")
        rows = asked["rows"]
        if not isinstance(rows, list) or not rows or len(rows) > MOST_ROWS:
            raise Wrong(rows=f"Name one row at least, and at most {MOST_ROWS:,} of them.")
        if not all(type(row) is int and 1 <= row <= total for row in rows):
            raise Wrong(rows=f"Rows of {asked['split']} are numbered from 1 to {total:,}.")

    def title(self, asked: dict[str, Any]) -> str:
        return f"Dropping {plural(len(set(asked['rows'])), 'row')} of {asked['split']}"

    def apply(self, asked: dict[str, Any], parent: Parent, plan: Plan) -> str:
        count = plan.drop([(asked["split"], row) for row in asked["rows"]])
        return f"Dropped {plural(count, 'row')} of {asked['split']}."


class DropEmpty(Edit):
    """Rows without a value."""

    slug = "drop_empty"
    takes = {"column": ...}

    def check(self, asked: dict[str, Any], facts: Facts) -> None:
        need_column(facts, asked["column"])

    def title(self, asked: dict[str, Any]) -> str:
        return f"Dropping rows that have no “{asked['column']}”"

    def apply(self, asked: dict[str, Any], parent: Parent, plan: Plan) -> str:
        found = parent.rows.ask(f'SELECT "*split", "*row" FROM rows WHERE {quoted(asked["column"])} IS NULL')
        return f"Dropped {plural(plan.drop(found), 'row')} that had no “{asked['column']}”."


EDITS = (DropRows(), DropEmpty())
