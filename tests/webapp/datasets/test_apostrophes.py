"""Texts that a spreadsheet would run get an apostrophe in a CSV, and lose it again where it is ours."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.test import Client

from tests.webapp.datasets.conftest import Inspected
from tests.webapp.datasets.test_browse import stored
from tests.webapp.datasets.test_downloads import got, unpacked
from webapp.accounts.models import User

FORMULAS = ["=1+1", "+49 30", "-1 and more", "@SUM(A1)", "\t=1", "'=1", "''-2", "'quoted'", "it's", "plain"]


def texts(convert: Any, column: str = "text") -> set[str]:
    tables = [pq.read_table(path, columns=[column]) for path in convert.output.glob("*.parquet")]
    return {value for table in tables for value in table.column(0).to_pylist()}


def lines(values: list[str], *, header: str = "text") -> bytes:
    target = io.StringIO(newline="")
    csv.writer(target).writerows([[header, "n"], *([value, n] for n, value in enumerate(values))])
    return target.getvalue().encode()


def told(found: Any) -> dict[str, int]:
    return {each["column"]: each["count"] for each in found.problems if each["code"] == "apostrophes"}


def test_what_is_exported_comes_back_as_it_was(client: Client, user: User, inspected: Inspected) -> None:
    client.force_login(user)
    rows = [
        {"=name()": f"{FORMULAS[n % 10]} {n}", "n": -n, "kind": ("-", "+", "'-")[n % 3]} for n in range(90)
    ]
    dataset = inspected(("f.jsonl", "\n".join(map(json.dumps, rows)).encode()))
    again = inspected(*unpacked(got(client, dataset, "csv")).items())
    assert dataset.version is not None and again.version is not None, again.problems
    for split in dataset.version.splits:
        assert stored(again, split) == stored(dataset, split)
    assert [column["name"] for column in again.version.columns] == ["=name()", "n", "kind"]
    assert again.version.columns[2]["names"] == ["'-", "+", "-"]
    assert again.version.content_hash == dataset.version.content_hash


def test_an_apostrophe_that_is_ours_is_taken_off_and_told(convert: Any) -> None:
    found = convert(("a.csv", lines([f"'=A{n}" for n in range(20)] + [f"'t is {n}" for n in range(20)])))
    assert {"=A3", "'t is 3"} <= texts(convert) and told(found) == {"text": 20}


@pytest.mark.parametrize("bare", ["=A1", "-1 degrees", "+1", "@home", "\tindented"])
def test_a_column_with_a_bare_one_is_somebody_elses(bare: str, convert: Any) -> None:
    values = [f"'-{n}- he said" for n in range(40)]
    found = convert(("a.csv", lines([*values, bare])))
    assert set(values) <= texts(convert) and told(found) == {}


def test_a_bare_one_far_below_counts_as_well(convert: Any) -> None:
    """More rows than a batch has."""
    values = [f"'-{n}" for n in range(120_000)]
    assert told(convert(("a.csv", lines(values)))) == {"text": 120_000}
    found = convert(("a.csv", lines([*values, "=1"])))
    assert told(found) == {} and "'-7" in texts(convert)


def test_names_of_columns_keep_theirs_where_one_is_bare(convert: Any) -> None:
    def names(header: bytes) -> list[str]:
        rows = header + b"\n" + b"".join(b"row %d,%d\n" % (n, n) for n in range(30))
        return [column["name"] for column in convert(("a.csv", rows), has_header=True).columns]

    assert names(b"'=a,b") == ["=a", "b"]
    assert names(b"'=a,=b") == ["'=a", "=b"]


def test_other_files_keep_their_apostrophes(convert: Any) -> None:
    rows = [json.dumps({"text": f"'=A{n}"}) for n in range(30)]
    convert(("a.jsonl", "\n".join(rows).encode()))
    assert "'=A3" in texts(convert)
