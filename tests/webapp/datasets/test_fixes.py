"""Every finding with an obvious answer has a button; pressed, the finding is gone."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from tests.webapp.datasets.conftest import Inspected
from tests.webapp.datasets.test_changes import changed, rows_of
from webapp.datasets.fixes import Fix, fixes_of
from webapp.datasets.models import Dataset, DatasetVersion

pytestmark = pytest.mark.django_db(transaction=True)
Row = tuple[str, str]


def a_csv(rows: list[Row]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerows([("text", "label"), *rows])
    return out.getvalue().encode()


def plain(count: int, first: int = 0) -> list[Row]:
    """Rows that nothing is wrong with: texts of their own, two classes alike often."""
    words = ["amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "heath", "islet", "jetty"]
    return [
        (" ".join(words[int(digit)] + digit for digit in f"{n * 7919:08d}"), "ab"[n % 2])
        for n in range(first, first + count)
    ]


def pressed(dataset: Dataset, code: str, label: str = "") -> DatasetVersion:
    """The version that the button of a finding makes; the finding is gone in it."""
    dataset.refresh_from_db()
    found = [each for each in dataset.findings if each["code"] == code]
    assert found, dataset.findings
    assert dataset.version is not None
    fixes: list[Fix] = fixes_of(found[0], dataset.version)
    fix = next(fix for fix in fixes if fix.label == (label or fixes[0].label))
    version = changed(dataset, **fix.change)
    left = [each for each in version.problems if each["code"] == code and each["split"] == found[0]["split"]]
    assert not left, left
    return version


def three(train: list[Row], validation: list[Row], test: list[Row]) -> tuple[Any, ...]:
    return (
        ("train.csv", a_csv(train)),
        ("validation.csv", a_csv(validation)),
        ("test.csv", a_csv(test)),
    )


def test_leakage_goes_from_the_rows_to_train_on(inspected: Inspected) -> None:
    train, held = plain(100), plain(20, 1000)
    dataset = inspected(*three(train + held[:5], held, plain(20, 2000)))
    version = pressed(dataset, "leakage")
    assert version.splits == {"train": 100, "validation": 20, "test": 20}
    assert "5 rows" in version.change["says"]


def test_near_leakage_goes(inspected: Inspected) -> None:
    held = plain(20, 1000)
    near = [(text.upper() + "!", label) for text, label in held[:4]]
    version = pressed(inspected(*three(plain(100) + near, held, plain(20, 2000))), "near_leakage")
    assert version.splits["train"] == 100


def test_of_rows_that_repeat_one_stays(inspected: Inspected) -> None:
    train = plain(100)
    dataset = inspected(*three(train + train[:7] + train[:3], plain(20, 1000), plain(20, 2000)))
    version = pressed(dataset, "duplicates")
    rows = [(row["text"], row["label"]) for row in rows_of(version)["train"]]
    assert rows == train


def test_of_rows_that_nearly_repeat_one_stays(inspected: Inspected) -> None:
    train = plain(100)
    near = [(text.title() + " .", label) for text, label in train[:6]]
    version = pressed(inspected(*three(train + near, plain(20, 1000), plain(20, 2000))), "near_duplicates")
    assert [row["text"] for row in rows_of(version)["train"]] == [text for text, _ in train]


def test_texts_with_two_labels_go(inspected: Inspected) -> None:
    train = plain(100)
    both = [(text, "b" if label == "a" else "a") for text, label in train[:3]]
    version = pressed(inspected(*three(train + both, plain(20, 1000), plain(20, 2000))), "conflicting_labels")
    assert [row["text"] for row in rows_of(version)["train"]] == [text for text, _ in train[3:]]


def test_blank_texts_go(inspected: Inspected) -> None:
    train = [*plain(100), ("x", "a"), ("?", "b")]
    version = pressed(inspected(*three(train, plain(20, 1000), plain(20, 2000))), "short_texts")
    assert version.splits["train"] == 100


def test_rows_without_a_value_go(inspected: Inspected) -> None:
    train = [*plain(100), ("a text without a label", "")]
    version = pressed(inspected(*three(train, plain(20, 1000), plain(20, 2000))), "missing_values")
    assert version.splits["train"] == 100


def test_personal_data_is_masked_or_its_rows_go(inspected: Inspected) -> None:
    train = [*plain(100), ("write to ada.lovelace@example.org today", "a")]
    files = three(train, plain(20, 1000), plain(20, 2000))
    version = pressed(inspected(*files), "personal_email")
    assert rows_of(version)["train"][-1]["text"] == "write to a•••@••• today"
    assert pressed(inspected(*files), "personal_email", "Drop these rows").splits["train"] == 100


def test_a_class_that_outnumbers_the_others_is_capped(inspected: Inspected) -> None:
    train = [(text, "a" if n % 40 else "b") for n, (text, _) in enumerate(plain(400))]
    dataset = inspected(*three(train, plain(20, 1000), plain(20, 2000)))
    assert dataset.version is not None
    (found,) = [each for each in dataset.findings if each["code"] == "unbalanced"]
    (fix,) = fixes_of(found, dataset.version)
    assert fix.change == {"op": "cap_class", "column": "label", "most": 20}
    version = changed(dataset, **fix.change)
    labels = [row["label"] for row in rows_of(version)["train"]]
    assert (labels.count("a"), labels.count("b")) == (20, 10)


def test_rare_classes_are_joined_or_go(inspected: Inspected) -> None:
    train = [*plain(100), *((f"{name} of a kind here", name) for name in ("rare", "odd", "lone"))]
    files = three(train, plain(20, 1000), plain(20, 2000))
    version = pressed(inspected(*files), "rare_classes")
    assert [row["label"] for row in rows_of(version)["train"]][-3:] == ["other"] * 3
    assert pressed(inspected(*files), "rare_classes", "Drop their rows").splits["train"] == 100


def test_what_a_person_has_to_decide_has_no_button(inspected: Inspected) -> None:
    dataset = inspected(("animals.csv", a_csv([(f"text {n}", "only") for n in range(40)])))
    assert dataset.version is not None
    for problem in dataset.findings:
        if problem["code"] == "one_label":
            assert fixes_of(problem, dataset.version) == []
            return
    raise AssertionError(dataset.findings)
