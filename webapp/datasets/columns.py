"""What each column holds: its kind, and the numbers that a person and the suggestion want to know.

One query a column over the scratch Parquet files, so that memory does not depend on the rows.
"""

# Column names are quoted by `quoted`; DuckDB itself may read nothing but the scratch files.
# ruff: noqa: S608
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from webapp.datasets.formats.common import NESTED, is_settled, kind_of
from webapp.datasets.problems import Problems, Refused
from webapp.datasets.staging import Staged
from webapp.datasets.tallies import Tally

MOST_CLASSES = 1000
FEW = 20  # so few different texts are classes, even of a small dataset
LONGEST_CLASS = 100  # characters
MOST_COUNTED = 100  # different numbers whose counts are shown

INTEGER = r"-?(0|[1-9][0-9]{0,17})"
FLOAT = r"[-+]?(0|[1-9][0-9]*)?\.?[0-9]*([eE][-+]?[0-9]+)?"
ZERO_IN_FRONT = r"[-+]?0[0-9].*"


@dataclass
class Column:
    """A column of the dataset to be."""

    name: str
    kind: str  # as docs/architecture.md lists them
    nulls: int
    distinct: int | None = None
    textual: bool = False  # its values stand as text in the scratch files
    names: list[str] = field(default_factory=list)  # of classes, in the order of their numbers
    coded: bool = False  # a label whose values are numbers already
    values: list[Any] = field(default_factory=list)  # the few different ones of an integer or boolean
    facts: dict[str, Any] = field(default_factory=dict)  # chars, min, max, mean

    @property
    def typical_length(self) -> float:
        """Characters of a text on average: what a model is to read is longer than an identifier."""
        return float(self.facts.get("chars", {}).get("mean", 0.0))

    @property
    def is_groups(self) -> bool:
        """Whether rows can be told apart by it into a few groups."""
        return self.kind == "label" or bool(self.values)

    @property
    def is_counted(self) -> bool:
        """Whether it is told how often each value stands in each split."""
        return self.is_groups or self.kind in {"objects", "tags", "mask"}


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def rows_view(connection: duckdb.DuckDBPyConnection, staged: list[Staged], schema: pa.Schema) -> None:
    """A view `rows` over all files, with the columns of `schema`; of pictures and the like whether they are there."""
    selects = []
    for file in staged:
        parts = []
        for item in schema:
            if kind_of(item) in NESTED:
                expression = f"{quoted(item.name)} IS NOT NULL" if item.name in file.schema.names else "false"
            elif item.name not in file.schema.names:
                expression = f"NULL::{_sql_type(item.type)}"
            else:
                expression = f"{quoted(item.name)}::{_sql_type(item.type)}"
            parts.append(f"{expression} AS {quoted(item.name)}")
        path = str(file.path).replace("'", "''")
        selects.append(f"SELECT {', '.join(parts)} FROM read_parquet('{path}')")
    connection.execute(f"CREATE VIEW rows AS {' UNION ALL BY NAME '.join(selects)}")


def _sql_type(kind: pa.DataType) -> str:
    return {pa.int64(): "BIGINT", pa.float64(): "DOUBLE", pa.bool_(): "BOOLEAN"}.get(kind, "VARCHAR")


def describe(
    connection: duckdb.DuckDBPyConnection,
    schema: pa.Schema,
    textual: set[str],
    class_names: dict[str, list[str]],
    wanted: dict[str, tuple[str, ...]],
    tallies: dict[str, Tally],
    problems: Problems,
) -> list[Column]:
    """Every column that holds something. `wanted`: the kinds that a column must have by what was asked."""
    total = int(_one(connection, "SELECT count(*) FROM rows")[0])
    found = []
    for item in schema:
        if kind_of(item) in NESTED:
            column = _nested(connection, item, class_names.get(item.name), tallies.get(item.name), total)
        else:
            column = _column(
                connection,
                item,
                item.name in textual,
                class_names.get(item.name),
                wanted.get(item.name, ()),
                total,
            )
        if column is None:
            problems.warn(
                "empty_column", f"“{item.name}” is empty in every row; it was left out.", column=item.name
            )
            continue
        if column.nulls:
            share = f"{column.nulls:,} of {total:,} rows"
            problems.warn(
                "missing_values",
                f"“{column.name}” is empty in {share}; runs leave those rows out if they use it.",
                column=column.name,
                count=column.nulls,
            )
        found.append(column)
    if not found:
        raise Refused(
            "only_empty", "Every column of the file is empty in every row.", "Add rows with examples."
        )
    return found


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row


def _nested(
    connection: duckdb.DuckDBPyConnection,
    item: pa.Field,
    class_names: list[str] | None,
    tally: Tally | None,
    total: int,
) -> Column | None:
    there = int(_one(connection, f"SELECT count(*) FILTER ({quoted(item.name)}) FROM rows")[0])
    if not there:
        return None
    column = Column(item.name, kind_of(item), total - there, names=class_names or [])
    if tally is not None:
        column.facts, column.names = tally.facts(), tally.named(column.names)
    if len(column.names) > MOST_CLASSES:
        raise Refused(
            "too_many_classes",
            f"“{item.name}” has {len(column.names):,} classes; at most {MOST_CLASSES:,} can be told apart.",
            "Join classes, or leave the rare ones out.",
            column=item.name,
        )
    return column


