"""Rows and downloads by HTTP."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.test import Client

from tests.webapp.datasets.conftest import Inspected
from tests.webapp.datasets.test_browse import picture, pictures, stored  # noqa: F401 - a fixture
from webapp.accounts.models import ApiToken, User, Workspace
from webapp.datasets.models import Dataset

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def script(user: User, workspace: Workspace) -> Client:
    return Client(headers={"Authorization": f"Bearer {ApiToken.issue(user, workspace, 'script')[1]}"})


@pytest.fixture
def texts(inspected: Inspected) -> Dataset:
    rows = [
        {"text": f"Sentence {n} " + "x" * 70_000 * (n == 7), "label": "ab"[n % 2], "more": [n]}
        for n in range(1000)
    ]
    return inspected(("t.jsonl", "\n".join(map(json.dumps, rows)).encode()))


def rows(script: Client, dataset: Dataset, **query: Any) -> dict[str, Any]:
    answer = script.get(f"/api/v1/datasets/{dataset.pk}/rows", query)
    assert answer.status_code == 200, answer.content
    found: dict[str, Any] = answer.json()
    return found


def test_all_rows_can_be_read_page_by_page(script: Client, texts: Dataset) -> None:
    seen, start = [], 1
    while start:
        page = rows(script, texts, split="train", start=start, limit=150)
        seen += page["items"]
        start = page["next"]
    assert page["count"] == 800 and [item["row"] for item in seen] == list(range(1, 801))
    for item, row in zip(seen, stored(texts, "train"), strict=True):
        assert item["values"]["label"] == "ab"[row["label"]]
        assert item["values"]["more"] == json.loads(row["more"])
        assert item["values"]["text"] == row["text"][:65_536]


def test_rows_are_found_by_words_and_class(script: Client, texts: Dataset) -> None:
    page = rows(script, texts, split="train", q="sentence 9", column="label", value="b")
    assert page["items"] and all(item["values"]["label"] == "b" for item in page["items"])
    assert page["count"] == len(page["items"]) and page["next"] is None


def test_what_is_asked_for_wrongly_is_told(script: Client, texts: Dataset) -> None:
    address = f"/api/v1/datasets/{texts.pk}/rows"
    for query, status in (
        ({"split": "dev"}, 422), ({"column": "label", "value": "z"}, 422), ({"limit": "9999"}, 422),
        ({"version": "0" * 64}, 404), ({"start": "-1"}, 422), ({"q": "x" * 201}, 422),
    ):  # fmt: skip
        assert script.get(address, query).status_code == status, query
    assert script.get("/api/v1/datasets/999999/rows").status_code == 404


def test_pictures_are_told_by_an_address_that_a_token_opens(script: Client, pictures: Dataset) -> None:  # noqa: F811
    item = rows(script, pictures, limit=1)["items"][0]
    answer = script.get(item["values"]["picture.a"]["picture"])
    assert answer.content == picture(0) and answer["Content-Type"] == "image/png"
    assert script.get(f"/api/v1/datasets/{pictures.pk}/rows/train/99/0").status_code == 404


def test_a_dataset_is_downloaded_in_parts(script: Client, texts: Dataset) -> None:
    address = f"/api/v1/datasets/{texts.pk}/download/parquet?split=test"
    data = b"".join(script.get(address).streaming_content)  # type: ignore[attr-defined]
    assert len(pq.read_table(io.BytesIO(data))) == 100
    part = script.get(address, headers={"Range": "bytes=-4"})
    assert part.status_code == 206 and b"".join(part.streaming_content) == b"PAR1"  # type: ignore[attr-defined]
    lines = b"".join(
        script.get(f"/api/v1/datasets/{texts.pk}/download/jsonl?split=test").streaming_content  # type: ignore[attr-defined]
    )
    assert len(lines.splitlines()) == 100
    assert script.get(f"/api/v1/datasets/{texts.pk}/download/exe").status_code == 404
    assert script.get(f"/api/v1/datasets/{texts.pk}/download/csv?split=x").status_code == 422
