"""From uploaded files to a version in canonical form. Knows neither Django nor the database.

It runs as a program of its own (isolated.py), because what it reads was written by strangers:
a file that breaks a library, or wants more memory than there is, ends this process and no other.
"""

# Column names are quoted by `quoted`; DuckDB itself may read nothing but the scratch files.
# ruff: noqa: S608
from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from webapp.datasets import columns as columns_module
from webapp.datasets import findings, splitting, suggestion
from webapp.datasets.canonical import (
    SplitWriter,
    arrow_type,
    content_hash,
    convert,
    group_of,
    schema_of,
)
from webapp.datasets.columns import Column, quoted
from webapp.datasets.counting import Counting
from webapp.datasets.formats.common import is_by_name
from webapp.datasets.limits import Limits
from webapp.datasets.pictures import allow_pixels
from webapp.datasets.preview import Preview
from webapp.datasets.problems import Problems, Refused, shown
from webapp.datasets.sandbox import connect
from webapp.datasets.splits import SPLIT_WORDS, SPLITS
from webapp.datasets.staging import Report, Staged, stage_all, unified
from webapp.datasets.tallies import joined

DEFAULT_SEED = 42
SPLIT_COLUMNS = ("split", "fold", "subset", "partition", "set")


@dataclass
class Order:
    """What is to be converted, and what was said about it."""

    files: list[tuple[str, str]]  # (path, name as its owner calls it)
    request: dict[str, Any] = field(default_factory=dict)  # as Dataset.request
    tasks: list[dict[str, Any]] = field(default_factory=list)  # suggestion.as_json of each
    limits: dict[str, int] = field(default_factory=dict)  # as limits.Limits; the rest as it is there
    kinds: dict[str, str] = field(default_factory=dict)  # {column: kind}, as staging.stage_all


@dataclass
class Converted:
    """What became of it. The Parquet files lie in the output folder, pictures to show in `previews` below."""

    content_hash: str
    size_bytes: int
    rows: int
    splits: dict[str, int]
    columns: list[dict[str, Any]]
    suggested: dict[str, Any]
    preview: list[dict[str, Any]]
    details: dict[str, Any]
    problems: list[dict[str, Any]]


