"""SQLite databases: the one table, or the largest.

The file was made by a stranger, and a database can hold code: views, triggers, generated columns, virtual tables.
None of it runs here: only ordinary tables are read, column by column that is stored, by a connection that an
authorizer holds to that, in a file that nothing is ever written to.
"""

# Names of tables and columns are quoted by `_quoted`; the authorizer lets nothing but reading them pass.
# ruff: noqa: S608
from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from webapp.datasets.formats.common import (
    ARROW_TYPES,
    BATCH_BYTES,
    MAX_BATCH_ROWS,
    MAX_ROW_BYTES,
    Format,
    Opened,
    Source,
    check_column_count,
    unique_names,
)
from webapp.datasets.problems import Problems, Refused, shown

MAGIC = b"SQLite format 3\0"
MOST_TABLES = 1000
STEPS = 100_000  # of SQLite's machine between two looks at how many there were
MOST_STEPS = 200_000 * 100_000  # hours of reading; a table without end cannot be made, a slow one can
ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ}
FUNCTIONS = {"count", "max", "typeof", "length", "substr"}
PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")


@dataclass
class Stored:
    """A column that is stored in the table."""

    name: str
    kind: str  # empty: it cannot be used


class Sqlite(Format):
    slug = "sqlite"
    title = "SQLite"
    extensions = (".sqlite", ".sqlite3", ".db")

    def recognises(self, head: bytes, extension: str) -> float:
        return 1.0 if head.startswith(MAGIC) else 0.0

    def open(self, source: Source, problems: Problems) -> Opened:
        with _connected(source) as connection:
            table, rows = _largest(connection, source, problems)
            stored, generated = _columns(connection, table)
            check_column_count(len(stored), source)
            if generated:
                problems.warn(
                    "column_left_out",
                    f"“{generated[0]}” of the table {shown(table)} is computed and not stored; it was left out.",
                    "Copy the table (CREATE TABLE … AS SELECT) and upload that, if it matters.",
                    file=source.name,
                    column=generated[0],
                    count=len(generated),
                )
            columns = [Stored(name, _kind(connection, table, name, source, problems)) for name in stored]
        used = [column for column in columns if column.kind]
        if not used:
            raise Refused(
                "no_columns",
                f"No column of the table {shown(table)} holds anything that a task can use.",
                "Store texts, numbers or pictures in its columns.",
                file=source.name,
            )
        names = unique_names([column.name for column in used], source, problems)
        schema = pa.schema(
            [
                (name, pa.null() if column.kind == "empty" else ARROW_TYPES[column.kind])
                for name, column in zip(names, used, strict=True)
            ]
        )
        return Opened(
            schema,
            _batches(source, table, used, schema, rows),
            details={"format": self.slug, "table": table},
        )


@contextmanager
def _connected(source: Source) -> Iterator[sqlite3.Connection]:
    """A connection that only reads what is stored; raises Refused for a database that is damaged or takes too long."""
    address = f"file:{quote(str(source.path))}?mode=ro&immutable=1"
    left = MOST_STEPS // STEPS

    def step() -> int:
        nonlocal left
        left -= 1
        return left < 0

    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            connection.execute("PRAGMA mmap_size = 0")
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 4 * MAX_ROW_BYTES)
            connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            connection.text_factory = lambda data: data.decode("utf-8", "replace").replace("\0", "")
            connection.set_authorizer(_authorized)
            connection.set_progress_handler(step, STEPS)
            yield connection
    except sqlite3.DataError as error:
        raise Refused(
            "huge_value",
            f"A row is larger than {4 * MAX_ROW_BYTES >> 20} MB, more than any example needs.",
            "Leave the column with such values out, or shorten them.",
            file=source.name,
        ) from error
    except (sqlite3.Error, OverflowError) as error:
        if "interrupted" in str(error):
            raise Refused(
                "too_heavy", "Reading the table takes too long.", "Export it as CSV.", file=source.name
            ) from error
        if "too big" in str(error):
            raise Refused(
                "huge_value",
                f"A value is larger than {4 * MAX_ROW_BYTES >> 20} MB, more than any example needs.",
                "Leave the column with such values out, or shorten them.",
                file=source.name,
            ) from error
        raise Refused(
            "damaged",
            "The file begins as a SQLite database but cannot be read: it is cut off or damaged.",
            "Close the program that writes it, copy it again (`VACUUM INTO`), and upload the copy.",
            file=source.name,
        ) from error


