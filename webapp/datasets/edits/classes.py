"""Classes that are joined, left out, or kept from outnumbering the others."""

# ruff: noqa: S608
from __future__ import annotations

from typing import Any

import numpy as np

from webapp.datasets.columns import LONGEST_CLASS, Column, quoted
from webapp.datasets.edits import Edit, Wrong, need_column, need_names, need_seed
from webapp.datasets.edits.facts import Facts
from webapp.datasets.edits.plan import Parent, Plan
from webapp.datasets.findings import ROW, SPLIT, plural
from webapp.datasets.splitting import SEED

CLASSED = ("label", "tags", "objects")
CAPPED = ("label", "integer", "boolean")


class MergeLabels(Edit):
    """Several classes become one; of a single one it is a new name."""

    slug = "merge_labels"
    takes = {"column": str, "labels": list, "into": str}

    def check(self, asked: dict[str, Any], facts: Facts) -> None:
        column = need_column(facts, asked["column"], CLASSED)
        asked["labels"] = need_names(asked["labels"], column)
        into = " ".join(asked["into"].split())
        if not into or len(into) > LONGEST_CLASS or not into.isprintable():
            raise Wrong(into=f"Say how the class is to be called, in at most {LONGEST_CLASS} characters.")
        if asked["labels"] == [into]:
            raise Wrong(into="It is called so already.")
        asked["into"] = into

    def title(self, asked: dict[str, Any]) -> str:
        return f"Joining {_listed(asked['labels'])} as “{asked['into']}”"

    def apply(self, asked: dict[str, Any], parent: Parent, plan: Plan) -> str:
        plan.classes[asked["column"]] = dict.fromkeys(asked["labels"], asked["into"])
        others = [name for name in asked["labels"] if name != asked["into"]]
        if len(asked["labels"]) == 1 and asked["into"] not in parent.column(asked["column"]).names:
            return f"Called {_listed(others)} “{asked['into']}” in “{asked['column']}”."
        return f"Joined {_listed(others)} with “{asked['into']}” in “{asked['column']}”."


class DropLabels(Edit):
    """Rows of some classes go, and the classes with them."""

    slug = "drop_labels"
    takes = {"column": str, "labels": list}

    def check(self, asked: dict[str, Any], facts: Facts) -> None:
        column = need_column(facts, asked["column"], ("label",))
        asked["labels"] = need_names(asked["labels"], column)
        if len(asked["labels"]) == len(column["names"]):
            raise Wrong(labels="These are all classes that there are.")

    def title(self, asked: dict[str, Any]) -> str:
        return f"Dropping the rows of {_listed(asked['labels'])}"

    def apply(self, asked: dict[str, Any], parent: Parent, plan: Plan) -> str:
        column = parent.column(asked["column"])
        numbers = ", ".join(str(column.names.index(name)) for name in asked["labels"])
        found = parent.rows.ask(f"SELECT {SPLIT}, {ROW} FROM rows WHERE {quoted(column.name)} IN ({numbers})")
        plan.classes[column.name] = dict.fromkeys(asked["labels"])
        return f"Dropped {plural(plan.drop(found), 'row')} of {_listed(asked['labels'])} in “{column.name}”."


class CapClass(Edit):
    """Of classes with more rows to train on than `most`, so many are drawn. Validation and test stay as they are."""

    slug = "cap_class"
    takes = {"column": str, "most": int, "label": "", "seed": SEED}

    def check(self, asked: dict[str, Any], facts: Facts) -> None:
        column = need_column(facts, asked["column"], CAPPED)
        if column["kind"] == "label" and asked["label"]:
            need_names([asked["label"]], column, "label")
        elif asked["label"]:
            raise Wrong(label=f"“{column['name']}” has no named classes: leave this out to cap each value.")
        if asked["most"] < 1:
            raise Wrong(most="Say how many rows are to be left at most, from 1.")
        need_seed(asked["seed"])

    def title(self, asked: dict[str, Any]) -> str:
        what = f"“{asked['label']}”" if asked["label"] else f"each class of “{asked['column']}”"
        return f"Keeping at most {plural(asked['most'], 'row')} to train on of {what}"

    def apply(self, asked: dict[str, Any], parent: Parent, plan: Plan) -> str:
        column = parent.column(asked["column"])
        found = parent.rows.ask(
            f"SELECT {quoted(column.name)}, list({ROW} ORDER BY {ROW}) FROM rows"
            f" WHERE {SPLIT} = 'train' AND {quoted(column.name)} IS NOT NULL{_only(column, asked['label'])}"
            f" GROUP BY 1 HAVING count(*) > {asked['most']} ORDER BY 1"
        )
        random = np.random.Generator(np.random.PCG64(asked["seed"]))
        gone = 0
        for _, rows in found:
            drawn = random.permutation(np.array(rows, np.int64))[asked["most"] :]
            gone += plan.drop([("train", int(row)) for row in drawn])
        what = f"“{asked['label']}”" if asked["label"] else plural(len(found), "class", "classes")
        return (
            f"Kept at most {plural(asked['most'], 'row')} to train on of {what} in “{column.name}”: "
            f"{plural(gone, 'row')} dropped (seed {asked['seed']})."
        )


def _only(column: Column, label: str) -> str:
    return f" AND {quoted(column.name)} = {column.names.index(label)}" if label else ""


def _listed(names: list[str]) -> str:
    shown = [f"“{name}”" for name in names[:3]]
    if len(names) > 3:
        return f"{', '.join(shown)} and {len(names) - 3:,} more"
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


EDITS = (MergeLabels(), DropLabels(), CapClass())
