"""The page that splits a version anew: what would come of a choice is shown before it is made."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest
from django.test import Client

from tests.webapp.datasets.conftest import Inspected
from tests.webapp.datasets.test_changes import table
from webapp import storage
from webapp.accounts.models import User
from webapp.datasets.changing import run_change
from webapp.datasets.models import Change, Dataset

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def dataset(inspected: Inspected) -> Dataset:
    rows = [
        (f"note {n} about something", "ab"[n % 2], f"who-{n % 20}", 1900 + n, ("x", "<y>", "")[n % 3])
        for n in range(200)
    ]
    return inspected(("notes.csv", table(rows, "text", "label", "who", "year", "place")))


@pytest.fixture
def client(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def page(client: Client, dataset: Dataset, **query: Any) -> str:
    response = client.get(f"/datasets/{dataset.pk}/split/", query)
    assert response.status_code == 200
    return " ".join(unescape(response.content.decode()).split())


def sizes(text: str) -> list[str]:
    """The three numbers of the outcome."""
    outcome = text[text.index("What would come of it") :]
    return [part.split(">")[1].split("<")[0].strip() for part in outcome.split('class="stat-value')[1:4]]


def test_sizes_are_shown_before_anything_is_made(client: Client, dataset: Dataset) -> None:
    assert sizes(page(client, dataset)) == ["160", "20", "20"]
    assert sizes(page(client, dataset, how="stratified", validation=20, test=25)) == ["110", "40", "50"]
    assert sizes(page(client, dataset, how="group", column="who", validation=20, test=20)) == [
        "120",
        "40",
        "40",
    ]
    assert sizes(page(client, dataset, how="time", column="year", validation=10, test=5)) == [
        "170",
        "20",
        "10",
    ]
    assert sizes(page(client, dataset, how="kfold", folds=4)) == ["100", "50", "50"]
    assert not Change.objects.exists()


def test_a_column_whose_values_tell_the_split_lists_them(client: Client, dataset: Dataset) -> None:
    seen = page(client, dataset, how="column", column="place")
    assert "(empty)" in seen and "No row" not in seen
    assert (
        "<y>" in seen
        and "&lt;y&gt;"
        in client.get(f"/datasets/{dataset.pk}/split/", {"how": "column", "column": "place"}).content.decode()
    )
    said = {
        "how": "column",
        "column": "place",
        "value-0": "train",
        "value-1": "validation",
        "value-2": "test",
    }
    assert sorted(sizes(page(client, dataset, **said))) == ["66", "67", "67"]


def test_what_cannot_be_is_said_and_no_page_fails(client: Client, dataset: Dataset) -> None:
    assert "Choose a column" in page(client, dataset, how="group")
    assert "Say a share" in page(client, dataset, how="stratified", validation=0.0)
    assert "To test: Enter a number." in page(client, dataset, how="stratified", test="x")
    for seed in ("-1", "one", "9" * 5000):
        assert "Seed: " in page(client, dataset, how="stratified", seed=seed)
    assert "Say a number from" in page(client, dataset, how="kfold", folds=1)
    assert "which is no time" in page(client, dataset, how="time", column="text")
    assert "more than 50" in page(client, dataset, how="column", column="text")
    assert page(client, dataset, how="magic", column="else", seed="1; DROP")
    storage.delete_under(f"datasets/{dataset.pk}/versions")
    assert "missing from storage" in page(client, dataset)


def test_the_form_makes_a_version(client: Client, dataset: Dataset) -> None:
    address = f"/datasets/{dataset.pk}/split/"
    wrong = client.post(address, {"how": "group", "validation": "10", "test": "10"})
    assert wrong.status_code == 422 and "There is no column" in unescape(wrong.content.decode())
    wrong = client.post(address, {"how": "stratified", "seed": "-1"})
    assert wrong.status_code == 422 and "greater than or equal to 0" in wrong.content.decode()
    assert not Change.objects.exists()
    asked = {"how": "group", "column": "who", "validation": "20", "test": "20", "seed": "3"}
    assert client.post(address, asked).status_code == 302
    change = Change.objects.get()
    assert change.asked["column"] == "who" and change.asked["seed"] == 3
    run_change(change.pk, "test")
    dataset.refresh_from_db()
    assert dataset.version is not None and dataset.version.splits == {
        "train": 120,
        "validation": 40,
        "test": 40,
    }
    seen = unescape(client.get(f"/datasets/{dataset.pk}/").content.decode())
    assert "none of which is in two splits (seed 3)" in seen and "Split otherwise" in seen


def test_htmx_gets_the_form_alone(client: Client, dataset: Dataset) -> None:
    part = client.get(f"/datasets/{dataset.pk}/split/", {"how": "kfold"}, headers={"HX-Request": "true"})
    text = part.content.decode().strip()
    assert text.startswith("<form") and "Fold that tests" in text and "<html" not in text
