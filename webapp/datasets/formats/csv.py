"""Tables as text: CSV, TSV, and with semicolons or bars between the columns.

The dialect is found by counting over the first rows; DuckDB reads the rest in parallel. Everything comes as
text: whether a column holds numbers is decided later, over all its rows, and not over a sample.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from webapp.datasets.formats.apostrophes import Apostrophes, unescaped_names
from webapp.datasets.formats.common import (
    HEAD_BYTES_TEXT,
    MAX_ROW_BYTES,
    Format,
    Opened,
    Source,
    batch_rows,
    check_column_count,
    unique_names,
)
from webapp.datasets.formats.csv_rows import too_long_row
from webapp.datasets.formats.text import Plain, head_as_text, looks_like_text, plain_text
from webapp.datasets.problems import Problems, Refused, shown
from webapp.datasets.sandbox import connect

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?%?")
SEPARATOR_LINE = re.compile(r"sep=([,;|\t])\n", re.IGNORECASE)
USUAL_HEADERS = frozenset(
    [
        "text",
        "label",
        "labels",
        "sentence",
        "sentence1",
        "sentence2",
        "review",
        "comment",
        "content",
        "category",
        "class",
        "target",
        "id",
        "title",
        "body",
        "message",
        "question",
        "answer",
        "context",
        "prompt",
        "completion",
        "response",
        "output",
        "input",
        "instruction",
        "source",
        "language",
        "lang",
        "intent",
        "sentiment",
        "score",
        "rating",
        "split",
        "image",
        "name",
        "description",
        "summary",
        "tag",
        "topic",
    ]
)
WORST_SHARE = 0.01  # of rows that do not fit and are left out; more is a misunderstanding
TABULAR_SHARE = 0.9  # of rows with the same number of columns
MOST_REPORTED = 10_000

csv.field_size_limit(1 << 31)


@dataclass(frozen=True)
class Dialect:
    delimiter: str
    quote: str  # empty: quotes mean nothing
    columns: int


class Csv(Format):
    slug = "csv"
    title = "CSV or TSV"
    extensions = (".csv", ".tsv", ".tab", ".txt", ".psv")

    def recognises(self, head: bytes, extension: str) -> float:
        if not looks_like_text(head):
            return 0.0
        if extension == ".txt":
            return 0.65 if is_tabular(head_as_text(head)) else 0.3
        return 0.6 if extension in self.extensions else 0.2

    def open(self, source: Source, problems: Problems) -> Opened:
        plain = plain_text(source, problems)
        with plain.path.open(encoding="utf-8", errors="replace", newline="") as opened:
            head = opened.read(HEAD_BYTES_TEXT)
        told = SEPARATOR_LINE.match(head)  # Excel's own hint, which stands above the header
        head = head[told.end() :] if told else head
        rows_text = head if len(head) < HEAD_BYTES_TEXT else head[: head.rfind("\n") + 1] or head
        dialect = find_dialect(rows_text, source.extension, told.group(1) if told else "")
        check_column_count(dialect.columns, source)
        rows = [row for row in _sample_rows(rows_text, dialect) if row]
        has_header = source.has_header if source.has_header is not None else guess_header(rows)
        if has_header and rows:
            named = unescaped_names([cell.strip() for cell in rows[0]])
            names = unique_names(named, source, problems)
            check_column_count(len(names), source)
        else:
            names = [f"column_{number}" for number in range(1, dialect.columns + 1)]
        above = bool(told) + has_header
        if has_header and plain.lines <= above:
            raise Refused(
                "header_only",
                "The file has a first line with column names but no rows below it.",
                "Add rows of examples. If the first line is an example, say that the file has no header.",
                file=source.name,
                row=above,
            )
        apostrophes = Apostrophes(source.name, problems)
        return Opened(
            schema=pa.schema([(name, pa.string()) for name in names]),
            batches=apostrophes.watch(_read(source, plain, dialect, names, above, problems)),
            finish=apostrophes.take_off,
            textual=True,
            first_row=above + 1,
            details={
                "format": self.slug,
                "delimiter": DELIMITERS[dialect.delimiter],
                "header": has_header,
                "encoding": plain.encoding,
            },
        )


def find_dialect(text: str, extension: str, told: str = "") -> Dialect:
    """The delimiter that cuts most rows into the same number of fields, two or more; or the one that was `told`."""
    best: tuple[float, Dialect] | None = None
    preferred = "\t" if extension in {".tsv", ".tab"} else "|" if extension == ".psv" else ","
    for delimiter in told or sorted(DELIMITERS, key=lambda each: each != preferred):
        # Tab- and bar-separated files often mean nothing by quotes; in the others they are needed.
        for quote in ('"', "") if delimiter in "\t|" else ('"',):
            rows = [row for row in _sample_rows(text, Dialect(delimiter, quote, 0)) if row]
            counts = Counter(len(row) for row in rows)
            fields, often = counts.most_common(1)[0] if counts else (1, 0)
            if fields < 2:
                continue
            # Rows, not shares: an unclosed quote swallows the rows after it.
            score = often / max(1, counts.total()) + often / max(1, text.count("\n") + 1)
            # Texts with a comma each do not make it the delimiter where the names have none between them.
            score += 0.15 if len(rows[0]) == fields else 0.0
            if quote == "":
                score -= 0.6 if _cuts_quotes(rows) else 0.05
            if best is None or score > best[0] + 0.1:
                best = (score, Dialect(delimiter, quote, fields))
    first = text.split("\n", 1)[0]
    if best is None or (best[0] < 0.8 and best[1].delimiter not in first):
        return Dialect(preferred, '"', 1)
    header = next((row for row in _sample_rows(text, best[1]) if row), [])
    columns = len(header) if len(header) > best[1].columns and len(header) > 500 else best[1].columns
    return Dialect(best[1].delimiter, best[1].quote, columns)


def _cuts_quotes(rows: list[list[str]]) -> bool:
    """Whether many rows have a value that begins with a quote and does not end with one: a value over several lines."""
    cut = sum(any(cell[:1] == '"' and not cell.endswith('"', 1) for cell in row) for row in rows)
    return cut > len(rows) / 10


def _sample_rows(text: str, dialect: Dialect) -> list[list[str]]:
    quoting: Any = csv.QUOTE_MINIMAL if dialect.quote else csv.QUOTE_NONE
    reader = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=dialect.delimiter,
        quotechar=dialect.quote or None,
        quoting=quoting,
    )
    return [row for row, _ in zip(reader, range(500), strict=False)]


def is_tabular(text: str) -> bool:
    """Whether a text is a table of two columns or more: prose has commas too, but not the same number in every line."""
    lines = text if len(text) < 1000 else text[: text.rfind("\n") + 1] or text
    dialect = find_dialect(lines, "")
    rows = [row for row in _sample_rows(lines, dialect) if row]
    if dialect.columns < 2 or len(rows) < 2:
        return False
    fitting = sum(len(row) == dialect.columns for row in rows)
    spaced = sum(cell.startswith(" ") for row in rows for cell in row[1:])
    prose = dialect.delimiter in ",;" and spaced > fitting * (dialect.columns - 1) / 2
    return fitting >= TABULAR_SHARE * len(rows) and not prose


def guess_header(rows: list[list[str]]) -> bool:
    """Whether the first row names the columns: it looks unlike what stands below it."""
    if not rows:
        return False
    first, rest = [cell.strip() for cell in rows[0]], rows[1:]
    if any(NUMBER.fullmatch(cell) for cell in first) or len({*first}) < len(first) - first.count("") - 3:
        return False
    named = sum(cell.lower() in USUAL_HEADERS for cell in first)
    if not rest:
        return named > 0 or all(0 < len(cell) <= 30 and " " not in cell for cell in first)
    if named and named >= len(first) / 2:
        return True
    for number, cell in enumerate(first):
        below = [row[number].strip() for row in rest if number < len(row) and row[number].strip()]
        if not below:
            continue
        if cell and sum(bool(NUMBER.fullmatch(value)) for value in below) == len(below):
            return True  # a word above numbers
        if cell in below:
            return False  # one more of the values below it
        if cell and len(set(below)) <= len(below) / 2:
            return True
    average = [len(cell) for row in rest for cell in row]
    short = max(len(cell) for cell in first) <= max(30, sum(average) / max(1, len(average)))
    return short and all(len(cell.split()) <= 4 for cell in first)


def _read(
    source: Source, plain: Plain, dialect: Dialect, names: list[str], above: int, problems: Problems
) -> Iterator[pa.RecordBatch]:
    if (line := too_long_row(plain.path, dialect.quote, dialect.delimiter)) is not None:
        raise _too_long(source, line)
    connection = connect(source.scratch, plain.path)
    rows_in_batch = batch_rows(plain.size / max(1, plain.lines))
    expected = max(1, plain.lines - above)
    relation = connection.sql(
        "SELECT * FROM read_csv($path, delim=$delimiter, quote=$quote, escape=$quote, header=false, skip=$above,"
        " columns=$columns, auto_detect=false, compression='none', store_rejects=true, rejects_limit=$most,"
        " max_line_size=$longest, buffer_size=$buffer, nullstr='')",
        params={
            "path": str(plain.path),
            "delimiter": dialect.delimiter,
            "quote": dialect.quote,
            "above": above,
            "columns": dict.fromkeys((f"c{number}" for number in range(len(names))), "VARCHAR"),
            "most": MOST_REPORTED,
            "longest": MAX_ROW_BYTES,
            "buffer": 2 * MAX_ROW_BYTES,
        },
    )
    schema = pa.schema([(name, pa.string()) for name in names])
    done = 0
    try:
        for batch in relation.to_arrow_reader(rows_in_batch):
            done += batch.num_rows
            source.progress(min(done, expected), expected)
            columns = [column.cast(pa.string()) for column in batch.columns]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)
        _check_rejects(connection, source, done, len(names), problems)
    except duckdb.Error as error:
        raise _as_refused(error, source) from error
    finally:
        connection.close()


def _check_rejects(
    connection: duckdb.DuckDBPyConnection, source: Source, good: int, columns: int, problems: Problems
) -> None:
    """Rows that did not fit: a few are left out with a warning, many mean that the file is not as thought."""
    rejects = connection.execute(
        "SELECT line, error_type::VARCHAR, left(csv_line, 200) FROM reject_errors"
        " QUALIFY row_number() OVER (PARTITION BY line) = 1 ORDER BY line"
    ).fetchall()
    if not rejects:
        return
    line, kind, text = rejects[0]
    where = {"file": source.name, "row": int(line), "count": len(rejects)}
    if kind == "UNQUOTED VALUE":
        raise Refused(
            "unclosed_quote",
            f"Line {line:,} opens a quote that is never closed, or closes one in the middle of a value: "
            f"{shown(text or '')}.",
            'Close the quote, or write a quote inside a value twice ("").',
            **where,
        )
    if kind in {"LINE SIZE OVER MAXIMUM", "MAXIMUM LINE SIZE"}:
        raise _too_long(source, int(line))
    if kind == "INVALID ENCODING":
        raise Refused(
            "encoding",
            f"Line {line:,} holds bytes that are not UTF-8 text.",
            "Save the file as UTF-8 and upload it again.",
            **where,
        )
    what = "more" if kind == "TOO MANY COLUMNS" else "fewer"
    message = f"Line {line:,} has {what} than {columns} columns: {shown(text or '')}."
    if (len(rejects) > WORST_SHARE * (good + len(rejects)) and len(rejects) > 1) or good < 3:
        many = "or more " if len(rejects) >= MOST_REPORTED else ""
        raise Refused(
            "ragged",
            f"{message} {len(rejects):,} {many}of {good + len(rejects):,} rows do not fit.",
            "Put values that contain the delimiter in quotes, so that each row has as many as the first.",
            **where,
        )
    more = f", and {len(rejects) - 1:,} more like it" if len(rejects) > 1 else ""
    problems.warn(
        "ragged",
        f"{message} It was left out{more}.",
        "Put values that contain the delimiter in quotes, and upload again if the rows matter.",
        **where,
    )


def _too_long(source: Source, line: int | None) -> Refused:
    place = f"Line {line:,}" if line else "A line"
    return Refused(
        "huge_value",
        f"{place} is longer than {MAX_ROW_BYTES >> 20} MB, more than any example needs.",
        "Look for a quote that is never closed before it, or cut the value.",
        file=source.name,
        row=line,
    )


def _as_refused(error: duckdb.Error, source: Source) -> Refused:
    text = str(error)
    found = re.search(r"Line: (\d+)", text)
    line = int(found.group(1)) if found else None
    if "aximum line size" in text or "max_line_size" in text.split("Possible")[0]:
        return _too_long(source, line)
    if "quote" in text.split("file =")[0].lower():
        return Refused(
            "unclosed_quote",
            f"{f'Line {line:,}' if line else 'A line'} has a quote that is never closed.",
            'Close it, or write a quote inside a value twice ("").',
            file=source.name,
            row=line,
        )
    return Refused(
        "unreadable",
        f"The rows cannot be told apart{f' from line {line:,} on' if line else ''}.",
        "Export the table again as CSV with a comma between columns and quotes around text.",
        file=source.name,
        row=line,
    )


FORMAT = Csv()
