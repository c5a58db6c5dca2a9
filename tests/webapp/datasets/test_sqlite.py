"""SQLite databases: the largest table, and no code of a stranger."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.webapp.datasets.conftest import refusal

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS text FROM n"


@pytest.fixture
def database(tmp_path: Path) -> Callable[..., bytes]:
    """A database that was made by these statements, as bytes."""

    def make(*statements: str, fill: int = 0) -> bytes:
        path = tmp_path / "made.db"
        path.unlink(missing_ok=True)
        with sqlite3.connect(path) as connection:
            for statement in statements:
                connection.execute(statement)
            rows = [(f"a sentence {n}", ("yes", "no")[n % 2]) for n in range(fill)]
            if fill:
                connection.executemany("INSERT INTO reviews (text, label) VALUES (?, ?)", rows)
        connection.close()
        return path.read_bytes()

    return make


REVIEWS = "CREATE TABLE reviews (text TEXT, label TEXT)"
LINES = "".join(f"a sentence {n},{('yes', 'no')[n % 2]}\n" for n in range(300))


def test_a_table_gives_the_rows_of_the_same_csv(database: Any, convert: Any) -> None:
    made = convert(("a.sqlite", database(REVIEWS, fill=300)))
    assert made.content_hash == convert(("a.csv", ("text,label\n" + LINES).encode())).content_hash
    assert (made.details["files"][0]["table"], made.problems) == ("reviews", [])


def test_columns_hold_what_was_stored_in_them(database: Any, convert: Any) -> None:
    made = convert(
        (
            "a.db",
            database(
                "CREATE TABLE things (n INTEGER, x REAL, half, name TEXT, code TEXT, picture BLOB, bytes BLOB, none TEXT)",
                *(
                    f"INSERT INTO things VALUES ({n}, {n}.5, {n if n % 2 else f'{n}.25'}, 'thing {n}', '0{n % 3}',"
                    f" x'{PIXEL.hex()}', x'0001', NULL)"
                    for n in range(30)
                ),
            ),
        )
    )
    assert {column["name"]: column["kind"] for column in made.columns} == {
        "n": "integer",
        "x": "float",
        "half": "float",
        "name": "text",
        "code": "label",
        "picture": "image",
    }
    assert {each["code"] for each in made.problems} == {"column_left_out", "empty_column"}


def test_the_largest_table_is_read_and_the_others_are_named(database: Any, convert: Any) -> None:
    small = ["CREATE TABLE users (name TEXT)", "INSERT INTO users VALUES ('ada')", "CREATE TABLE empty (x)"]
    made = convert(("a.db", database(*small, REVIEWS, fill=30)))
    (problem,) = made.problems
    assert (problem["code"], "“users”" in problem["message"], "empty" in problem["message"]) == (
        "other_tables",
        True,
        False,
    )


def test_names_that_look_like_code_are_only_names(database: Any, convert: Any) -> None:
    table = 'CREATE TABLE "x"";DROP TABLE y;--" ("a""b" TEXT, "select" TEXT)'
    rows = [f"INSERT INTO \"x\"\";DROP TABLE y;--\" VALUES ('one {n}', 'two')" for n in range(30)]
    made = convert(("a.db", database(table, *rows)))
    assert [column["name"] for column in made.columns] == ['a"b', "select"]


def test_no_code_of_the_database_runs(database: Any, convert: Any) -> None:
    data = database(
        "CREATE TABLE reviews (text TEXT, label TEXT, long TEXT AS (text || text) VIRTUAL)",
        f"CREATE VIEW endless AS {ENDLESS}",
        "CREATE TRIGGER t AFTER INSERT ON reviews BEGIN SELECT 1; END",
        "CREATE VIRTUAL TABLE words USING fts5(text)",
        fill=30,
    )
    made = convert(("a.db", data))
    assert [column["name"] for column in made.columns] == ["text", "label"]
    assert made.problems[0]["code"] == "column_left_out"
    assert "computed" in made.problems[0]["message"]


def test_a_view_in_the_place_of_a_table_is_not_run(database: Any, convert: Any) -> None:
    """The schema is text in the file: a stranger can call a view a table."""
    data = database(f"CREATE VIEW endless AS {ENDLESS}")
    problem = refusal(convert, ("a.db", data))
    assert (problem.code, "views" in problem.message) == ("no_rows", True)
    lying = data.replace(b"viewendless", b"tablendless")
    assert lying != data
    assert refusal(convert, ("a.db", lying)).code in {"damaged", "no_rows"}


def test_reading_that_takes_too_long_is_ended(
    database: Any, convert: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.datasets.formats.sqlite.MOST_STEPS", 3000)
    monkeypatch.setattr("webapp.datasets.formats.sqlite.STEPS", 1000)
    assert refusal(convert, ("a.db", database(REVIEWS, fill=3000))).code == "too_heavy"


def test_the_file_stays_as_it_is(database: Any, convert: Any, tmp_path: Path) -> None:
    data = database("PRAGMA journal_mode = WAL", REVIEWS, fill=30)
    convert(("a.db", data))
    (given,) = tmp_path.glob("*/in/*")
    assert given.read_bytes() == data


def test_databases_that_cannot_be_used_get_their_sentence(database: Any, convert: Any) -> None:
    good = database(REVIEWS, fill=3000)
    bad = {
        "damaged": [good[:5000], good[:100] + bytes(4000) + good[4100:], good[:8192] + b"\xff" * 4096 + good[12288:]],
        "no_rows": [database(REVIEWS), database("CREATE TABLE t (x)", "DROP TABLE t")],
        "no_columns": [database("CREATE TABLE t (x BLOB)", *["INSERT INTO t VALUES (x'00')"] * 5)],
        "huge_value": [database("CREATE TABLE t (x TEXT)", "INSERT INTO t VALUES (hex(zeroblob(40000000)))")],
        "too_many_columns": [database(f"CREATE TABLE t ({', '.join(f'c{n}' for n in range(1500))})", "INSERT INTO t (c0) VALUES (1)")],
    }  # fmt: skip
    for code, files in bad.items():
        for number, data in enumerate(files):
            problem = refusal(convert, ("a.db", data))
            assert (problem.code, problem.file, bool(problem.hint)) == (code, "a.db", True), (number, problem)
