"""What is to become of the rows of a version: which stay, in which split, under which classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from webapp.datasets import findings
from webapp.datasets.columns import Column
from webapp.datasets.edits.facts import Facts
from webapp.datasets.formats.common import OBJECTS, Opened, Source, field_of, kind_of
from webapp.datasets.formats.parquet import FORMAT as PARQUET
from webapp.datasets.limits import Limits
from webapp.datasets.problems import Problems, Refused
from webapp.datasets.splits import SPLITS
from webapp.datasets.staging import Report, Staged, staged_of

Rewrite = Callable[[pa.Array], pa.Array]


class Parent:
    """The version that is changed, with its rows to be asked (`rows`)."""

    def __init__(self, files: dict[str, str], facts: Facts, scratch: Path) -> None:
        self.facts, self.scratch = facts, scratch
        self.files = {split: Path(path) for split, path in files.items()}
        self.columns = [
            Column(
                each["name"],
                each["kind"],
                each.get("nulls", 0),
                names=each.get("names") or [],
                facts={"unknown": each["unknown"]} if "unknown" in each else {},
            )
            for each in facts.columns
        ]
        self._open = ExitStack()

    @cached_property
    def rows(self) -> findings.Rows:
        roles = self.facts.suggested.get("columns", {})
        return self._open.enter_context(findings.opened(self.files, self.columns, roles, self.scratch))

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    def close(self) -> None:
        self._open.close()


@dataclass
class Plan:
    """What an edit wants. Arrays are by split of the parent, an entry a row."""

    keep: dict[str, NDArray[np.bool_]]
    splits: dict[str, NDArray[np.uint8]] = field(default_factory=dict)  # of SPLITS; empty: as they are
    classes: dict[str, dict[str, str | None]] = field(
        default_factory=dict
    )  # {column: {class: what it becomes}}
    rewrite: dict[str, Rewrite] = field(default_factory=dict)  # {column: what its values become}
    request: dict[str, Any] = field(default_factory=dict)  # as Dataset.request: the mapping
    split_details: dict[str, Any] = field(default_factory=dict)  # how a new split came about
    adds: bool = False  # whether rows of other files come with them

    @classmethod
    def of(cls, facts: Facts) -> Plan:
        """Everything stays as it is."""
        suggested = facts.suggested
        request = {"task": suggested["task"], "columns": suggested["columns"]} if suggested else {}
        return cls({split: np.ones(rows, np.bool_) for split, rows in facts.splits.items()}, request=request)

    def drop(self, found: list[tuple[Any, ...]]) -> int:
        """Rows as (split, row from 1) go; how many went now."""
        gone = 0
        by_split: dict[str, list[int]] = {}
        for split, row in found:
            by_split.setdefault(split, []).append(row - 1)
        for split, rows in by_split.items():
            numbers = np.unique(np.array(rows, np.int64))
            gone += int(self.keep[split][numbers].sum())
            self.keep[split][numbers] = False
        return gone


def stage_parent(
    parent: Parent, plan: Plan, limits: Limits, problems: Problems, report: Report
) -> list[Staged]:
    """The rows that stay, in scratch Parquet, a file of each split that they are in now."""
    staged = []
    kinds = {column.name: column.kind for column in parent.columns}
    for split, path in parent.files.items():
        for target in SPLITS:
            chosen = plan.keep[split]
            if plan.splits:
                chosen = chosen & (plan.splits[split] == SPLITS.index(target))
            elif target != split:
                continue
            if not chosen.any():
                continue
            scratch = parent.scratch / f"parent-{split}-{target}"
            scratch.mkdir()
            source = Source(
                path,
                f"{split}.parquet",
                scratch=scratch,
                limits=limits,
                kinds=kinds,
                progress=lambda done, total: report("going through the rows", done, total),
            )
            opened = PARQUET.open(source, problems)
            staged.append(staged_of(source, edited(opened, chosen, plan, parent), target, problems))
    if not staged and not plan.adds:
        raise Refused(
            "nothing_left", "No row would be left.", "Choose a change that leaves rows to train on."
        )
    return staged


def edited(opened: Opened, keep: NDArray[np.bool_], plan: Plan, parent: Parent) -> Opened:
    """The rows of a file that stay, with their new classes and values."""
    names = {column: _new_names(parent.column(column).names, to) for column, to in plan.classes.items()}
    class_names = {**opened.class_names, **{name: new for name, new in names.items() if new}}
    fields = list(opened.schema)

    def is_coded(item: pa.Field) -> bool:
        return item.name in class_names and bool(pa.types.is_integer(item.type))

    if plan.adds:  # classes of other files come to them: as text, until all are known
        fields = [field_of(each.name, "label") if is_coded(each) else each for each in fields]
    schema = pa.schema(fields)

    def batches() -> Iterator[pa.RecordBatch]:
        first = 0
        for batch in opened.batches:
            kept = batch.filter(pa.array(keep[first : first + batch.num_rows]))
            first += batch.num_rows
            if not kept.num_rows:
                continue
            arrays = []
            for item, array in zip(opened.schema, kept.columns, strict=True):
                if item.name in plan.classes:
                    array = _renamed(
                        array, item, parent.column(item.name).names, plan.classes[item.name], names
                    )
                if item.name in plan.rewrite:
                    array = plan.rewrite[item.name](array)
                if plan.adds and is_coded(item):
                    array = _named(array, class_names[item.name])
                arrays.append(array)
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    return replace(opened, schema=schema, batches=batches(), class_names={} if plan.adds else class_names)


def _new_names(old: list[str], to: dict[str, str | None]) -> list[str]:
    """The classes that there are afterwards, in the order of those that they were."""
    new = [to.get(name, name) for name in old]
    return list(dict.fromkeys(name for name in new if name is not None))


def _renamed(
    array: pa.Array, item: pa.Field, old: list[str], to: dict[str, str | None], names: dict[str, list[str]]
) -> pa.Array:
    kind = kind_of(item)
    if kind == "tags":
        return _renamed_list(array, to)
    if kind == "objects":
        boxes, categories = pc.struct_field(array, "bbox"), pc.struct_field(array, "category")
        return pa.StructArray.from_arrays(
            [boxes, _renamed_list(categories, to)], fields=list(OBJECTS), mask=pc.is_null(array)
        )
    new = names[item.name]
    codes = [new.index(said) if (said := to.get(name, name)) is not None else None for name in old]
    return pc.take(pa.array(codes, pa.int64()), array.cast(pa.int64()))


def _renamed_list(array: pa.Array, to: dict[str, str | None]) -> pa.Array:
    rows = [None if row is None else [to.get(name, name) for name in row] for row in array.to_pylist()]
    return pa.array(rows, pa.list_(pa.string()))


def _named(array: pa.Array, names: list[str]) -> pa.Array:
    codes = array.cast(pa.int64())
    codes = pc.if_else(pc.less(codes, 0), pa.scalar(None, pa.int64()), codes)
    return pc.take(pa.array(names, pa.string()), codes)
