"""JSON as one document: lists, lists in objects, and what is wrong with some of them."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tests.webapp.datasets.conftest import refusal
from webapp.datasets.formats.common import Source
from webapp.datasets.formats.json_document import entries
from webapp.datasets.formats.text import Plain

ROWS = [
    {
        "text": f'Größe {n}: "ja",\n\\ {{[',
        "label": ("yes", "no")[n % 2],
        "n": n,
        "x": -n / 8,
        "tags": ["a", {"b": n}],
    }
    for n in range(300)
]
LINES = "\n".join(json.dumps(row) for row in ROWS).encode()


@pytest.mark.parametrize(
    "document",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=4, ensure_ascii=False),
        "\ufeff" + json.dumps(ROWS, indent="\t", ensure_ascii=False),
        json.dumps({"data": ROWS}),
        json.dumps({"version": "1.1", "count": 300, "info": {"by": ["us"]}, "tags": [1, 2], "rows": ROWS, "end": None}, indent=1),
        json.dumps({"data": ROWS}).replace("}, {", "},\r\n\r\n  {"),
    ],
    ids=["list", "indented", "marked", "in an object", "among other things", "odd blanks"],
)  # fmt: skip
def test_every_way_of_writing_a_list_gives_the_rows_of_the_same_lines(document: str, convert: Any) -> None:
    made = convert(("a.json", document.encode()))
    assert made.content_hash == convert(("a.jsonl", LINES)).content_hash
    assert made.problems == []


def test_a_list_in_utf16_is_read_too(convert: Any) -> None:
    assert convert(("a.json", json.dumps(ROWS, indent=1).encode("utf-16"))).rows == 300


def test_of_two_lists_the_first_is_read_and_the_other_named(convert: Any) -> None:
    made = convert(("a.json", json.dumps({"train": ROWS, "test": ROWS[:9]}).encode()))
    assert made.rows == 300
    (problem,) = made.problems
    assert (problem["code"], "“test”" in problem["message"]) == ("other_lists", True)


def test_one_line_of_json_lines_that_holds_a_list_of_its_own_is_no_document(convert: Any) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"Hi {n}"}, {"role": "assistant", "content": "Ho"}]}
        for n in range(9)
    ]
    made = convert(("a.json", "\n".join(json.dumps(row) for row in rows).encode()))
    assert (made.rows, made.columns[0]["kind"]) == (9, "messages")


def test_memory_does_not_grow_with_a_document(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    row = json.dumps({"text": "word " * 250})
    path.write_text("[" + ",\n".join([row] * 40_000) + "]")
    plain = Plain(path, 40_000, path.stat().st_size, "utf-8")
    assert plain.size > 40 << 20
    tracemalloc.start()
    try:
        assert sum(1 for _ in entries(Source(path, "a.json"), plain)) == 40_000
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
    finally:
        tracemalloc.stop()


GOOD = json.dumps(ROWS[:9], indent=1)


@pytest.mark.parametrize(
    ("document", "code", "says", "row"),
    [
        (GOOD[:-40], "bad_json", "cut off", None),
        (GOOD[: len(GOOD) // 2 - 2], "bad_json", "not JSON", None),
        (GOOD[:-2], "bad_json", "cut off", None),
        (GOOD + "]", "bad_json", "something stands behind its end", None),
        (GOOD.replace('"n": 3,', '"n": 3'), "bad_json", "in entry 4 of the list", None),
        (GOOD.replace('"n": 3', "'n': 3"), "bad_json", "in entry 4 of the list", None),
        (json.dumps([*ROWS[:4], "five"]), "not_an_object", "Entry 5", 5),
        (json.dumps([[1, 2], [3, 4]]), "not_an_object", "Entry 1", 1),
        (json.dumps({"text": {"0": "a", "1": "b"}, "label": {"0": 1, "1": 2}}, indent=1), "no_list", "no list of objects", None),
        ('{\n "data": [\n]}', "no_list", "no list of objects", None),
        ("[\n]", "no_rows", "no rows", None),
        ("[{}, {}, {}, {}]", "no_columns", "no row has a key", 1),
        ('[{"a": ' + "[" * 200_000, "bad_json", "nested too deeply", 1),
        ("[" * 200_000, "bad_json", "nested too deeply", 1),
        ('{"a":' * 10_000 + "1" + "}" * 10_000, "bad_json", "nested too deeply", 1),
        ('[{"a": ' + "9" * 10_000 + "}]", "bad_json", "number is too long", 1),
        ('[{"a": "' + "x" * (17 << 20) + '"}]', "huge_value", "Entry 1", 1),
        ('[{"a": "never closed' + "x" * (40 << 20), "huge_value", "Entry 1", 1),
        ("[" + ",".join(json.dumps({f"k{n}": n}) for n in range(1500)) + "]", "too_many_columns", "at most 1,000", None),
    ],
)  # fmt: skip
def test_a_document_that_cannot_be_used_gets_its_sentence(
    document: str, code: str, says: str, row: int | None, convert: Any
) -> None:
    problem = refusal(convert, ("a.json", document.encode()))
    assert (problem.code, problem.file, bool(problem.hint)) == (code, "a.json", True), problem
    assert says in problem.message
    assert row is None or problem.row == row
