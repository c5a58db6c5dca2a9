"""Writes a version: the rows of every file in canonical Parquet, a file a split, and what is found on the way."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from webapp.datasets import findings, splitting
from webapp.datasets.canonical import (
    SplitWriter,
    arrow_type,
    content_hash,
    convert,
    group_of,
    schema_of,
)
from webapp.datasets.columns import Column
from webapp.datasets.counting import Counting
from webapp.datasets.preview import Preview
from webapp.datasets.problems import Problems, Refused, shown
from webapp.datasets.splits import SPLIT_WORDS, SPLITS
from webapp.datasets.staging import Report, Staged


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
    says: str = ""  # what an edit did, in a sentence


def _stratified_by(described: list[Column], suggested: dict[str, Any]) -> Column | None:
    """The suggested label, or else the only column that groups the rows."""
    chosen = [column for column in described if column.is_groups]
    roles = {name: role for role, name in suggested.get("columns", {}).items()}
    labels = [column for column in chosen if roles.get(column.name) == "label"]
    if labels:
        return labels[0]
    only = [column for column in chosen if column.kind == "label"]
    return only[0] if len(only) == 1 else None


def write(
    staged: list[Staged],
    described: list[Column],
    split_column: str,
    suggested: dict[str, Any],
    seed: int,
    output: Path,
    scratch: Path,
    report: Report,
    problems: Problems,
) -> Converted:
    """Into `output`; splits that no file has are drawn with `seed`. Raises Refused."""
    label = _stratified_by(described, suggested)
    rows_before, totals = _counted(staged, label, split_column)
    made = tuple(split for split in (splitting.VALIDATION, splitting.TEST) if not rows_before[split])
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
