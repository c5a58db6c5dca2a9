"""The data browser: any row of any split, found by page, number, class and words, and shown for what it is."""

from __future__ import annotations

import html
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.test import Client
from PIL import Image

from tests.webapp.datasets.conftest import Inspected
from webapp import storage
from webapp.accounts.models import Membership, User, Workspace
from webapp.datasets import browsing, searching, shards
from webapp.datasets.models import Dataset

NASTY = "<script>alert(1)</script>"
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def client(client: Client, user: User) -> Client:
    client.force_login(user)
    return client


@pytest.fixture
def texts(inspected: Inspected) -> Dataset:
    """25,000 rows, so that a split has several row groups."""
    lines = ["text,label", *(f"Sentence {n} {NASTY if n == 7 else ''},{'ab'[n % 2]}" for n in range(25_000))]
    return inspected(("reviews.csv", "\n".join(lines).encode()))


def browse(client: Client, dataset: Dataset, **query: Any) -> str:
    answer = client.get(f"/datasets/{dataset.pk}/rows/", query)
    assert answer.status_code == 200
    return answer.content.decode()


def said(part: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", part)))


def numbers(page: str) -> list[int]:
    return [int(found) for found in re.findall(r'aria-label="Row (\d+)"', page)]


def stored(dataset: Dataset, split: str) -> list[dict[str, Any]]:
    assert dataset.version is not None
    with storage.open_file(f"{dataset.version.storage_prefix}/{split}-00000-of-00001.parquet") as source:
        rows: list[dict[str, Any]] = pq.read_table(source).to_pylist()
    return rows


def link(page: str, rel: str) -> str:
    found = re.search(rf'href="([^"]+)" rel="{rel}"', page)
    return html.unescape(found[1]) if found else ""


def test_paging_shows_every_row_once_and_in_order(client: Client, texts: Dataset) -> None:
    rows, seen, address = stored(texts, "test"), [], "?split=test"
    while address:
        page = client.get(f"/datasets/{texts.pk}/rows/{address}").content.decode()
        seen += numbers(page)
        assert rows[seen[-1] - 1]["text"].strip() in said(page)
        address = link(page, "next")
    assert seen == list(range(1, len(rows) + 1))


def test_a_page_begins_at_any_row_and_leads_back(client: Client, texts: Dataset) -> None:
    page = browse(client, texts, split="train", start=10_001)
    assert numbers(page) == list(range(10_001, 10_051))
    before = client.get(f"/datasets/{texts.pk}/rows/{link(page, 'prev')}").content.decode()
    assert numbers(before) == list(range(9_951, 10_001))
    past_the_end = browse(client, texts, split="train", start=10**15)
    assert numbers(past_the_end) == [20_000]


def test_a_search_finds_words_in_capitals_or_not_across_row_groups(client: Client, texts: Dataset) -> None:
    wanted = [place + 1 for place, row in enumerate(stored(texts, "train")) if "99" in row["text"]]
    seen, address = [], "?split=train&q=sENTENCE&q=99"
    while address:
        page = client.get(f"/datasets/{texts.pk}/rows/{address}").content.decode()
        seen += numbers(page)
        address = link(page, "next")
    assert seen == wanted and len(seen) > 200
    assert len(numbers(browse(client, texts, q="sENTENCE 1"))) == 50


def test_back_from_a_page_of_matches_are_the_matches_before_it(client: Client, texts: Dataset) -> None:
    first = browse(client, texts, split="train", q="9")
    second = client.get(f"/datasets/{texts.pk}/rows/{link(first, 'next')}").content.decode()
    back = client.get(f"/datasets/{texts.pk}/rows/{link(second, 'prev')}").content.decode()
    assert numbers(back) == numbers(first) != numbers(second)


def test_rows_of_a_class_are_found_and_counted(client: Client, texts: Dataset) -> None:
    page = browse(client, texts, split="train", value="1:1")
    rows = stored(texts, "train")
    assert numbers(page) == [place + 1 for place, row in enumerate(rows) if row["label"] == 1][:50]
    assert f"{sum(row['label'] == 1 for row in rows):,} of 20,000 train rows match" in said(page)
    both = browse(client, texts, split="train", value="1:1", q="7")
    assert all(rows[n - 1]["label"] == 1 and "7" in rows[n - 1]["text"] for n in numbers(both))


def test_matches_are_counted_after_the_page_has_come(client: Client, texts: Dataset) -> None:
    page = browse(client, texts, split="train", q="99")
    assert 'hx-trigger="load"' in page and "Count the rows that match" in page
    matches = sum("99" in row["text"] for row in stored(texts, "train"))
    answer = client.get(
        f"/datasets/{texts.pk}/rows/", {"split": "train", "q": "99"}, headers={"HX-Request": "true"}
    )
    part = answer.content.decode()
    assert said(part).strip() == f"{matches:,} of 20,000 train rows match"
    assert "<html" not in part and "hx-trigger" not in part
    assert f"{matches:,} of 20,000 train rows match" in said(browse(client, texts, split="train", q="99"))


def test_without_javascript_a_link_counts(client: Client, texts: Dataset) -> None:
    browsing._counted.clear()
    assert "of 20,000 train rows match" in said(browse(client, texts, split="train", q="9", count=1))


def test_a_search_that_takes_too_long_says_how_far_it_came_and_goes_on(
    client: Client, texts: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "SECONDS", 0.0)
    page = browse(client, texts, split="train", q="24999", start=101)
    assert "stopped at row 100" in said(page) and "Go on looking" in said(page)
    monkeypatch.setattr(searching, "SECONDS", 60.0)
    assert "start=101" in link(page, "next")
    assert "Sentence 24999" in said(
        browse(client, texts, split=_split_of(texts, "Sentence 24999"), q="24999")
    )


def _split_of(dataset: Dataset, text: str) -> str:
    return next(
        s for s in ("train", "validation", "test") if any(text in r["text"] for r in stored(dataset, s))
    )


def test_nothing_found_says_so_and_leads_back(client: Client, texts: Dataset) -> None:
    page = browse(client, texts, q="no such words")
    assert "No row matches" in page and "0 of 20,000 train rows match" in said(page)


def test_what_stands_in_a_row_is_never_markup(client: Client, texts: Dataset) -> None:
    page = browse(client, texts, split=_split_of(texts, NASTY), q=NASTY)
    assert NASTY not in page and html.escape(NASTY) in page and "alert(1)" in page


@pytest.mark.parametrize(
    "query",
    [
        {"split": "../x"}, {"split": "dev", "start": "-4"}, {"start": "x", "end": "9" * 40}, {"value": "9:9"},
        {"q": "%' OR 1=1 --"}, {"q": "\\"}, {"end": "0"}, {"q": "x" * 5000}, {"value": "1:empty"},
        {"start": "5", "end": "3", "q": "1"}, {"count": "yes", "q": "\"; DROP"},
    ],
)  # fmt: skip
def test_nonsense_in_the_address_is_a_page(client: Client, texts: Dataset, query: dict[str, str]) -> None:
    assert "Rows of reviews" in browse(client, texts, **query)


def test_a_word_is_text_and_not_a_pattern(client: Client, inspected: Inspected) -> None:
    rows = [{"text": f"100% of {n} _ things"} if n == 3 else {"text": f"row {n}"} for n in range(20)]
    dataset = inspected(("t.jsonl", "\n".join(map(json.dumps, rows)).encode()))
    found = [
        n
        for split in ("train", "validation", "test")
        for n in numbers(browse(client, dataset, split=split, q="0%"))
    ]
    assert len(found) == 1


def test_long_texts_are_cut_and_unfold_without_javascript(client: Client, inspected: Inspected) -> None:
    rows = [{"text": f"{n} " + "word " * 100, "more": {"deep": [n, "ä"]}} for n in range(20)]
    page = browse(client, inspected(("t.jsonl", "\n".join(map(json.dumps, rows)).encode())))
    assert page.count('<details class="cell-long">') == len(numbers(page))
    assert '{"deep": [' in html.unescape(page) and "ä" in page


def test_conversations_are_shown_as_turns(client: Client, inspected: Inspected) -> None:
    said_by = [
        {"role": "user", "content": "Opening hours?"},
        {"role": "assistant", "content": "Nine to five."},
    ]
    rows = [{"messages": [*said_by, {"role": "user", "content": f"Thanks {n}"}]} for n in range(30)]
    dataset = inspected(("chat.jsonl", "\n".join(map(json.dumps, rows)).encode()))
    page = browse(client, dataset)
    assert 'class="turn turn-assistant"' in page and "Nine to five." in page
    found = [
        n
        for s in ("train", "validation", "test")
        for n in numbers(browse(client, dataset, split=s, q="thanks 7"))
    ]
    assert len(found) == 1
    assert "No row matches" in browse(client, dataset, q="assistant"), "a role is no word of a text"


def picture(color: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), color).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def pictures(inspected: Inspected, tmp_path: Path) -> Dataset:
    rows = [{"bytes": picture(n, "BMP" if n == 5 else "PNG"), "path": f"{n}.png"} for n in range(40)]
    table = pa.table(
        {"picture.a": rows, "n": list(range(40)), "split": ["train"] * 38 + ["validation", "test"]}
    )
    pq.write_table(table, tmp_path / "p.parquet")
    return inspected(tmp_path / "p.parquet", split_column="split")