def _column(
    connection: duckdb.DuckDBPyConnection,
    item: pa.Field,
    textual: bool,
    class_names: list[str] | None,
    wanted: tuple[str, ...],
    total: int,
) -> Column | None:
    name = quoted(item.name)
    there, approximate = _one(connection, f"SELECT count({name}), approx_count_distinct({name}) FROM rows")
    if not there:
        return None
    nulls = total - int(there)
    kind = kind_of(item)
    if kind == "json":
        return Column(item.name, "json", nulls)
    wanted = ("label",) if kind == "label" else wanted
    kind = "text" if kind == "label" else kind
    column = Column(item.name, kind, nulls, int(approximate), textual=item.type == pa.string())
    if kind == "text" and textual and "text" not in (wanted or ("",)):
        column.kind = _kind_of_text(connection, name)
    if column.kind in {"integer", "boolean", "text"} and approximate <= 1.3 * MOST_CLASSES:
        values = [
            row[0]
            for row in connection.execute(
                f"SELECT DISTINCT {name} FROM rows WHERE {name} IS NOT NULL ORDER BY 1 LIMIT {2 * MOST_CLASSES}"
            ).fetchall()
        ]
        column.distinct = len(values)
        _classes(column, values, class_names, wanted, int(there), is_settled(item))
    column.distinct = min(column.distinct or 0, int(there))
    column.facts = _facts(connection, name, column.kind)
    return column


def _kind_of_text(connection: duckdb.DuckDBPyConnection, name: str) -> str:
    """integer, float or boolean if every value of the column reads so, and nothing is lost by it."""
    present = f"FROM rows WHERE {name} IS NOT NULL"
    first = [row[0] for row in connection.execute(f"SELECT {name} {present} LIMIT 1").fetchall()]
    if not first or len(first[0]) > 40:
        return "text"
    integer, boolean, floats = _one(
        connection,
        f"SELECT bool_and(regexp_full_match({name}, '{INTEGER}')),"
        f" bool_and(lower({name}) IN ('true', 'false')),"
        f" bool_and(regexp_full_match({name}, '{FLOAT}') AND NOT regexp_full_match({name}, '{ZERO_IN_FRONT}')"
        f" AND coalesce(isfinite(try_cast({name} AS DOUBLE)), false))"
        f" {present}",
    )
    if integer:
        return "integer"
    if boolean:
        return "boolean"
    # Numbers of 19 digits and more are names of things: as a float they would lose digits.
    if floats and _one(connection, f"SELECT max(length({name})) {present}")[0] <= 30:
        digits = _one(connection, f"SELECT bool_or(regexp_full_match({name}, '-?[0-9]{{18,}}')) {present}")[0]
        return "text" if digits else "float"
    return "text"


def _classes(
    column: Column,
    values: list[Any],
    class_names: list[str] | None,
    wanted: tuple[str, ...],
    there: int,
    settled: bool,
) -> None:
    """Decide whether a column of few different values is a label, and keep the values."""
    if class_names is not None and column.kind == "integer":
        if values and (values[0] < -1 or values[-1] >= len(class_names)):
            return
        column.kind, column.names, column.coded = "label", class_names, True
        return
    if column.kind in {"integer", "boolean"}:
        if column.kind == "boolean":
            column.values = [False, True]
        elif len(values) <= MOST_COUNTED:
            column.values = sorted(int(value) for value in values)
        return
    must = bool(wanted) and "label" in wanted and "text" not in wanted
    few = len(values) <= max(min(FEW, there // 2), min(MOST_CLASSES, there // 10))
    short = max(len(value) for value in values) <= LONGEST_CLASS
    allowed = not wanted or "label" in wanted
    if len(values) <= MOST_CLASSES and allowed and (must or (few and short and not settled)):
        column.kind = "label"
        column.names = sorted(values)


def _facts(connection: duckdb.DuckDBPyConnection, name: str, kind: str) -> dict[str, Any]:
    if kind == "text":
        mean, p50, p95, longest = _one(
            connection,
            f"SELECT avg(n), approx_quantile(n, 0.5), approx_quantile(n, 0.95), max(n)"
            f" FROM (SELECT length({name}) AS n FROM rows WHERE {name} IS NOT NULL)",
        )
        return {"chars": {"mean": round(mean, 1), "p50": int(p50), "p95": int(p95), "max": int(longest)}}
    if kind in {"integer", "float"}:
        low, high, mean = _one(
            connection,
            f"SELECT min(n), max(n), avg(n) FILTER (isfinite(n)) FROM (SELECT {name}::DOUBLE AS n FROM rows)",
        )
        if kind == "integer":
            low, high = int(low), int(high)
        return {"min": low, "max": high, "mean": mean}
    return {}
