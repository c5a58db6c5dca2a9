"""More files of the same columns."""

from __future__ import annotations

from typing import Any

from webapp.datasets.edits import Edit, Wrong
from webapp.datasets.edits.facts import Facts
from webapp.datasets.edits.plan import Parent, Plan
from webapp.datasets.findings import plural
from webapp.datasets.splits import SPLITS


class AddFiles(Edit):
    """Their rows come to those to train on, or to the split that is named or that their names tell."""

    slug = "add_files"
    takes = {"names": list, "split": ""}

    def check(self, asked: dict[str, Any], facts: Facts) -> None:
        if asked["split"] and asked["split"] not in SPLITS:
            raise Wrong(split=f"There is no such split. There are: {', '.join(SPLITS)}.")

    def title(self, asked: dict[str, Any]) -> str:
        return f"Adding {plural(len(asked['names']), 'file')}"

    def apply(self, asked: dict[str, Any], parent: Parent, plan: Plan) -> str:
        plan.adds = True
        names = ", ".join(f"“{name}”" for name in asked["names"][:3])
        more = len(asked["names"]) - 3
        return f"Added {names}{f' and {more:,} more' if more > 0 else ''}."


EDITS = (AddFiles(),)
