"""What a file format is, and what it hands on.

A format is one module beside this one with a `FORMAT`: an instance of a subclass of `Format`. It turns
a file into Arrow batches whose columns have one of the types in `ARROW_TYPES` (or text, where the file itself
does not know types). Everything after that is the same for every format.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa

from webapp.datasets.limits import Limits
from webapp.datasets.problems import Problems, Refused

if TYPE_CHECKING:
    from webapp.datasets.tallies import Tally

MAX_COLUMNS = 1000
BATCH_BYTES = 32 << 20  # about what a batch weighs, so that memory does not depend on the file
MAX_BATCH_ROWS = 50_000
RESERVED = {"file_row_number"}  # DuckDB's own column beside those of a Parquet file
HEAD_BYTES_TEXT = 256 << 10  # characters that the dialect of a text file is found from
MAX_ROW_BYTES = 16 << 20  # of a text file; more is a mistake, such as a quote that is never closed

ANSWERS = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int64()))])
MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # and audio
BOX = pa.list_(pa.float32())  # x, y, width, height in pixels
OBJECTS = pa.struct([("bbox", pa.list_(BOX)), ("category", pa.list_(pa.string()))])
# Kind of column → its Arrow type between a format and the canonical form; classes stand as text until all are known.
ARROW_TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "integer": pa.int64(),
    "float": pa.float64(),
    "boolean": pa.bool_(),
    "image": IMAGE,
    "messages": MESSAGES,
    "objects": OBJECTS,
    "tokens": pa.list_(pa.string()),
    # Of the same types as others: their fields say the kind.
    "label": pa.string(),
    "json": pa.string(),
    "audio": IMAGE,
    "tags": pa.list_(pa.string()),
    "mask": IMAGE,
    "answers": ANSWERS,
}
# Not for DuckDB to look into.
NESTED = frozenset(("image", "mask", "audio", "messages", "objects", "tokens", "tags", "answers"))
JSON_FIELD = {b"kind": b"json"}  # metadata of a string field that holds JSON
SETTLED_FIELD = {b"kind": b"text", b"settled": b"yes"}


def field_of(name: str, kind: str) -> pa.Field:
    """A field of this kind, which `kind_of` tells again."""
    return pa.field(name, ARROW_TYPES[kind], metadata={b"kind": kind.encode()})


def kind_of(item: pa.Field) -> str:
    """What a field says that it holds, or else what its type usually holds; text where neither does."""
    said = (item.metadata or {}).get(b"kind", b"").decode()
    return said or next((kind for kind, held in ARROW_TYPES.items() if held == item.type), "text")


def settled_text(name: str) -> pa.Field:
    """A field of text that stays text, however few different values it has: a version of ours had it so."""
    return pa.field(name, pa.string(), metadata=SETTLED_FIELD)


def is_settled(item: pa.Field) -> bool:
    return bool(item.metadata == SETTLED_FIELD)


def is_by_name(item: pa.Field) -> bool:
    """Whether the classes of a column stand there by their names, and not by numbers."""
    return kind_of(item) in {"tags", "objects"}


# Called with rows or bytes done, and how many there are.
Progress = Callable[[int, int], None]


@dataclass
class Source:
    """A file to read. `name` is what its owner calls it; `path` is ours."""

    path: Path
    name: str
    has_header: bool | None = None  # as the uploader said; None: find out
    scratch: Path = field(default_factory=Path)  # a folder for temporary files
    progress: Progress = lambda done, total: None
    limits: Limits = field(default_factory=Limits)
    split: str = ""  # as its name says, where it says one
    asked: frozenset[str] = frozenset()  # columns that the uploader named
    conversations: bool = True  # whether what is asked for can use them
    companions: tuple[Source, ...] = ()  # files that are read with this one, line by line
    together: tuple[str, ...] = ()  # names of all files that are uploaded as one dataset
    kinds: dict[str, str] = field(default_factory=dict)  # of columns, known where the file was made
    unpacked_name: str = ""  # what a compressed file would be called without its last extension

    @property
    def extension(self) -> str:
        return Path(self.unpacked_name or self.name).suffix.lower()


@dataclass
class Opened:
    """A file whose columns are known and whose rows are read while iterating."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    textual: bool = False  # the file knows only text: numbers are recognised later, over all rows
    class_names: dict[str, list[str]] = field(default_factory=dict)  # of columns that hold class numbers
    first_row: int = 1  # as an editor or a viewer counts the first row of data
    tallies: dict[str, Tally] = field(
        default_factory=dict
    )  # by column, where the format notes things of its own
    finish: Callable[[Path], None] | None = (
        None  # called with the scratch Parquet of all rows, which it may change
    )
    details: dict[str, object] = field(default_factory=dict)  # what was found out, such as the delimiter


class Format(ABC):
    """A kind of file that can be uploaded."""

    slug: ClassVar[str]
    title: ClassVar[str]
    extensions: ClassVar[tuple[str, ...]]

    @abstractmethod
    def recognises(self, head: bytes, extension: str) -> float:
        """How sure the first 64 KB make it (0 to 1) that a file is of this format."""

    @abstractmethod
    def open(self, source: Source, problems: Problems) -> Opened:
        """Find the columns; raises Refused, also later while the batches are read."""


def batch_rows(row_bytes: float) -> int:
    """How many rows of this size make a batch."""
    return max(1, min(MAX_BATCH_ROWS, int(BATCH_BYTES / max(1.0, row_bytes))))


def check_column_count(count: int, source: Source) -> None:
    if count > MAX_COLUMNS:
        raise Refused(
            "too_many_columns",
            f"The file has {count:,} columns; at most {MAX_COLUMNS:,} can be used.",
            "Keep the columns that matter, such as the text and its label, and upload again.",
            file=source.name,
        )


def unique_names(names: list[str], source: Source, problems: Problems) -> list[str]:
    """Column names that are there, printable, short and different from each other."""
    taken: set[str] = set()
    result: list[str] = []
    for number, raw in enumerate(names, start=1):
        printable = "".join(c if c.isprintable() else " " for c in raw)
        name = " ".join(printable.split())[:100].rstrip()
        if not name:
            name = f"column_{number}"
            problems.warn(
                "unnamed_column",
                f"Column {number} has no name; it is called “{name}” here.",
                file=source.name,
                column=name,
            )
        if name.casefold() in RESERVED:
            problems.warn(
                "renamed_column",
                f"What reads tables here means something else by “{name}”; column {number} is called “{name}_1”.",
                file=source.name,
                column=f"{name}_1",
            )
            name = f"{name}_1"
        base, repeat = name, 2
        while name.casefold() in taken:  # DuckDB does not tell capitals from small letters in names
            name, repeat = f"{base}_{repeat}", repeat + 1
        if name != base:
            problems.warn(
                "duplicate_column",
                f"Two columns are called “{base}”; column {number} is called “{name}” here.",
                "Rename one of them in the file if that is not what you meant.",
                file=source.name,
                column=name,
            )
        taken.add(name.casefold())
        result.append(name)
    return result
