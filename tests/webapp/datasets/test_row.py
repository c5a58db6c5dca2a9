"""A link to a row shows the row, and points at the column that cannot be used."""

from __future__ import annotations

import html
import io
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.test import Client
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.webapp.datasets.conftest import Inspected
from webapp import storage
from webapp.accounts.models import User
from webapp.datasets.models import Dataset

NASTY = "<script>alert(1)</script>"
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def client(client: Client, user: User) -> Client:
    client.force_login(user)
    return client


def row_of(client: Client, dataset: Dataset, **query: object) -> str:
    answer = client.get(f"/datasets/{dataset.pk}/", query)
    assert answer.status_code == 200
    found = re.search(r'<section class="card row-card".*?</section>', answer.content.decode(), re.S)
    return found[0] if found else ""


def said(part: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", part)))


@pytest.fixture
def texts(inspected: Inspected) -> Dataset:
    lines = ["text,label", *(f"sentence {n} {NASTY if n == 7 else ''},{'ab'[n % 2]}" for n in range(25_000))]
    return inspected(("reviews.csv", "\n".join(lines).encode()))


def test_each_row_is_the_one_that_a_trainer_counts(client: Client, texts: Dataset) -> None:
    version = texts.version
    assert version is not None
    with storage.open_file(f"{version.storage_prefix}/train-00000-of-00001.parquet") as source:
        rows = pq.read_table(source).to_pylist()
    for number in (1, 64, 65, 10_000, 10_001, len(rows)):
        shown = said(row_of(client, texts, split="train", row=number, column="text"))
        assert f"Row {number:,} of the train rows" in shown
        assert rows[number - 1]["text"].strip() in shown, number


def test_what_stands_in_a_row_is_never_markup(client: Client, texts: Dataset) -> None:
    version = texts.version
    assert version is not None
    for split in version.splits:
        with storage.open_file(f"{version.storage_prefix}/{split}-00000-of-00001.parquet") as source:
            values = pq.read_table(source).column("text").to_pylist()
        for place, text in enumerate(values):
            if NASTY in text:
                shown = row_of(client, texts, split=split, row=place + 1, column=NASTY)
                assert NASTY not in shown and html.escape(NASTY) in shown
                return
    raise AssertionError("the row is somewhere")


def test_the_column_that_is_named_stands_out(client: Client, texts: Dataset) -> None:
    shown = row_of(client, texts, split="test", row=2, column="text")
    pointed = re.findall(r'<div class="row-pointed"><dt>(\w+)', shown)
    assert pointed == ["text"] and "Row before" in shown and "Row after" in shown


@pytest.mark.parametrize(
    "query",
    [
        {"split": "train", "row": "0"}, {"split": "train", "row": "99999999"}, {"split": "dev", "row": "1"},
        {"split": "train", "row": "x"}, {"split": "train"}, {"row": "1"}, {"split": "../x", "row": "1"},
    ],
)  # fmt: skip
def test_an_address_of_no_row_shows_the_page_without(
    client: Client, texts: Dataset, query: dict[str, str]
) -> None:
    assert row_of(client, texts, **query) == ""


def test_a_row_whose_file_is_gone_or_damaged_says_so(client: Client, texts: Dataset) -> None:
    version = texts.version
    assert version is not None
    path = storage.local_path(f"{version.storage_prefix}/train-00000-of-00001.parquet")
    assert path is not None
    path.write_bytes(b"PAR1 and then nothing")
    assert "This row cannot be read" in said(row_of(client, texts, split="train", row=1))
    path.unlink()
    assert "This row cannot be read" in said(row_of(client, texts, split="train", row=1))


def test_a_picture_is_shown_in_the_page_and_what_is_none_by_its_size(
    client: Client, inspected: Inspected
) -> None:
    def picture(number: int) -> dict[str, object]:
        pixels = np.full((16, 16, 3), number * 5, dtype="uint8")
        buffer = io.BytesIO()
        note = PngInfo()
        note.add_text("n", str(number))
        Image.fromarray(pixels).save(buffer, "PNG", pnginfo=note)
        return {"bytes": buffer.getvalue(), "path": None}

    table = pa.table(
        {"image": [picture(n) for n in range(40)], "label": [("a", "b")[n % 2] for n in range(40)]}
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    dataset = inspected(("photos.parquet", buffer.getvalue()))
    shown = row_of(client, dataset, split="train", row=3, column="image")
    assert 'src="data:image/png;base64,' in shown
    version = dataset.version
    assert version is not None
    path = storage.local_path(f"{version.storage_prefix}/train-00000-of-00001.parquet")
    assert path is not None
    written = pq.read_table(path)
    images = written.column("image").to_pylist()
    images[2]["bytes"] = b"no picture"
    broken = written.set_column(
        written.schema.get_field_index("image"), "image", pa.array(images, written.schema.field("image").type)
    )
    pq.write_table(broken, path)
    shown = row_of(client, dataset, split="train", row=3, column="image")
    assert "data:" not in shown and "no picture that a page can show" in said(shown)
