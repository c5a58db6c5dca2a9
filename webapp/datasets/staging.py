"""The files of a dataset, read once: each becomes a scratch Parquet file with columns of known types.

From here on nothing depends on the format that the rows came in, and every pass over them reads columns,
not lines.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from webapp.datasets import layouts, parquet_files
from webapp.datasets.archives import is_archive, unpack
from webapp.datasets.formats import parallel, recognise
from webapp.datasets.formats.common import JSON_FIELD, MAX_COLUMNS, Opened, Source, is_settled, kind_of
from webapp.datasets.layouts.common import Place
from webapp.datasets.limits import Limits
from webapp.datasets.problems import Problems, Refused
from webapp.datasets.splits import split_of_name
from webapp.datasets.tallies import TALLIES, BadValue, Tally

Report = Callable[[str, int, int], None]


@dataclass
class Staged:
    """The rows of one file, or of one part of an archive, in scratch Parquet."""

    path: Path
    name: str
    split: str  # as the file's name says; empty where it says nothing
    schema: pa.Schema
    rows: int
    textual: bool
    first_row: int
    class_names: dict[str, list[str]]
    details: dict[str, object] = field(default_factory=dict)
    tallies: dict[str, Tally] = field(default_factory=dict)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """As they were written, so about as large as they were read."""
        with pq.ParquetFile(self.path) as file:
            for number in range(file.metadata.num_row_groups):
                yield from file.read_row_group(number, use_threads=False).to_batches()


def stage_all(
    files: list[tuple[Path, str]],
    has_header: bool | None,
    scratch: Path,
    problems: Problems,
    report: Report,
    limits: Limits,
    asked: frozenset[str] = frozenset(),
    conversations: bool = True,
    kinds: dict[str, str] | None = None,
    *,
    joins: bool = False,
) -> list[Staged]:
    """Read every file, and what is in every archive; raises Refused for the first that cannot be used.

    `kinds` ({column: kind}) are of files of ours that do not say them: they were stored before that was noted.
    `joins`: rows to train on are there already, so that files of one other split need none with them.
    """
    splits = [split_of_name(name) for _, name in files]
    if not joins and "train" not in splits and not any(is_archive(path) for path, _ in files):
        splits = ["" for _ in splits]  # one file called test.csv is no test split of anything
    sources = []
    for number, ((path, name), split) in enumerate(zip(files, splits, strict=True)):
        folder = scratch / f"file-{number}"
        folder.mkdir()
        sources.append(
            Source(
                path,
                name,
                has_header,
                folder,
                limits=limits,
                split=split,
                asked=asked,
                conversations=conversations,
                kinds=kinds or {},
                together=tuple(name for _, name in files),
            )
        )
    groups = parallel.pairs([name for _, name in files])
    staged: list[Staged] = []
    for number, group in enumerate(groups):
        stage = "reading" if len(groups) == 1 else f"reading file {number + 1} of {len(groups)}"

        def progress(done: int, total: int, stage: str = stage) -> None:
            report(stage, done, total)

        source = sources[group[0]]
        source.progress = progress
        source.companions = tuple(sources[place] for place in group[1:])
        if source.companions:
            staged.append(staged_of(source, parallel.FORMAT.open(source, problems), source.split, problems))
        elif is_archive(source.path):
            report("unpacking", 0, 0)
            staged += _staged_archive(source, problems)
        else:
            staged.append(
                staged_of(source, recognise(source, problems).open(source, problems), source.split, problems)
            )
    if not joins and all(each.split != "train" for each in staged):
        for each in staged:
            each.split = ""
    return staged


def _staged_archive(source: Source, problems: Problems) -> list[Staged]:
    """Each split or table of an archive; where nothing inside tells a split, the archive's own name does."""
    folder = source.scratch / "tree"
    folder.mkdir()
    tree = unpack(source.path, source.name, folder, source.limits, problems)
    layout = layouts.recognise(tree)
    notes = source.scratch / "layout"
    notes.mkdir()
    place = Place(problems, notes, source.limits, source.has_header, source.progress)
    staged = []
    for number, part in enumerate(layout.open(tree, place)):
        scratch = source.scratch / f"part-{number}"
        scratch.mkdir()
        inside = replace(source, name=part.name, scratch=scratch)
        split = part.split or split_of_name(source.name)
        part.opened.details = {"layout": layout.slug, **part.opened.details}
        staged.append(staged_of(inside, part.opened, split, problems))
    shutil.rmtree(folder)  # two copies of it are enough
    return staged


