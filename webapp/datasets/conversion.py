"""From uploaded files to a version in canonical form. Knows neither Django nor the database.

It runs as a program of its own (isolated.py), because what it reads was written by strangers:
a file that breaks a library, or wants more memory than there is, ends this process and no other.
"""

# Column names are quoted by `quoted`; DuckDB itself may read nothing but the scratch files.
# ruff: noqa: S608
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from webapp.datasets import columns as columns_module
from webapp.datasets import suggestion
from webapp.datasets.columns import Column, quoted
from webapp.datasets.edits import all_edits
from webapp.datasets.edits.facts import Facts
from webapp.datasets.edits.plan import Parent, Plan, stage_parent
from webapp.datasets.formats.common import is_by_name
from webapp.datasets.limits import Limits
from webapp.datasets.pictures import allow_pixels
from webapp.datasets.problems import Problems, Refused, shown
from webapp.datasets.sandbox import connect
from webapp.datasets.splits import SPLIT_WORDS
from webapp.datasets.splitting import SEED
from webapp.datasets.staging import Report, Staged, stage_all, unified
from webapp.datasets.tallies import joined
from webapp.datasets.writing import Converted, write

SPLIT_COLUMNS = ("split", "fold", "subset", "partition", "set")


@dataclass
class Order:
    """What is to be converted, and what was said about it."""

    files: list[tuple[str, str]]  # (path, name as its owner calls it)
    request: dict[str, Any] = field(default_factory=dict)  # as Dataset.request
    tasks: list[dict[str, Any]] = field(default_factory=list)  # suggestion.as_json of each
    limits: dict[str, int] = field(default_factory=dict)  # as limits.Limits; the rest as it is there
    kinds: dict[str, str] = field(default_factory=dict)  # {column: kind}, as staging.stage_all
    # The version that is changed: {files {split: path}, facts: edits.facts.Facts, details}, and how (edits/).
    parent: dict[str, Any] = field(default_factory=dict)
    change: dict[str, Any] = field(default_factory=dict)


def convert_files(order: Order, output: Path, scratch: Path, report: Report) -> Converted:
    """Do it; raises Refused with the reason if the files cannot be used. `output` must be empty."""
    problems = Problems()
    limits = Limits(**order.limits)
    allow_pixels(limits.image_pixels)
    if not order.change:
        return _converted(order, order.request, [], output, scratch, report, problems)
    said = order.parent
    parent = Parent(said["files"], Facts(**said["facts"]), scratch)
    try:
        plan = Plan.of(parent.facts)
        report("finding the rows", 0, 0)
        says = all_edits()[order.change["op"]].apply(order.change, parent, plan)
        staged = stage_parent(parent, plan, limits, problems, report)
    finally:
        parent.close()
    made = _converted(order, plan.request, staged, output, scratch, report, problems)
    made.says = says
    before = said["details"]
    made.details["files"] = [*before.get("files", []), *made.details["files"][len(staged) :]]
    if not made.details["split"]["drawn"]:
        made.details["split"] = plan.split_details or before.get("split") or made.details["split"]
    return made


def _converted(
    order: Order,
    asked: dict[str, Any],
    before: list[Staged],
    output: Path,
    scratch: Path,
    report: Report,
    problems: Problems,
) -> Converted:
    """Of the order's files, and of rows that are `before` them in scratch Parquet already."""
    tasks = [suggestion.from_json(task) for task in order.tasks]
    named = frozenset([*(asked.get("columns") or {}).values(), asked.get("split_column") or ""])
    staged = before + stage_all(
        [(Path(path), name) for path, name in order.files],
        asked.get("has_header"),
        scratch,
        problems,
        report,
        Limits(**order.limits),
        named,
        suggestion.can_use_messages(asked.get("task", ""), tasks),
        order.kinds,
        joins=bool(before),
    )
    schema, textual = unified(staged, problems)
    _check_asked(schema, asked)
    report("looking at columns", 0, 0)
    names = _agreed_class_names(staged)
    connection = connect(scratch, *(file.path for file in staged))
    try:
        columns_module.rows_view(connection, staged, schema)
        described = columns_module.describe(
            connection,
            schema,
            textual,
            names,
            _wanted_kinds(asked, tasks),
            joined(file.tallies for file in staged),
            problems,
        )
        split_column = _split_column(connection, described, asked, staged)
    finally:
        connection.close()
    described = [column for column in described if column.name != split_column]
    if not described:
        raise Refused("no_columns", "Beside the split there is no column.", "Add columns with examples.")
    suggested = suggestion.suggest(
        described, tasks, task=asked.get("task", ""), asked=asked.get("columns") or {}
    )
    _check_suggested(suggested, described, asked, tasks, problems)
    seed = asked.get("seed", SEED)
    return write(staged, described, split_column, suggested, seed, output, scratch, report, problems)


