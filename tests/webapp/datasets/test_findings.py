"""What spoils training is found in the rows, told with its number and a row to open, and refuses nothing."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from tests.webapp.datasets.conftest import Inspected
from tests.webapp.datasets.test_api import headers_of
from webapp.accounts.models import User, Workspace
from webapp.datasets.findings import personal
from webapp.datasets.models import Dataset

Row = tuple[str, str]


def csv(rows: list[Row]) -> bytes:
    def cell(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    return "\n".join(["text,label", *(f"{cell(text)},{cell(label)}" for text, label in rows)]).encode()


def unique(count: int, start: int = 0) -> list[Row]:
    """Rows of which nothing is worth telling."""
    words = ("apple", "river", "stone", "cloud", "paper", "train", "music", "glass", "house", "light")
    return [
        (
            f"the {words[n % 10]} and the {words[n // 10 % 10]} of the {words[n // 100 % 10]}",
            "even" if n % 2 else "odd",
        )
        for n in range(start, start + count)
    ]


def finding(dataset: Dataset, code: str) -> dict[str, Any]:
    found = [problem for problem in dataset.findings if problem["code"] == code]
    assert len(found) == 1, dataset.findings
    return found[0]


def test_rows_that_are_all_different_are_no_finding(inspected: Inspected) -> None:
    assert inspected(("clean.csv", csv(unique(100)))).findings == []


def test_rows_of_the_test_that_are_trained_on_are_leakage(inspected: Inspected) -> None:
    train, test = unique(60), unique(20, start=200)
    dataset = inspected(
        ("train.csv", csv(train)),
        ("validation.csv", csv(unique(20, start=100))),
        ("test.csv", csv([*test, train[7], train[9], train[3]])),
    )
    assert dataset.status == "ready"
    leak = finding(dataset, "leakage")
    assert (leak["severity"], leak["count"], leak["split"], leak["row"]) == ("serious", 3, "test", 21)
    assert leak["message"] == "3 rows of test (13.0 %) are word for word also in the rows to train on."
    assert dataset.findings[0] == leak  # before what is less serious


def test_leakage_is_told_for_each_split_that_has_it(inspected: Inspected) -> None:
    train = unique(60)
    dataset = inspected(
        ("train.csv", csv(train)),
        ("validation.csv", csv([*unique(20, start=100), train[0]])),
        ("test.csv", csv([*unique(20, start=200), train[1]])),
    )
    leaks = [problem for problem in dataset.findings if problem["code"] == "leakage"]
    assert {(leak["split"], leak["count"]) for leak in leaks} == {("validation", 1), ("test", 1)}


def test_texts_that_differ_in_case_and_punctuation_alone_are_nearly_the_same(inspected: Inspected) -> None:
    train = unique(60)
    shouted = (train[5][0].upper().replace(" ", "  ") + "!!", train[5][1])
    dataset = inspected(
        ("train.csv", csv(train)),
        ("validation.csv", csv(unique(20, start=100))),
        ("test.csv", csv([*unique(20, start=200), shouted])),
    )
    assert finding(dataset, "near_leakage")["count"] == 1
    assert "leakage" not in {problem["code"] for problem in dataset.findings}


def test_repeated_rows_of_a_split_are_counted_without_their_first(inspected: Inspected) -> None:
    train = unique(60)
    dataset = inspected(
        ("train.csv", csv([*train, train[4], train[4], train[8]])),
        ("validation.csv", csv(unique(20, start=100))),
        ("test.csv", csv(unique(20, start=200))),
    )
    repeats = finding(dataset, "duplicates")
    assert (repeats["count"], repeats["split"], repeats["row"], repeats["other_row"]) == (3, "train", 61, 5)
    assert "near_duplicates" not in {problem["code"] for problem in dataset.findings}


def test_one_input_with_two_labels_is_a_conflict(inspected: Inspected) -> None:
    dataset = inspected(("conflict.csv", csv([*unique(100), (unique(1)[0][0], "even")])))
    conflict = finding(dataset, "conflicting_labels")
    assert (conflict["count"], conflict["severity"], conflict["column"]) == (2, "serious", "label")
    assert "such as “even” and “odd”" in conflict["message"]


def test_texts_of_a_single_character_are_told(inspected: Inspected) -> None:
    dataset = inspected(("short.csv", csv([*unique(100), ("x", "even"), (" ! ", "odd")])))
    assert finding(dataset, "short_texts")["count"] == 2


def test_a_class_that_is_rare_is_told_with_the_measure_that_minds_it(inspected: Inspected) -> None:
    rows = [(text, "common") for text, _ in unique(200)] + [
        (text, "rare") for text, _ in unique(5, start=300)
    ]
    unbalanced = finding(inspected(("balance.csv", csv(rows))), "unbalanced")
    assert unbalanced["message"] == "97.6 % of the rows are “common” in “label”; “rare” has 5."
    assert "F1" in unbalanced["hint"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("write to jane.doe@example.org please", "personal_email"),
        ("call +49 (0)30 1234 5678 at noon", "personal_telephone"),
        ("paid with 4111 1111 1111 1111 today", "personal_card"),
    ],
)
def test_personal_data_is_counted_and_masked_on_the_page(
    inspected: Inspected, client: Client, user: User, text: str, code: str
) -> None:
    dataset = inspected(("people.csv", csv([(text, "odd"), *unique(100)])))
    assert finding(dataset, code)["count"] == 1
    client.force_login(user)
    page = client.get(f"/datasets/{dataset.pk}/").content.decode()
    secret = next(word for word in ("jane.doe@example.org", "1234 5678", "4111 1111") if word in text)
    assert secret not in page
    assert "•••" in page


@pytest.mark.parametrize(
    "text",
    [
        "the code 4111 1111 1111 1112 has a wrong last digit",
        "ISBN 978-3-16-148410-0 is a book",
        "on 2024-01-31 at 12:30 there were 1,234,567 of them",
        "@home and user@ are no addresses",
        "0000 0000 0000 0000",
    ],
)
def test_numbers_that_are_none_of_anybody_are_left_alone(text: str, inspected: Inspected) -> None:
    dataset = inspected(("numbers.csv", csv([(text, "odd"), *unique(100)])))
    assert dataset.findings == []
    assert personal.masked(text) == text


def test_the_page_leads_from_a_finding_to_its_row(inspected: Inspected, client: Client, user: User) -> None:
    train = unique(60)
    dataset = inspected(
        ("train.csv", csv(train)),
        ("validation.csv", csv(unique(20, start=100))),
        ("test.csv", csv([*unique(20, start=200), train[7]])),
    )
    client.force_login(user)
    page = client.get(f"/datasets/{dataset.pk}/").content.decode()
    assert '<a href="?split=test&amp;row=21#row">Open row 21 of test</a>' in page
    assert '<a href="?split=train&amp;row=8#row">Row 8 of train</a>' in page  # the one it is like
    row = client.get(f"/datasets/{dataset.pk}/", {"split": "test", "row": 21}).content.decode()
    assert train[7][0] in row.partition("First rows")[0]


def test_the_api_tells_findings(
    inspected: Inspected, client: Client, user: User, workspace: Workspace
) -> None:
    dataset = inspected(("conflict.csv", csv([*unique(100), (unique(1)[0][0], "even")])))
    said = client.get(f"/api/v1/datasets/{dataset.pk}", headers=headers_of(user, workspace)).json()
    assert {"leakage", "conflicting_labels"} & {problem["code"] for problem in said["problems"]}
    assert said["problems"] == dataset.findings