def convert_files(order: Order, output: Path, scratch: Path, report: Report) -> Converted:
    """Do it; raises Refused with the reason if the files cannot be used. `output` must be empty."""
    problems = Problems()
    tasks = [suggestion.from_json(task) for task in order.tasks]
    asked = order.request
    limits = Limits(**order.limits)
    allow_pixels(limits.image_pixels)
    files = [(Path(path), name) for path, name in order.files]
    named = frozenset([*(asked.get("columns") or {}).values(), asked.get("split_column") or ""])
    staged = stage_all(
        files,
        asked.get("has_header"),
        scratch,
        problems,
        report,
        limits,
        named,
        suggestion.can_use_messages(asked.get("task", ""), tasks),
        order.kinds,
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
    return _written(order, staged, described, split_column, suggested, output, scratch, report, problems)


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


def _stratified_by(described: list[Column], suggested: dict[str, Any]) -> Column | None:
    """The suggested label, or else the only column that groups the rows."""
    chosen = [column for column in described if column.is_groups]
    roles = {name: role for role, name in suggested.get("columns", {}).items()}
    labels = [column for column in chosen if roles.get(column.name) == "label"]
    if labels:
        return labels[0]
    only = [column for column in chosen if column.kind == "label"]
    return only[0] if len(only) == 1 else None


def _written(
    order: Order,
    staged: list[Staged],
    described: list[Column],
    split_column: str,
    suggested: dict[str, Any],
    output: Path,
    scratch: Path,
    report: Report,
    problems: Problems,
) -> Converted:
    label = _stratified_by(described, suggested)
    rows_before, totals = _counted(staged, label, split_column)
    made = tuple(split for split in (splitting.VALIDATION, splitting.TEST) if not rows_before[split])
    seed = order.request.get("seed", DEFAULT_SEED)
    splitter = splitting.Splitter(splitting.plan(totals, made), seed) if made else None
    _check_rare(label, totals, problems)
    schema = schema_of(described)
    total = sum(file.rows for file in staged)
    needed = sum(file.path.stat().st_size for file in staged) * 2
    if shutil.disk_usage(output).free < needed:
        raise Refused(
            "disk_full",
            "The server has not enough free disk space to convert these files.",
            "Ask its operator.",
        )
    writers = {split: SplitWriter(output / f"{split}-00000-of-00001.parquet", schema) for split in SPLITS}
    counting = Counting(described, SPLITS)
    preview = Preview(output, described)
    done = 0
    for file in staged:
        for batch in file.batches():
            where = _where(batch, file, split_column)
            rows = _typed(batch, described, schema)
            if splitter is not None:
                _carve(rows, where, label, splitter)
            for number, split in enumerate(SPLITS):
                part = rows.filter(pa.array(where == number))
                writers[split].write(part)
                counting.add(split, part)
                preview.add(split, part)
            done += rows.num_rows
            report("writing", done, total)
    digests = {split: writer.close() for split, writer in writers.items()}
    splits = {split: writer.rows for split, writer in writers.items()}
    preview_rows = preview.close()
    report("looking for what spoils training", 0, 0)
    findings.look(
        {split: writer.path for split, writer in writers.items()},
        described,
        suggested.get("columns", {}),
        counting.counts(),
        scratch,
        problems,
    )
    return Converted(
        content_hash=content_hash(schema, digests),
        size_bytes=sum(path.stat().st_size for path in output.glob("*.parquet")),
        rows=total,
        splits=splits,
        columns=[counting.as_json(column) for column in described],
        suggested=suggested,
        preview=preview_rows,
        details={
            "files": [file.details for file in staged],
            "split": _how(split_column, staged, made, label, seed),
        },
        problems=problems.as_json(),
    )


def _where(batch: pa.RecordBatch, file: Staged, split_column: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The split that each row of a batch comes with."""
    if split_column:
        values = batch.column(split_column).cast(pa.string()).to_pylist()
        places = [SPLITS.index(SPLIT_WORDS[str(value).strip().lower()]) for value in values]
        return np.array(places, np.uint8)
    place = SPLITS.index(file.split) if file.split else splitting.TRAIN
    return np.full(batch.num_rows, place, np.uint8)


def _counted(
    staged: list[Staged], label: Column | None, split_column: str
) -> tuple[list[int], np.ndarray[Any, np.dtype[np.int64]]]:
    """Rows that come with each split, and rows to train on of each group of the label."""
    groups = len(label.names or label.values) + 1 if label else 1
    totals = np.zeros(groups, np.int64)
    rows = [0, 0, 0]
    for file in staged:
        for batch in file.batches():
            where = _where(batch, file, split_column)
            for number in range(len(SPLITS)):
                rows[number] += int((where == number).sum())
            totals += np.bincount(_groups(batch, label)[where == splitting.TRAIN], minlength=groups)
    return rows, totals


def _groups(
    batch: pa.RecordBatch, label: Column | None, *, converted: bool = False
) -> np.ndarray[Any, np.dtype[np.int64]]:
    if label is None:
        return np.zeros(batch.num_rows, np.int64)
    if label.name not in batch.schema.names:
        return np.full(batch.num_rows, len(label.names or label.values), np.int64)
    array = batch.column(label.name)
    return group_of(array if converted else convert(array, label), label)


def _carve(
    rows: pa.RecordBatch,
    where: np.ndarray[Any, np.dtype[np.uint8]],
    label: Column | None,
    splitter: splitting.Splitter,
) -> None:
    """Draw the splits that are to be made out of the rows to train on; changes `where`."""
    train = where == splitting.TRAIN
    where[train] = splitter.assign(_groups(rows, label, converted=True)[train])


def _typed(batch: pa.RecordBatch, described: list[Column], schema: pa.Schema) -> pa.RecordBatch:
    """A scratch batch with the columns and types of the canonical form."""
    arrays = [
        convert(batch.column(column.name), column)
        if column.name in batch.schema.names and not pa.types.is_null(batch.column(column.name).type)
        else pa.nulls(batch.num_rows, arrow_type(column.kind))
        for column in described
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _check_rare(label: Column | None, totals: np.ndarray[Any, Any], problems: Problems) -> None:
    if label is None or not label.names:
        return
    rare = [label.names[index] for index in np.flatnonzero((totals[:-1] > 0) & (totals[:-1] < 3))]
    if rare:
        problems.warn(
            "rare_classes",
            f"{len(rare):,} class{'es have' if len(rare) > 1 else ' has'} fewer than three rows in “{label.name}”, "
            f"such as {shown(rare[0])}: too few to train, validate and test on.",
            "Add examples of them, or join them into one class.",
            column=label.name,
            count=len(rare),
        )


def _how(
    split_column: str, staged: list[Staged], made: tuple[int, ...], label: Column | None, seed: int
) -> dict[str, Any]:
    origin = "column" if split_column else "files" if any(file.split for file in staged) else "drawn"
    return {
        "from": origin,
        "column": split_column,
        "drawn": [SPLITS[split] for split in made],
        "share": splitting.SHARE,
        "stratified_by": label.name if label and made else "",
        "seed": seed if made else None,
    }