def test_pictures_come_by_an_address_of_their_own(client: Client, pictures: Dataset) -> None:
    page = browse(client, pictures)
    sources = re.findall(r'<img class="row-picture" src="([^"]+)"', page)
    assert len(sources) == 38
    for place in (0, 37):
        answer = client.get(sources[place])
        assert answer.content == picture(place)
        assert answer["Content-Type"] == "image/png" and answer["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answer["Content-Security-Policy"]
    made = client.get(sources[5])
    assert made["Content-Type"] == "image/png", "a BMP is kept as PNG"
    assert Image.open(io.BytesIO(made.content)).tobytes() == bytes([5]) * 64


@pytest.mark.parametrize("place", ["train/0/0", "train/39/0", "train/1/1", "train/1/9", "dev/1/0"])
def test_an_address_of_no_picture_is_404(client: Client, pictures: Dataset, place: str) -> None:
    assert client.get(f"/datasets/{pictures.pk}/rows/{place}/").status_code == 404


def test_another_version_is_named_by_its_hash(client: Client, texts: Dataset, inspected: Inspected) -> None:
    old = texts.version
    assert old is not None
    other = inspected(("other.csv", b"text\n" + b"".join(b"another %d\n" % n for n in range(30)))).version
    assert other is not None
    other.dataset, other.number = texts, 2
    other.save()
    page = browse(client, texts, version=other.content_hash)
    assert "another" in page and "which new runs do not get" in page
    assert client.get(f"/datasets/{texts.pk}/rows/", {"version": "f" * 64}).status_code == 404


def test_rows_whose_files_are_gone_or_damaged_say_so(client: Client, texts: Dataset) -> None:
    assert texts.version is not None
    key = f"{texts.version.storage_prefix}/train-00000-of-00001.parquet"
    path = storage.local_path(key)
    assert path is not None
    path.write_bytes(b"PAR1" + b"x" * 100)
    for query in ({}, {"q": "x"}, {"q": "x", "count": "1"}):
        assert "Upload the dataset again" in said(browse(client, texts, **query))
    storage.delete_under(texts.version.storage_prefix)
    assert "missing from storage" in said(browse(client, texts))


def test_another_workspaces_rows_are_not_there(client: Client, texts: Dataset, pictures: Dataset) -> None:
    stranger = User.objects.create_user("eve")
    other = Workspace.objects.create(name="Other", slug="other")
    Membership.objects.create(user=stranger, workspace=other, role=Membership.Role.OWNER)
    client.force_login(stranger)
    assert client.get(f"/datasets/{texts.pk}/rows/").status_code == 404
    assert client.get(f"/datasets/{pictures.pk}/rows/train/1/0/").status_code == 404


@pytest.fixture
def bucket(texts: Dataset, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[list[str]]:
    """Storage that is no folder; the keys that are fetched from it."""
    fetched: list[str] = []
    get = storage.get

    def noted(key: str, path: Path) -> None:
        fetched.append(key)
        get(key, path)

    monkeypatch.setattr(shards.storage, "local_path", lambda key: None)
    monkeypatch.setattr(shards.storage, "get", noted)
    yield fetched


def test_out_of_a_bucket_a_file_is_fetched_once(
    client: Client, texts: Dataset, bucket: list[str], settings: Any, tmp_path: Path
) -> None:
    settings.BROWSE_DIR = tmp_path / "browse"
    for query in ({}, {"start": "9000"}, {"q": "99"}):
        assert len(numbers(browse(client, texts, split="train", **query))) == 50
    assert len(bucket) == 1 and bucket[0].endswith("train-00000-of-00001.parquet")


def test_copies_stay_within_their_limit_and_what_is_read_stays(
    client: Client, texts: Dataset, bucket: list[str], settings: Any, tmp_path: Path
) -> None:
    assert texts.version is not None
    settings.BROWSE_DIR = tmp_path / "browse"
    sizes = [storage.size(shard.key) for shard in shards.shards_of(texts.version)]
    settings.BROWSE_MAX_BYTES = max(sizes)
    train, validation, test = shards.shards_of(texts.version)
    with shards.on_disk([validation]) as (first,), shards.on_disk([train]):
        assert first.exists()
    with shards.on_disk([test]):
        kept = sum(path.stat().st_size for path in settings.BROWSE_DIR.glob("*.parquet"))
    assert kept <= settings.BROWSE_MAX_BYTES
    settings.BROWSE_MAX_BYTES = 10
    assert "larger than what this server keeps" in said(browse(client, texts, split="validation"))


def test_recordings_play_and_are_not_read_for_their_page(
    client: Client, inspected: Inspected, shared_data: Path
) -> None:
    dataset = inspected(shared_data / "spoken-digits.zip")
    page = browse(client, dataset, start=2)
    source = re.findall(r'<audio class="row-sound"[^>]* src="([^"]+)"', page)[0]
    assert "/recordings/train/2/" in source
    answer = client.get(source)
    assert answer.status_code == 200 and answer["Content-Type"].startswith("audio/")


def test_boxes_are_counted_by_class(client: Client, inspected: Inspected, shared_data: Path) -> None:
    page = said(browse(client, inspected(shared_data / "bccd-voc.zip")))
    assert re.search(r"(RBC|Platelets|WBC) × \d+", page)


def test_entities_are_marked_and_their_words_found(
    client: Client, inspected: Inspected, shared_data: Path
) -> None:
    dataset = inspected(*sorted((shared_data / "ner-wikiann").glob("*")))
    assert dataset.version is not None
    row = next(row for row in stored(dataset, "train") if any(row["tags"]))
    page = browse(client, dataset, q=" ".join(row["tokens"][:3]))
    assert '<mark class="entity' in page and " ".join(row["tokens"][:3]) in said(page)
