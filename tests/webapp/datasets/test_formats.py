"""Every format of a table, all the way: uploaded by a script, read by a worker, shown on a page, stored as Parquet."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from tests.webapp.datasets.conftest import stored_files
from webapp import storage
from webapp.accounts.models import ApiToken, User, Workspace
from webapp.datasets.formats import all_extensions, all_formats
from webapp.datasets.inspection import run_inspection
from webapp.datasets.models import Dataset

URL = "/api/v1/datasets"
ROWS = [{"text": f"<b>Größe</b> {n}, really", "label": ("no", "yes")[n % 2]} for n in range(60)]
CSV = "text;label\n" + "".join(f"{row['text']};{row['label']}\n" for row in ROWS)
TABLE = pa.Table.from_pylist(ROWS)


def excel() -> bytes:
    book, target = openpyxl.Workbook(), io.BytesIO()
    for row in [("text", "label"), *((row["text"], row["label"]) for row in ROWS)]:
        book.active.append(row)
    book.save(target)
    return target.getvalue()


def arrow() -> bytes:
    target = io.BytesIO()
    with pa.ipc.new_file(target, TABLE.schema) as writer:
        writer.write_table(TABLE)
    return target.getvalue()


def parquet() -> bytes:
    target = io.BytesIO()
    pq.write_table(TABLE, target)
    return target.getvalue()


def sqlite() -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE reviews (text TEXT, label TEXT)")
    connection.executemany("INSERT INTO reviews VALUES (:text, :label)", ROWS)
    connection.commit()
    return connection.serialize()


LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
TABLES = {
    "csv": ("a.csv", CSV.encode("utf-16")),
    "compressed": ("a.csv.gz", gzip.compress(CSV.encode())),
    "excel": ("a.xlsx", excel()),
    "jsonl": ("a.jsonl", LINES.encode()),
    "json": ("a.json", json.dumps({"data": ROWS}, indent=1).encode()),
    "parquet": ("a.parquet", parquet()),
    "arrow": ("a.feather", arrow()),
    "sqlite": ("a.db", sqlite()),
}


@pytest.fixture
def headers(user: User, workspace: Workspace) -> dict[str, str]:
    return {"Authorization": f"Bearer {ApiToken.issue(user, workspace, 'test')[1]}"}


def uploaded(client: Client, headers: dict[str, str], *files: tuple[str, bytes]) -> Any:
    """What the API says of a dataset made of these files, once a worker has looked into it."""
    sent = [SimpleUploadedFile(name, data) for name, data in files]
    made = client.post(URL, {"file": sent}, headers=headers).json()
    run_inspection(made["id"], "test")
    return client.get(f"{URL}/{made['id']}", headers=headers).json()


def rows_of(dataset: int) -> list[dict[str, Any]]:
    """All rows that are stored, labels by name."""
    version = Dataset.objects.get(pk=dataset).version
    assert version is not None
    folder = storage.local_path(version.storage_prefix)
    assert folder is not None
    names = {column["name"]: column["names"] for column in version.columns if column["kind"] == "label"}
    rows = [row for path in folder.glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    return [{key: names[key][value] if key in names else value for key, value in row.items()} for row in rows]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_of_every_format_arrives_whole_and_is_shown(
    name: str, client: Client, headers: dict[str, str], user: User
) -> None:
    answer = uploaded(client, headers, TABLES[name])
    assert (answer["status"], answer["problems"]) == ("ready", [])
    assert [column["kind"] for column in answer["columns"]] == ["text", "label"]
    assert sorted(rows_of(answer["id"]), key=json.dumps) == sorted(ROWS, key=json.dumps)
    client.force_login(user)
    html = client.get(reverse("datasets:detail", args=[answer["id"]])).content.decode()
    assert "&lt;b&gt;Größe&lt;/b&gt; " in html
    assert "<b>Größe" not in html


def test_a_table_that_is_only_called_compressed_is_read_all_the_same(
    client: Client, headers: dict[str, str]
) -> None:
    answer = uploaded(client, headers, ("a.csv.gz", CSV.encode()))
    assert (answer["rows"], [each["code"] for each in answer["problems"]]) == (60, ["extension"])


EN = "\n".join(f"House number {n}." for n in range(40)).encode()
TMX = (
    "<tmx><header/><body>"
    + "".join(
        f'<tu><tuv xml:lang="en"><seg>House number {n}.</seg></tuv><tuv xml:lang="de"><seg>Haus {n}.</seg></tuv></tu>'
        for n in range(40)
    )
    + "</body></tmx>"
).encode()
CHAT = "".join(
    json.dumps(
        {"conversations": [{"from": "human", "value": f"Hi {n}"}, {"from": "gpt", "value": "House number"}]}
    )
    + "\n"
    for n in range(40)
).encode()


@pytest.mark.parametrize(
    ("files", "kinds"),
    [
        ([("a.txt", EN)], {"text": "text"}),
        ([("a.tmx", TMX)], {"en": "text", "de": "text"}),
        ([("a.en", EN), ("a.de", EN.replace(b"House", b"Haus"))], {"en": "text", "de": "text"}),
        ([("a.jsonl", CHAT)], {"conversations": "messages"}),
    ],
    ids=["text", "TMX", "two files", "chat"],
)
def test_text_and_chat_of_every_format_are_shown(
    files: Any, kinds: dict[str, str], client: Client, headers: dict[str, str], user: User
) -> None:
    answer = uploaded(client, headers, *files)
    assert {column["name"]: column["kind"] for column in answer["columns"]} == kinds
    assert (answer["rows"], answer["problems"]) == (40, [])
    client.force_login(user)
    assert "House number" in client.get(reverse("datasets:detail", args=[answer["id"]])).content.decode()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("a.csv.gz", "damaged"),
        ("a.xlsx", "damaged"),
        ("a.feather", "damaged"),
        ("a.db", "damaged"),
        ("a.json", "bad_json"),
    ],
)
def test_of_a_file_that_was_cut_off_nothing_stays_but_what_is_wrong(
    name: str, code: str, client: Client, headers: dict[str, str], user: User
) -> None:
    data = next(data for called, data in TABLES.values() if called == name)
    answer = uploaded(client, headers, (name, data[: len(data) // 2]))
    assert (answer["status"], answer["problems"][0]["code"], answer["problems"][0]["file"]) == (
        "invalid",
        code,
        name,
    )
    client.force_login(user)
    page = client.get(reverse("datasets:detail", args=[answer["id"]]))
    assert page.status_code == 200
    assert answer["problems"][0]["hint"][:20] in page.content.decode()
    assert stored_files() == []


def test_formats_are_found_by_being_there_and_explained() -> None:
    slugs = [each.slug for each in all_formats()]
    assert {
        "csv",
        "excel",
        "jsonl",
        "parquet",
        "arrow",
        "sqlite",
        "text",
        "tmx",
        "parallel",
        "compressed",
    } <= set(slugs)
    assert len(set(slugs)) == len(slugs)
    explained = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text()
    for extension in all_extensions():
        assert f"`{extension}`" in explained, extension
