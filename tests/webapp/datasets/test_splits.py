"""Splits that a person asks for: shares, groups, times, folds, a column; seeded, and the same again."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from tests.webapp.datasets.conftest import Inspected
from tests.webapp.datasets.test_changes import changed, refused, rows_of, table
from webapp.datasets.changing import request_change, run_change
from webapp.datasets.edits import Wrong
from webapp.datasets.models import Change, Dataset, DatasetVersion
from webapp.datasets.presentation import split_story
from webapp.datasets.splits import SPLITS
from webapp.datasets.versions import make_current

pytestmark = pytest.mark.django_db(transaction=True)
ROWS = 300


@pytest.fixture
def visits(inspected: Inspected) -> Dataset:
    """Notes of 40 patients over 100 days, one of four of them ill."""
    chance = random.Random(3)
    rows = [
        (
            f"note {n} about a visit at the practice",
            "ill" if n % 4 == 0 else "well",
            f"patient-{chance.randrange(40)}",
            f"2026-{1 + n % 100 // 28:02d}-{1 + n % 28:02d}",
            ("north", "south", "")[n % 3],
            n,
        )
        for n in range(ROWS)
    ]
    return inspected(("visits.csv", table(rows, "text", "label", "patient", "day", "place", "number")))


def values(version: DatasetVersion, column: str) -> dict[str, list[Any]]:
    return {split: [row[column] for row in rows] for split, rows in rows_of(version).items()}


def everything(version: DatasetVersion) -> list[int]:
    return sorted(number for numbers in values(version, "number").values() for number in numbers)


def test_shares_are_exact_and_classes_keep_their_proportions(visits: Dataset) -> None:
    version = changed(visits, op="split", how="stratified", column="label", validation=0.2, test=0.3, seed=1)
    assert version.splits == {"train": 150, "validation": 60, "test": 90}
    assert everything(version) == list(range(ROWS))
    for labels in values(version, "label").values():
        assert abs(Counter(labels)["ill"] - len(labels) / 4) < 1
    assert split_story(version).startswith(
        "20% to validate and 30% to test, drawn in the same proportions of “label”"
    )
    make_current(visits, version.parent)
    other = changed(visits, op="split", how="stratified", column="label", validation=0.2, test=0.3, seed=2)
    assert values(other, "number")["test"] != values(version, "number")["test"]
    make_current(visits, version.parent)
    again = changed(visits, op="split", how="stratified", column="label", validation=0.2, test=0.3, seed=1)
    assert again == version


def test_no_group_is_in_two_splits(visits: Dataset) -> None:
    version = changed(visits, op="split", how="group", column="patient", validation=0.2, test=0.2)
    patients = {split: set(found) for split, found in values(version, "patient").items()}
    for one in SPLITS:
        for other in SPLITS:
            assert one == other or not patients[one] & patients[other]
    assert everything(version) == list(range(ROWS))
    for split in ("validation", "test"):
        assert abs(version.splits[split] / ROWS - 0.2) < 0.05
    assert {each["code"] for each in version.problems} >= set()


def test_the_newest_test_and_no_time_is_in_two_splits(visits: Dataset) -> None:
    version = changed(visits, op="split", how="time", column="day", validation=0.2, test=0.1)
    days = values(version, "day")
    assert max(days["train"]) < min(days["validation"]) <= max(days["validation"]) < min(days["test"])
    assert abs(version.splits["test"] / ROWS - 0.1) < 0.03
    assert abs(version.splits["validation"] / ROWS - 0.2) < 0.03


def test_numbers_are_times_too_and_rows_without_one_train(inspected: Inspected) -> None:
    rows = [(f"event {n} of the log", "ab"[n % 2], "" if n < 10 else 1000 - n) for n in range(100)]
    version = changed(
        inspected(("log.csv", table(rows, "text", "label", "at"))), op="split", how="time", column="at"
    )
    at = values(version, "at")
    assert at["train"].count(None) == 10 and None not in at["validation"] + at["test"]
    assert max(found for found in at["train"] if found) < min(at["validation"])
    assert max(at["validation"]) < min(at["test"])


def test_what_is_no_time_is_told_with_its_row(visits: Dataset) -> None:
    assert refused(visits, op="split", how="time", column="text") == "not_a_time"
    change = Change.objects.latest("pk")
    assert "note" in change.problems[0]["message"] and change.problems[0]["row"]


def test_every_row_tests_once_over_all_folds(visits: Dataset) -> None:
    first = visits.version
    assert first is not None
    request_change(first, {"op": "split", "how": "kfold", "column": "label", "folds": 4, "every": True}, None)
    while (change := Change.objects.filter(status="waiting").first()) is not None:
        run_change(change.pk, "test")
    versions = list(visits.versions.exclude(pk=first.pk).order_by("number"))
    assert len(versions) == 4 and all(version.parent == first for version in versions)
    tested = [values(version, "number")["test"] for version in versions]
    assert sorted(number for numbers in tested for number in numbers) == list(range(ROWS))
    for place, version in enumerate(versions):
        assert version.splits["test"] == 75
        assert sorted(values(version, "number")["validation"]) == sorted(tested[(place + 1) % 4])
        assert abs(Counter(values(version, "label")["test"])["ill"] - 75 / 4) <= 1
        assert version.change["says"].startswith(f"Fold {place + 1} of 4 tests")


def test_a_column_tells_the_split(visits: Dataset) -> None:
    asked = {"": "train", "north": "validation", "south": "test"}
    version = changed(visits, op="split", how="column", column="place", values=asked)
    places = values(version, "place")
    assert set(places["validation"]) == {"north"} and set(places["test"]) == {"south"}
    assert split_story(version) == "As the values of “place” say."
    assert (
        refused(visits, op="split", how="column", column="place", values={"north": "train"}) == "unsaid_value"
    )
    everything_trains = dict.fromkeys(asked, "train")
    assert (
        refused(visits, op="split", how="column", column="place", values=everything_trains) == "empty_split"
    )


def test_too_few_groups_or_times_are_refused(inspected: Inspected) -> None:
    rows = [(f"a text with number {n}", "ab"[n % 2], "xy"[n % 2], 2000 + n % 2) for n in range(60)]
    dataset = inspected(("few.csv", table(rows, "text", "label", "who", "year")))
    assert refused(dataset, op="split", how="group", column="who") == "too_few_groups"
    assert refused(dataset, op="split", how="time", column="year") == "too_few_times"


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"how": "magic"}, "how"),
        ({"how": ["group"]}, "how"),
        ({"how": "group"}, "column"),
        ({"how": "group", "column": "nothing"}, "column"),
        ({"how": "time", "column": "label"}, "column"),
        ({"how": "stratified", "test": 0.95}, "test"),
        ({"how": "stratified", "test": 0.5, "validation": 0.5}, "test"),
        ({"how": "stratified", "test": "0.5"}, "test"),
        ({"how": "stratified", "test": float("nan")}, "test"),
        ({"how": "kfold", "folds": 2}, "folds"),
        ({"how": "kfold", "folds": 5, "fold": 6}, "fold"),
        ({"how": "column", "column": "place"}, "values"),
        ({"how": "column", "column": "place", "values": {"north": "else"}}, "values"),
    ],
)
def test_what_cannot_be_split_so_is_refused_at_once(visits: Dataset, asked: Any, field: str) -> None:
    assert visits.version is not None
    with pytest.raises(Wrong) as caught:
        request_change(visits.version, {"op": "split", **asked}, None)
    assert field in caught.value.fields