def _authorized(
    action: int, first: str | None, second: str | None, database: str | None, by: str | None
) -> int:
    """Reading columns, and a few functions that are asked for here: nothing on behalf of a view or a trigger (`by`)."""
    if by is not None:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION:
        return sqlite3.SQLITE_OK if second in FUNCTIONS else sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_PRAGMA:
        return sqlite3.SQLITE_OK if first == "table_xinfo" else sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK if action in ALLOWED else sqlite3.SQLITE_DENY


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _largest(connection: sqlite3.Connection, source: Source, problems: Problems) -> tuple[str, int]:
    """(name of the table with the most rows, how many they are)"""
    found = connection.execute(
        "SELECT name, type, sql FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY rowid LIMIT ?",
        (MOST_TABLES,),
    ).fetchall()
    virtual = tuple(name for name, _, sql in found if (sql or "").upper().startswith("CREATE VIRTUAL"))
    shadows = ("sqlite_", *(f"{name}_" for name in virtual))  # where virtual tables keep what they need
    tables = [
        name
        for name, kind, _ in found
        if kind == "table" and name not in virtual and not name.startswith(shadows)
    ]
    if not tables:
        views = (
            " It has views, but those are not read." if any(kind == "view" for _, kind, _ in found) else ""
        )
        raise Refused(
            "no_rows",
            f"The database has no table.{views}",
            "Create a table with the rows of examples (CREATE TABLE … AS SELECT) and upload again.",
            file=source.name,
        )
    counts = {
        table: connection.execute(f"SELECT count(*) FROM {_quoted(table)}").fetchone()[0] for table in tables
    }
    best = max(tables, key=lambda table: counts[table])
    if not counts[best]:
        raise Refused(
            "no_rows", "The tables of the database have no rows.", "Add rows of examples.", file=source.name
        )
    others = [table for table in tables if table != best and counts[table]]
    if others:
        named = ", ".join(shown(table) for table in others[:5]) + (" and more" if len(others) > 5 else "")
        problems.warn(
            "other_tables",
            f"Only the largest table, {shown(best)}, was read; the database also has {named}.",
            "Join what belongs together into one table if the others matter.",
            file=source.name,
            count=len(others),
        )
    return best, counts[best]


def _columns(connection: sqlite3.Connection, table: str) -> tuple[list[str], list[str]]:
    """(those that are stored, those that SQLite would compute)"""
    found = connection.execute(f"PRAGMA table_xinfo({_quoted(table)})").fetchall()
    return [row[1] for row in found if not row[6]], [row[1] for row in found if row[6]]


def _kind(connection: sqlite3.Connection, table: str, name: str, source: Source, problems: Problems) -> str:
    """What the values of a column are, which in SQLite can differ by row."""
    kinds = ("integer", "real", "text", "blob")
    column = _quoted(name)
    asked = ", ".join(f"max(typeof({column}) = '{kind}')" for kind in kinds)
    there = connection.execute(f"SELECT {asked} FROM {_quoted(table)}").fetchone()
    seen = {kind for kind, any_of_it in zip(kinds, there, strict=True) if any_of_it}
    if seen == {"blob"}:
        head = connection.execute(
            f"SELECT substr({column}, 1, 16) FROM {_quoted(table)} WHERE {column} IS NOT NULL LIMIT 1"
        ).fetchone()
        if head[0].startswith(PICTURES):
            return "image"
    if "blob" in seen:
        problems.warn(
            "column_left_out",
            f"“{name}” holds bytes that are no pictures, which no task can use; it was left out.",
            file=source.name,
            column=name,
        )
        return ""
    if seen - {"integer", "real"}:
        if len(seen) > 1:
            problems.warn(
                "mixed_types",
                f"“{name}” holds texts and numbers; it is kept as text.",
                file=source.name,
                column=name,
            )
        return "text"
    return "float" if "real" in seen else "integer" if seen else "empty"


def _batches(
    source: Source, table: str, columns: list[Stored], schema: pa.Schema, rows: int
) -> Iterator[pa.RecordBatch]:
    asked = ", ".join(_quoted(column.name) for column in columns)
    done = 0
    held: list[tuple[Any, ...]] = []
    weight = 0
    with _connected(source) as connection:
        for row in connection.execute(f"SELECT {asked} FROM {_quoted(table)}"):
            held.append(row)
            weight += sum(len(value) if isinstance(value, str | bytes) else 8 for value in row)
            if weight > BATCH_BYTES or len(held) >= MAX_BATCH_ROWS:
                done += len(held)
                yield _batch(held, columns, schema)
                source.progress(min(done, rows), rows)
                held, weight = [], 0
    if held:
        yield _batch(held, columns, schema)


def _batch(rows: list[tuple[Any, ...]], columns: list[Stored], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [
        pa.array([_value(value, column.kind) for value in cells], item.type)
        for cells, column, item in zip(zip(*rows, strict=True), columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _value(value: Any, kind: str) -> Any:
    if value is None:
        return None
    match kind:
        case "text":
            return value if isinstance(value, str) else str(value)
        case "float":
            return float(value)
        case "image":
            return {"bytes": value, "path": None}
    return value


FORMAT = Sqlite()