def _check_asked(schema: pa.Schema, asked: dict[str, Any]) -> None:
    wanted = list((asked.get("columns") or {}).values())
    for name in [*wanted, *([asked["split_column"]] if asked.get("split_column") else [])]:
        if name not in schema.names:
            there = ", ".join(f"“{each}”" for each in schema.names[:12])
            raise Refused(
                "unknown_column",
                f"There is no column “{name}”. There are: {there}.",
                "Upload again with a name from the list.",
                column=name,
            )


def _agreed_class_names(staged: list[Staged]) -> dict[str, list[str]]:
    """Class names that files bring with them: where numbers stand for them, only if all files that have the column agree."""
    found: dict[str, list[str]] = {}
    for name in {name for file in staged for name in file.class_names}:
        having = [file for file in staged if name in file.schema.names]
        lists = [file.class_names.get(name, []) for file in having]
        if all(each == lists[0] for each in lists):
            found[name] = lists[0]
        elif all(is_by_name(file.schema.field(name)) for file in having):
            found[name] = list(dict.fromkeys(each for names in lists for each in names))
    return found


def _wanted_kinds(asked: dict[str, Any], tasks: list[suggestion.TaskNeeds]) -> dict[str, tuple[str, ...]]:
    """Kinds that a column must have for the role that the uploader gave it."""
    wanted = {}
    for role, column in (asked.get("columns") or {}).items():
        fitting = [task for task in tasks if not asked.get("task") or task.slug == asked["task"]]
        kinds = [kind for task in fitting if role in task.roles for kind in task.roles[role].kinds]
        wanted[column] = tuple(dict.fromkeys(kinds))
    return wanted


def _split_column(
    connection: duckdb.DuckDBPyConnection,
    described: list[Column],
    asked: dict[str, Any],
    staged: list[Staged],
) -> str:
    """The column that tells each row's split; empty if there is none."""
    named = asked.get("split_column") or ""
    if not named and any(file.split for file in staged):
        return ""
    used = set((asked.get("columns") or {}).values())
    for column in described:
        if named and column.name != named:
            continue
        if not named and (column.name.lower() not in SPLIT_COLUMNS or column.name in used):
            continue
        if column.kind not in {"label", "text"}:
            if named:
                raise _bad_split(named, "", "")
            continue
        values = [
            row[0]
            for row in connection.execute(
                f"SELECT DISTINCT {quoted(column.name)} FROM rows LIMIT 50"
            ).fetchall()
        ]
        unknown = [v for v in values if (v or "").strip().lower() not in SPLIT_WORDS]
        if not unknown and "train" in {SPLIT_WORDS[value.strip().lower()] for value in values}:
            return column.name
        if named:
            raise _bad_split(named, str(unknown[0] or "") if unknown else "", "no rows for train")
    return ""


def _bad_split(column: str, value: str, otherwise: str) -> Refused:
    what = f"the value {shown(value)}" if value else otherwise or "no words"
    return Refused(
        "bad_split_column",
        f"“{column}” is to tell the split of each row, but it has {what}.",
        "Write train, validation or test into every row of it.",
        column=column,
    )


def _check_suggested(
    suggested: dict[str, Any],
    described: list[Column],
    asked: dict[str, Any],
    tasks: list[suggestion.TaskNeeds],
    problems: Problems,
) -> None:
    if not suggested and (asked.get("columns") or asked.get("task")) and tasks:
        kinds = ", ".join(f"“{column.name}” ({column.kind})" for column in described[:12])
        mapping = ", ".join(f"{role}: “{name}”" for role, name in (asked.get("columns") or {}).items())
        raise Refused(
            "does_not_fit",
            f"The columns do not fit what was asked for ({asked.get('task') or 'no task'}; {mapping or 'no columns'}). "
            f"There are {kinds}.",
            "Leave task and columns out to see a suggestion, or choose columns of the right kind.",
        )
    for column in described:
        if column.kind == "label" and column.distinct == 1:
            problems.warn(
                "one_label",
                f"“{column.name}” has the same value in every row, so there is nothing to tell apart by it.",
                "For a classification, add examples of at least one other class.",
                column=column.name,
            )
