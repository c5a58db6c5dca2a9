"""What is downloaded is what was uploaded: each form comes back as the same rows."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.test import Client

from tests.webapp.datasets.conftest import Inspected
from tests.webapp.datasets.test_browse import picture, stored
from webapp.accounts.models import User
from webapp.datasets import exporting
from webapp.datasets.models import Dataset

pytestmark = pytest.mark.django_db(transaction=True)
FORMULAS = ["=1+1", "+1", "-1 and more", "@SUM(A1)", "\t=1", "'=1"]


@pytest.fixture
def client(client: Client, user: User) -> Client:
    client.force_login(user)
    return client


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


@pytest.fixture
def mixed(inspected: Inspected) -> Dataset:
    """Every kind that is no file, with what is hard in each: nothing, nested, quotes, lines, other scripts."""

    def said(n: int) -> list[dict[str, str]]:
        return [
            {"role": "user", "content": f'A "quote" {n},\nand a line'},
            {"role": "assistant", "content": "そう"},
        ]

    rows: list[dict[str, Any]] = [
        {
            "text": None if n == 3 else f'Row {n}, "so"\nit goes: ü',
            "stars": n * 3,
            "price": n + 0.5 if n % 7 else 1e-7 * n,
            "sold": None if n == 5 else n % 3 == 0,
            "kind": ("good", "bad", "odd")[n % 3],
            "messages": said(n) if n % 4 else None,
            "more": {"deep": [n, None, {"ä": "b"}]},
        }
        for n in range(400)
    ]
    dataset = inspected(("mixed.jsonl", lines(rows)))
    assert dataset.version is not None, dataset.findings
    kinds = {column["kind"] for column in dataset.version.columns}
    assert kinds == {"text", "integer", "float", "boolean", "label", "messages", "json"}
    return dataset


def got(client: Client, dataset: Dataset, kind: str, **query: str) -> Any:
    answer = client.get(f"/datasets/{dataset.pk}/download/{kind}/", query)
    assert answer.status_code == 200, answer
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Disposition"].startswith("attachment")
    return answer


def unpacked(answer: Any) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content))) as archive:
        assert archive.testzip() is None
        return {name.rsplit("/", 1)[1]: archive.read(name) for name in archive.namelist()}


def test_parquet_comes_back_as_the_same_rows(client: Client, mixed: Dataset, inspected: Inspected) -> None:
    answer = got(client, mixed, "parquet")
    files = unpacked(answer)
    assert set(files) == {f"{split}-00000-of-00001.parquet" for split in ("train", "validation", "test")}
    again = inspected(*files.items())
    assert again.version is not None and mixed.version is not None
    assert again.version.content_hash == mixed.version.content_hash


def test_json_lines_come_back_as_the_same_rows(client: Client, mixed: Dataset, inspected: Inspected) -> None:
    again = inspected(*unpacked(got(client, mixed, "jsonl")).items())
    assert again.version is not None and mixed.version is not None
    assert again.version.content_hash == mixed.version.content_hash


def test_csv_comes_back_with_the_same_values_as_text(
    client: Client, mixed: Dataset, inspected: Inspected
) -> None:
    again = inspected(*unpacked(got(client, mixed, "csv")).items())
    assert again.version is not None and mixed.version is not None
    assert again.version.splits == mixed.version.splits
    for split in mixed.version.splits:
        before, after = stored(mixed, split), stored(again, split)
        for name in ("text", "stars", "price", "sold", "kind"):
            assert [row[name] for row in after] == [row[name] for row in before], name
        for old, new in zip(before, after, strict=True):
            for name in ("messages", "more"):
                value = old[name] if name == "messages" else json.loads(old[name])
                assert (json.loads(new[name]) if new[name] else None) == value


def test_no_cell_of_a_csv_is_a_formula(client: Client, inspected: Inspected) -> None:
    rows = [{"=name()": f"{FORMULAS[n % 6]} {n}", "n": -n} for n in range(60)]
    dataset = inspected(("f.jsonl", lines(rows)))
    files = unpacked(got(client, dataset, "csv"))
    texts = set()
    for data in files.values():
        table = list(csv.reader(io.StringIO(data.decode(), newline="")))
        assert table[0] == ["'=name()", "n"]
        for text, number in table[1:]:
            assert text[0] not in "=+-@\t\r"
            assert int(number) <= 0, "a number stays one"
            texts.add(text)
    for n, formula in enumerate(FORMULAS):
        assert f"'{formula} {n}" in texts


def test_the_datasets_library_loads_the_folder(client: Client, mixed: Dataset, tmp_path: Path) -> None:
    with zipfile.ZipFile(
        io.BytesIO(b"".join(got(client, mixed, "huggingface").streaming_content))
    ) as archive:
        archive.extractall(tmp_path)
        (folder,) = {name.split("/")[0] for name in archive.namelist()}
    said = loaded(tmp_path / folder, "(d.num_rows, str(d['train'].features), d['test'][0])")
    assert mixed.version is not None
    assert all(f"'{split}': {rows}" in said for split, rows in mixed.version.splits.items())
    assert "ClassLabel(names=['bad', 'good', 'odd'])" in said
    assert "'messages': List({'role': Value('string'), 'content': Value('string')})" in said
    assert repr(stored(mixed, "test")[0]["more"]) in said


def loaded(folder: Path, what: str) -> str:
    """What the library says of a folder, in a process of its own with a cache of its own."""
    code = f"import datasets; d = datasets.load_dataset({str(folder)!r}); print({what})"
    environment = {"HF_HOME": str(folder.parent / "cache"), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    ).stdout


@pytest.fixture
def pictures(inspected: Inspected, tmp_path: Path) -> Dataset:
    rows = [{"bytes": picture(n), "path": f"{n}.png"} for n in range(40)]
    pq.write_table(pa.table({"photo": rows, "n": list(range(40))}), tmp_path / "p.parquet")
    return inspected(tmp_path / "p.parquet")


def test_pictures_go_with_parquet_and_the_folder_and_not_with_text(
    client: Client, pictures: Dataset, tmp_path: Path
) -> None:
    for kind in ("csv", "jsonl"):
        answer = client.get(f"/datasets/{pictures.pk}/download/{kind}/", follow=True)
        assert "Pictures and recordings do not fit" in answer.content.decode()
        assert f"/download/{kind}/" not in client.get(f"/datasets/{pictures.pk}/").content.decode()
    with zipfile.ZipFile(
        io.BytesIO(b"".join(got(client, pictures, "huggingface").streaming_content))
    ) as archive:
        archive.extractall(tmp_path / "z")
        (folder,) = {name.split("/")[0] for name in archive.namelist()}
    said = loaded(tmp_path / "z" / folder, "(d['train'].features, d['train'][0]['photo'].size)")
    assert "'photo': Image(" in said and "(8, 8)" in said


def test_one_split_is_one_file_to_be_had_in_parts_and_checked(client: Client, mixed: Dataset) -> None:
    answer = got(client, mixed, "parquet", split="train")
    data = b"".join(answer.streaming_content)
    digest = hashlib.sha256(data).digest()
    assert answer["Repr-Digest"] == f"sha-256=:{base64.b64encode(digest).decode()}:"
    assert len(pq.read_table(io.BytesIO(data))) == 320
    address = f"/datasets/{mixed.pk}/download/parquet/?split=train"
    part = client.get(address, headers={"Range": "bytes=100-199", "If-Range": answer["ETag"]})
    assert part.status_code == 206 and b"".join(part.streaming_content) == data[100:200]  # type: ignore[attr-defined]
    assert client.get(address, headers={"If-None-Match": answer["ETag"]}).status_code == 304
    assert client.head(address)["Content-Length"] == str(len(data))
    for kind, first in (("jsonl", b'{"text"'), ("csv", b'"text"')):
        assert b"".join(got(client, mixed, kind, split="test").streaming_content).startswith(first)


def test_a_version_of_before_sums_were_noted_comes_whole(client: Client, mixed: Dataset) -> None:
    assert mixed.version is not None
    del mixed.version.details["stored"]
    mixed.version.save()
    answer = got(client, mixed, "parquet", split="train")
    assert "Accept-Ranges" not in answer and "ETag" not in answer
    assert len(b"".join(answer.streaming_content)) == int(answer["Content-Length"])


def test_what_is_asked_for_wrongly_is_told(client: Client, mixed: Dataset) -> None:
    assert client.get(f"/datasets/{mixed.pk}/download/exe/").status_code == 404
    answer = client.get(f"/datasets/{mixed.pk}/download/csv/", {"split": "../x"}, follow=True)
    assert "There is no split" in answer.content.decode()
    assert client.get(f"/datasets/{mixed.pk}/download/csv/", {"version": "0" * 64}).status_code == 404


def test_rows_are_made_a_piece_at_a_time(client: Client, inspected: Inspected) -> None:
    rows = b"text\n" + b"".join(b"sentence %d\n" % n for n in range(40_000))
    dataset = inspected(("t.csv", rows))
    assert dataset.version is not None
    for make in (exporting.csv_of, exporting.jsonl_of):
        pieces = list(make(dataset.version, "train"))
        assert len(pieces) >= 4 and max(map(len, pieces)) < sum(map(len, pieces)) / 3


@pytest.mark.parametrize("name", ["bccd-voc.zip", "spoken-digits.zip", "ner-wikiann"])
def test_the_datasets_library_loads_boxes_recordings_and_tags(
    name: str, client: Client, inspected: Inspected, shared_data: Path, tmp_path: Path
) -> None:
    path = shared_data / name
    dataset = inspected(*(sorted(path.glob("*")) if path.is_dir() else [path]))
    assert dataset.version is not None, dataset.findings
    with zipfile.ZipFile(
        io.BytesIO(b"".join(got(client, dataset, "huggingface").streaming_content))
    ) as archive:
        archive.extractall(tmp_path)
        (folder,) = {each.split("/")[0] for each in archive.namelist()}
    said = loaded(tmp_path / folder, "(d.num_rows, str(d['train'].features))")
    assert all(f"'{split}': {rows}" in said for split, rows in dataset.version.splits.items())
    assert {"bccd-voc.zip": "'bbox': List(List(Value('float32')))", "spoken-digits.zip": "Audio("}.get(
        name, "'tags': List(ClassLabel(names=['O', 'B-LOC'"
    ) in said


def test_tags_are_written_by_their_names(client: Client, inspected: Inspected, shared_data: Path) -> None:
    dataset = inspected(*sorted((shared_data / "ner-wikiann").glob("*")))
    lines = b"".join(got(client, dataset, "jsonl", split="test").streaming_content).splitlines()
    rows = [json.loads(line) for line in lines]
    assert {"O", "B-PER"} <= {tag for row in rows for tag in row["tags"]}
