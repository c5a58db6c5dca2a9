"""Another task, or other columns for its roles. The rows stay; a column may become one of classes, or of text."""

from __future__ import annotations

from typing import Any

from webapp.datasets.edits import Edit, Wrong
from webapp.datasets.edits.facts import Facts
from webapp.datasets.edits.plan import Parent, Plan


class Map(Edit):
    """Which column plays which role. Whether the kinds fit is found when the columns are looked at again."""

    slug = "map"
    takes = {"task": str, "columns": {}}

    def check(self, asked: dict[str, Any], facts: Facts) -> None:
        if not asked["task"]:
            raise Wrong(task="Say which task.")
        names = [column["name"] for column in facts.columns]
        for role, name in asked["columns"].items():
            if name not in names:
                raise Wrong(**{role: f"There is no column “{name}”."})
        if {"task": asked["task"], "columns": asked["columns"]} == {
            "task": facts.suggested.get("task"),
            "columns": facts.suggested.get("columns"),
        }:
            raise Wrong(task="It is mapped so already.")

    def title(self, asked: dict[str, Any]) -> str:
        return f"Mapping columns for {asked['task'].replace('-', ' ')}"

    def apply(self, asked: dict[str, Any], parent: Parent, plan: Plan) -> str:
        plan.request = {"task": asked["task"], "columns": asked["columns"]}
        roles = [f"“{name}” as {role.replace('_', ' ')}" for role, name in asked["columns"].items()]
        return f"For {asked['task'].replace('-', ' ')}{': ' if roles else ''}{', '.join(roles)}."


EDITS = (Map(),)
