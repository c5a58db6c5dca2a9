"""The files of a dataset, read once: each becomes a scratch Parquet file with columns of known types.

From here on nothing depends on the format that the rows came in, and every pass over them reads columns,
not lines.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from webapp.datasets.formats import parallel, recognise
from webapp.datasets.formats.common import IMAGE, JSON_FIELD, MAX_COLUMNS, Opened, Source
from webapp.datasets.limits import Limits
from webapp.datasets.problems import Problems, Refused

SPLITS = ("train", "validation", "test")
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development", "eval"), "validation"),
    **dict.fromkeys(("test", "testing", "heldout"), "test"),
}
IMAGE_FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
Report = Callable[[str, int, int], None]


@dataclass
class Staged:
    """One file's rows in scratch Parquet."""

    path: Path
    name: str
    split: str  # as the file's name says; empty where it says nothing
    schema: pa.Schema
    rows: int
    textual: bool
    first_row: int
    class_names: dict[str, list[str]]
    details: dict[str, object] = field(default_factory=dict)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """As they were written, so about as large as they were read."""
        with pq.ParquetFile(self.path) as file:
            for number in range(file.metadata.num_row_groups):
                yield from file.read_row_group(number, use_threads=False).to_batches()


def split_of_name(name: str) -> str:
    """The split that a file's name tells, such as train.csv, sst2-dev.tsv or test_0.parquet."""
    words = re.split(r"[^a-z]+", PurePath(name).stem.lower())
    found = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    return found.pop() if len(found) == 1 else ""


def stage_all(
    files: list[tuple[Path, str]],
    has_header: bool | None,
    scratch: Path,
    problems: Problems,
    report: Report,
    limits: Limits,
    asked: frozenset[str] = frozenset(),
    conversations: bool = True,
) -> list[Staged]:
    """Read every file; raises Refused for the first that cannot be used."""
    splits = [split_of_name(name) for _, name in files]
    if "train" not in splits:  # one file called test.csv is no test split of anything
        splits = ["" for _ in splits]
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
                together=tuple(name for _, name in files),
            )
        )
    groups = parallel.pairs([name for _, name in files])
    staged = []
    for number, group in enumerate(groups):
        stage = "reading" if len(groups) == 1 else f"reading file {number + 1} of {len(groups)}"

        def progress(done: int, total: int, stage: str = stage) -> None:
            report(stage, done, total)

        source = sources[group[0]]
        source.progress = progress
        source.companions = tuple(sources[place] for place in group[1:])
        file_format = parallel.FORMAT if source.companions else recognise(source, problems)
        staged.append(_staged(source, file_format.open(source, problems), source.split, problems))
    return staged


def _staged(source: Source, opened: Opened, split: str, problems: Problems) -> Staged:
    path = source.scratch / "rows.parquet"
    rows = 0
    pictures = _Pictures(source, opened.schema, opened.first_row, problems)
    with pq.ParquetWriter(path, opened.schema, compression="lz4", use_dictionary=True) as writer:
        for batch in opened.batches:
            if batch.num_rows:
                pictures.check(batch, rows)
                rows += batch.num_rows
                writer.write_batch(batch, row_group_size=batch.num_rows)
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
    )


class _Pictures:
    """Looks at the head of every picture, so that a broken one is found now and not in the middle of a run."""

    def __init__(self, source: Source, schema: pa.Schema, first_row: int, problems: Problems) -> None:
        self.source, self.first_row, self.problems = source, first_row, problems
        self.columns = [item.name for item in schema if item.type == IMAGE]

    def check(self, batch: pa.RecordBatch, before: int) -> None:
        for name in self.columns:
            for number, value in enumerate(batch.column(name).to_pylist()):
                if value is None or self._opens(value["bytes"]):
                    continue
                row = before + number + self.first_row
                raise Refused(
                    "bad_image",
                    f"“{name}” in row {row:,} is not a picture that can be read.",
                    f"Use {', '.join(IMAGE_FORMATS)}; leave the column out if it does not hold pictures.",
                    file=self.source.name,
                    row=row,
                    column=name,
                )

    @staticmethod
    def _opens(data: bytes | None) -> bool:
        if not data:
            return False
        try:
            with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as picture:
                return picture.width > 0 and picture.height > 0
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            return False


def unified(staged: list[Staged], problems: Problems) -> tuple[pa.Schema, set[str]]:
    """One schema for all files, and the columns that are text only because their file knows nothing else."""
    types: dict[str, pa.Field] = {}
    textual: set[str] = set()
    for file in staged:
        for item in file.schema:
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
    same_json = (known.metadata or {}) == (item.metadata or {})
    if known.type == item.type and same_json:
        return known
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
