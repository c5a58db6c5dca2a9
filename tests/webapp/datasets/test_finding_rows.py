"""`findings.rows_of` gives all rows of a finding, so that leaving them out makes the finding go away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from webapp.datasets import findings
from webapp.datasets.columns import Column

Found = Callable[..., list[tuple[str, int]]]
TEXT = Column("text", "text", 0)
LABEL = Column("label", "label", 0, names=["bad", "good"])
FILLING = [(f"nothing to say about number {n} of these", n % 2) for n in range(4)]


@pytest.fixture
def rows_of(tmp_path: Path) -> Found:
    """(split, row) that are selected for a finding among rows of text and class."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def select(
        code: str,
        train: list[tuple[str | None, int]],
        test: list[tuple[str | None, int]] = FILLING[:0],
        **where: Any,
    ) -> list[tuple[str, int]]:
        files = {}
        for split, rows in (("train", train), ("validation", []), ("test", test)):
            files[split] = tmp_path / f"{split}.parquet"
            table = {
                "text": pa.array([text for text, _ in rows], pa.string()),
                "label": pa.array([label for _, label in rows], pa.int64()),
            }
            pq.write_table(pa.table(table), files[split])
        roles = {"text": "text", "label": "label"}
        with findings.opened(files, [TEXT, LABEL], roles, tmp_path) as opened:
            found = opened.ask(findings.rows_of(opened, code, **where))
        return sorted((each[0], each[1]) for each in found)

    return select


def test_of_repeated_rows_all_but_the_first_are_selected(rows_of: Found) -> None:
    train = [("Great", 1), *FILLING, ("Great", 1), ("great!", 1), ("Great", 1)]
    assert rows_of("duplicates", train) == [("train", 6), ("train", 8)]
    assert rows_of("near_duplicates", train) == [("train", 7)]


def test_rows_that_repeat_one_of_another_split_are_no_repeats(rows_of: Found) -> None:
    assert rows_of("duplicates", [("Great", 1)], [("Great", 1)]) == []


def test_of_leakage_the_rows_to_train_on_are_selected(rows_of: Found) -> None:
    train = [("Great", 1), *FILLING, ("Great", 1), ("good", 1)]
    test = [("Great", 1), ("Good.", 1)]
    assert rows_of("leakage", train, test, split="test") == [("train", 1), ("train", 6)]
    assert rows_of("near_leakage", train, test, split="test") == [("train", 7)]
    assert rows_of("leakage", train, test, split="validation") == []


def test_of_conflicting_labels_every_row_is_selected(rows_of: Found) -> None:
    train = [("Great", 1), *FILLING, ("Great", 0), ("Great", 1)]
    assert rows_of("conflicting_labels", train, [("Great", 0)]) == [
        ("test", 1),
        ("train", 1),
        ("train", 6),
        ("train", 7),
    ]


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("", True),
        ("x", True),
        (" \t\n", True),
        (" " * 500 + "x", True),
        ("日", True),
        ("ok", False),
        (" no ", False),
    ],
)
def test_texts_of_at_most_a_character_are_selected(rows_of: Found, text: str, short: bool) -> None:
    assert rows_of("short_texts", [*FILLING, (text, 1)], column="text") == ([("train", 5)] if short else [])


def test_rows_without_a_value_are_selected(rows_of: Found) -> None:
    assert rows_of("missing_values", [(None, 1), *FILLING, (None, 0)], column="text") == [
        ("train", 1),
        ("train", 6),
    ]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("personal_email", "write to jane.doe@example.org"),
        ("personal_telephone", "call +49 30 1234 5678"),
        ("personal_card", "paid with 4111 1111 1111 1111, or 4111-1111-1111-1112"),
    ],
)
def test_rows_with_personal_data_are_selected(rows_of: Found, code: str, text: str) -> None:
    assert rows_of(code, [*FILLING, (text, 1), ("4111 1111 1111 1112", 1)], column="text") == [("train", 5)]


def test_a_finding_that_is_not_about_single_rows_has_none(rows_of: Found) -> None:
    with pytest.raises(KeyError):
        rows_of("unbalanced", FILLING)


def test_card_numbers_are_told_in_sql_as_in_python(rows_of: Found) -> None:
    """Luhn's sum over numbers of every length and last digit."""
    from webapp.datasets.findings.personal import is_card

    numbers = [
        f"{4012888 * 10**9 + n * 7_654_321:016d}"[:length] + str(n % 10)
        for n in range(300)
        for length in (12, 13, 15, 18)
    ]
    expected = [("train", n) for n, number in enumerate(numbers, start=1) if is_card(number)]
    assert 50 < len(expected) < len(numbers) / 2
    assert rows_of("personal_card", [(number, 1) for number in numbers], column="text") == expected
