"""Rows that go: by their numbers, or because of what the inspection found about them."""

# ruff: noqa: S608
from __future__ import annotations

from typing import Any

from webapp.datasets import findings
from webapp.datasets.edits import Edit, Wrong, need_column
from webapp.datasets.edits.facts import Facts
from webapp.datasets.edits.plan import Parent, Plan
from webapp.datasets.findings import personal, plural
from webapp.datasets.findings.repeats import HELD_OUT

MOST_ROWS = 10_000  # named one by one


class DropRows(Edit):
    """Rows that a person picked."""

    slug = "drop_rows"
    takes = {"split": str, "rows": list}

    def check(self, asked: dict[str, Any], facts: Facts) -> None:
        total = facts.splits.get(asked["split"])
        if total is None:
            raise Wrong(split=f"There is no such split. There are: {', '.join(facts.splits)}.")
        rows = asked["rows"]
        if not rows or len(rows) > MOST_ROWS:
            raise Wrong(rows=f"Name one row at least, and at most {MOST_ROWS:,} of them.")
        if not all(type(row) is int and 1 <= row <= total for row in rows):
            raise Wrong(rows=f"Rows of {asked['split']} are numbered from 1 to {total:,}.")

    def title(self, asked: dict[str, Any]) -> str:
        return f"Dropping {plural(len(set(asked['rows'])), 'row')} of {asked['split']}"

    def apply(self, asked: dict[str, Any], parent: Parent, plan: Plan) -> str:
        count = plan.drop([(asked["split"], row) for row in asked["rows"]])
        return f"Dropped {plural(count, 'row')} of {asked['split']}."


class DropFound(Edit):
    """The rows of a finding: of those that repeat the first stays, of leakage those to validate and test on."""

    slug = "drop_found"
    takes = {"code": str, "column": "", "split": ""}

    def check(self, asked: dict[str, Any], facts: Facts) -> None:
        if asked["code"] not in WHAT or asked["code"] not in findings.selects():
            raise Wrong(code=f"Rows can be dropped for: {', '.join(sorted(WHAT))}.")
        if asked["code"] in LEAKS:
            if asked["split"] not in HELD_OUT:
                raise Wrong(split=f"Say which rows they are alike: {' or '.join(HELD_OUT)}.")
            asked["column"] = ""
        elif asked["code"] in OF_A_COLUMN:
            column = need_column(facts, asked["column"])
            if asked["code"] == "short_texts" and column["kind"] != "text":
                raise Wrong(column=f"“{column['name']}” has no texts.")
            if asked["code"] == "answers_elsewhere" and column["kind"] != "answers":
                raise Wrong(column=f"“{column['name']}” has no answers.")
            if asked["code"] == "mask_values" and not (column.get("unknown") or {}).get("masks"):
                raise Wrong(column=f"“{column['name']}” has no masks that are known to have such values.")
            if asked["code"].startswith("personal_") and column["kind"] not in personal.KINDS:
                raise Wrong(column=f"“{column['name']}” has no texts.")

    def title(self, asked: dict[str, Any]) -> str:
        return f"Dropping rows {self._what(asked)}"

    def apply(self, asked: dict[str, Any], parent: Parent, plan: Plan) -> str:
        select = findings.rows_of(parent.rows, asked["code"], asked["column"], asked["split"])
        count = plan.drop(parent.rows.ask(f"SELECT split, row FROM ({select})"))
        return f"Dropped {plural(count, 'row')} {self._what(asked)}."

    def _what(self, asked: dict[str, Any]) -> str:
        return WHAT[asked["code"]].format(column=asked["column"], split=asked["split"])


LEAKS = ("leakage", "near_leakage", "similar_leakage", "picture_leakage")
OF_A_COLUMN = (
    "short_texts",
    "missing_values",
    "personal_email",
    "personal_telephone",
    "personal_card",
    "answers_elsewhere",
    "mask_values",
)
# {code of a finding: which rows go}
WHAT = {
    "leakage": "to train on that {split} has, too",
    "near_leakage": "to train on that {split} has, too, but for case, punctuation or blanks",
    "similar_leakage": "to train on that differ in a few words from rows of {split}",
    "duplicates": "that repeat another of their split",
    "near_duplicates": "that repeat another of their split but for case, punctuation or blanks",
    "similar_texts": "that differ in a few words from another of their split",
    "similar_pictures": "that show nearly the same picture as another of their split",
    "picture_leakage": "to train on that show nearly the same picture as rows of {split}",
    "conflicting_labels": "whose input has several labels",
    "short_texts": "whose “{column}” is blank or a single character",
    "missing_values": "without “{column}”",
    "personal_email": "with an e-mail address in “{column}”",
    "personal_telephone": "with a telephone number in “{column}”",
    "personal_card": "with a card number in “{column}”",
    "mask_values": "whose “{column}” has values that no class has",
    "answers_elsewhere": "whose “{column}” do not stand where they say",
}
EDITS = (DropRows(), DropFound())
