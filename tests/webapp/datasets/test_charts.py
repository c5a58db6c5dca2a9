"""Charts of columns: every row is in exactly one bin of its split, and the numbers stand in a table as well."""

from __future__ import annotations

import html
import json
import re

import numpy as np
import pytest
from django.test import Client

from tests.webapp.datasets.conftest import Inspected
from tests.webapp.datasets.test_browse import stored
from webapp.accounts.models import User
from webapp.datasets.charting import MOST_CLASSES, chart_of
from webapp.datasets.histograms import BINS, edges

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("low", "high", "whole"),
    [(0, 1, True), (0, 93, True), (-5, 5, True), (0, 2**53, True), (1e-9, 1e-3, False), (-1.5, 1e12, False), (3, 3, False)],
)  # fmt: skip
def test_the_edges_are_few_and_hold_all_values(low: float, high: float, whole: bool) -> None:
    found = edges(low, high, whole)
    assert 2 <= len(found) <= BINS + 2 and np.all(np.diff(found) > 0)
    assert found[0] <= low and high < found[-1]
    assert not whole or all(edge == int(edge) for edge in found)


def test_lengths_and_values_are_counted_in_each_split(inspected: Inspected) -> None:
    rows = [
        {"text": "ü" * (1 + n % 97) + f" {n}" + "x" * 5000 * (n == 7), "n": n, "price": n / 7}
        for n in range(500)
    ]
    version = inspected(("t.jsonl", "\n".join(map(json.dumps, rows)).encode())).version
    assert version is not None
    for split in ("train", "validation", "test"):
        before = stored(version.dataset, split)
        for column, values in (
            ("text", [len(row["text"]) for row in before]),
            ("n", [row["n"] for row in before]),
            ("price", [row["price"] for row in before]),
        ):
            said = next(each for each in version.columns if each["name"] == column)["histogram"]
            bins = np.histogram(values, [*said["edges"], np.inf])[0]
            assert said["counts"][split] == bins.tolist(), (split, column)


def test_the_page_draws_them_and_has_their_numbers(client: Client, user: User, inspected: Inspected) -> None:
    rows = [{"text": "word " * (n % 40) + str(n), "label": ("<b>good", "bad")[n % 2]} for n in range(400)]
    dataset = inspected(("t.jsonl", "\n".join(map(json.dumps, rows)).encode()))
    client.force_login(user)
    page = client.get(f"/datasets/{dataset.pk}/").content.decode()
    for title in ("Length of text", "Rows of each class of label"):
        assert f'role="img" aria-label="{title}"' in page
    said = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", page)))
    assert (
        "Class train validation test <b>good 160 20 20 bad" in said
        or "bad 160 20 20 <b>good 160 20 20" in said
    )
    assert "<b>good" not in page


def test_many_classes_are_all_in_the_table(inspected: Inspected) -> None:
    rows = [{"text": f"some longer text {n}", "label": f"class {n % 30:02}"} for n in range(600)]
    dataset = inspected(("t.jsonl", "\n".join(map(json.dumps, rows)).encode()))
    assert dataset.version is not None
    chart = chart_of(dataset.version.columns[1], dataset.version.splits)
    assert chart is not None
    assert (len(chart.names), chart.hidden, len(chart.rows)) == (MOST_CLASSES, 10, 30)
    assert sum(sum(numbers) for _, numbers in chart.rows) == 600


def test_a_version_of_before_says_why_there_is_no_chart(
    client: Client, user: User, inspected: Inspected
) -> None:
    dataset = inspected(("t.csv", b"text\n" + b"".join(b"sentence %d\n" % n for n in range(50))))
    assert dataset.version is not None
    del dataset.version.columns[0]["histogram"]
    dataset.version.save()
    client.force_login(user)
    assert "uploaded before there were charts" in client.get(f"/datasets/{dataset.pk}/").content.decode()