def staged_of(source: Source, opened: Opened, split: str, problems: Problems) -> Staged:
    """What was opened, written down; raises Refused where there are no rows."""
    path = source.scratch / "rows.parquet"
    rows = 0
    kinds = {item.name: kind_of(item) for item in opened.schema}
    tallies = {
        name: opened.tallies.get(name) or TALLIES[kind](source.limits)
        for name, kind in kinds.items()
        if kind in TALLIES
    }
    with pq.ParquetWriter(path, opened.schema, **parquet_files.options(opened.schema, "lz4")) as writer:
        for batch in opened.batches:
            if batch.num_rows:
                _tally(tallies, kinds, batch, source, opened.first_row + rows)
                rows += batch.num_rows
                writer.write_batch(batch, row_group_size=batch.num_rows)
    if opened.finish is not None:
        opened.finish(path)
    if not rows:
        raise Refused("no_rows", "The file has no rows of data.", "Add rows of examples.", file=source.name)
    return Staged(
        path,
        source.name,
        split,
        opened.schema,
        rows,
        opened.textual,
        opened.first_row,
        opened.class_names,
        {"file": source.name, **opened.details},
        tallies,
    )


def _tally(
    tallies: dict[str, Tally], kinds: dict[str, str], batch: pa.RecordBatch, source: Source, first: int
) -> None:
    """Look at the head of every picture, so that a broken one is found now and not in the middle of a run."""
    for name, tally in tallies.items():
        try:
            tally.add(batch.column(name))
        except BadValue as bad:
            row = first + bad.place
            raise Refused(
                f"bad_{kinds[name]}",
                f"“{name}” in row {row:,} {bad.reason.why}.",
                f"{bad.reason.hint} Leave the column out if it is not meant to be used.",
                file=source.name,
                row=row,
                column=name,
            ) from bad


def unified(staged: list[Staged], problems: Problems) -> tuple[pa.Schema, set[str]]:
    """One schema for all files, and the columns that are text only because their file knows nothing else."""
    types: dict[str, pa.Field] = {}
    textual: set[str] = set()
    spelled: dict[str, str] = {}  # names without capitals, which DuckDB does not tell apart
    for file in staged:
        for item in file.schema:
            first = spelled.setdefault(item.name.casefold(), item.name)
            if first != item.name:
                raise Refused(
                    "capitals",
                    f"“{item.name}” is called “{first}” in the files before it.",
                    "Write the name of the column in the same way in all files, and upload again.",
                    file=file.name,
                    column=item.name,
                )
            known = types.get(item.name)
            types[item.name] = item if known is None else _common(known, item, file, problems)
            if file.textual:
                textual.add(item.name)
    if len(types) > MAX_COLUMNS:
        raise Refused(
            "too_many_columns",
            f"Together the files have {len(types):,} columns; at most {MAX_COLUMNS:,} can be used.",
            "Upload files that have the same columns.",
        )
    for name in types:
        lacking = [file for file in staged if name not in file.schema.names]
        if lacking:
            problems.warn(
                "column_missing",
                f"“{name}” is in some of the files only; it is empty for the rows of “{lacking[0].name}”.",
                "Upload files that have the same columns if that is not what you meant.",
                file=lacking[0].name,
                column=name,
                count=len(lacking),
            )
    return pa.schema(list(types.values())), textual


def _common(known: pa.Field, item: pa.Field, file: Staged, problems: Problems) -> pa.Field:
    if known.type == item.type and kind_of(known) == "label":
        return known  # classes that are known by their names take more of them
    if known.type == item.type and kind_of(known) == kind_of(item):
        return item if is_settled(known) else known  # text stays text only where every file says so
    if pa.types.is_null(known.type) or pa.types.is_null(item.type):
        return item if pa.types.is_null(known.type) else known
    numbers = {known.type, item.type}
    if numbers == {pa.int64(), pa.float64()}:
        return pa.field(item.name, pa.float64())
    if pa.types.is_nested(known.type) or pa.types.is_nested(item.type):
        raise Refused(
            "mixed_types",
            f"“{item.name}” holds something else in this file than in the files before it.",
            "Upload files whose columns hold the same.",
            file=file.name,
            column=item.name,
        )
    if not file.textual:
        problems.warn(
            "mixed_types",
            f"“{item.name}” has another type in this file than in the files before it; it is kept as text.",
            file=file.name,
            column=item.name,
        )
    json = JSON_FIELD if JSON_FIELD in (known.metadata, item.metadata) else None
    return pa.field(item.name, pa.string(), metadata=json)
