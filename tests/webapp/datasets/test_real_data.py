"""Real files of each format, all the way: upload, canonical form, every page, API."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from django.test import Client
from django.urls import reverse

from tests.webapp.datasets.conftest import Inspected
from webapp import storage
from webapp.accounts.models import ApiToken, User, Workspace
from webapp.datasets.canonical import content_hash_of
from webapp.datasets.models import Dataset

pytestmark = pytest.mark.django_db(transaction=True)


@dataclass(frozen=True)
class Real:
    """`files` below shared/data. `first`: what the first row to train on is, as the API tells it."""

    name: str
    files: tuple[str, ...]
    splits: dict[str, int]
    kinds: dict[str, str]
    task: str
    parts: tuple[str, ...]  # partials that show it on the mapping page
    first: dict[str, Any] = field(default_factory=dict)
    classes: dict[str, list[str]] = field(default_factory=dict)


REAL = (
    Real(
        "sst2",
        ("sst2/train.tsv", "sst2/dev.tsv", "sst2/test.tsv"),
        {"train": 6920, "validation": 872, "test": 1821},
        {"column_1": "text", "column_2": "integer"},
        "text-classification",
        ("example-text", "class-mark"),
        {
            "column_1": "a stirring , funny and finally transporting re imagining of beauty and the beast and "
            "1930s horror films",
            "column_2": 1,
        },
    ),
    Real(
        "wikiann",
        ("ner-wikiann/train.conll", "ner-wikiann/dev.conll"),
        {"train": 5956, "validation": 2208, "test": 662},
        {"tokens": "tokens", "tags": "tags"},
        "",
        ("entity hue-",),
        classes={"tags": ["O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER"]},
    ),
    Real(
        "multi30k",
        ("multi30k-en-de.jsonl",),
        {"train": 4800, "validation": 600, "test": 600},
        {"en": "text", "de": "text"},
        "",
        ("beside-title",),
    ),
    Real(
        "instructions",
        ("instructions.jsonl",),
        {"train": 139, "validation": 18, "test": 18},
        {"messages": "messages"},
        "text-generation",
        ("bubble-assistant",),
    ),
    Real(
        "bccd",
        ("bccd-voc.zip",),
        {"train": 205, "validation": 87, "test": 72},
        {"image": "image", "objects": "objects"},
        "",
        ("row-drawn", "<rect"),
        classes={"objects": ["Platelets", "RBC", "WBC"]},
    ),
    Real(
        "digits",
        ("spoken-digits.zip",),
        {"train": 640, "validation": 80, "test": 80},
        {"audio": "audio", "transcription": "label", "digit": "integer", "speaker": "label"},
        "",
        ("waveform", "<audio"),
        classes={"speaker": ["jackson", "nicolas", "theo", "yweweler"]},
    ),
)


@pytest.fixture
def client(client: Client, user: User) -> Client:
    client.force_login(user)
    return client


@pytest.fixture
def script(user: User, workspace: Workspace) -> Client:
    return Client(headers={"Authorization": f"Bearer {ApiToken.issue(user, workspace, 'script')[1]}"})


@pytest.mark.parametrize("real", REAL, ids=[real.name for real in REAL])
def test_a_real_file_goes_all_the_way(
    real: Real, inspected: Inspected, shared_data: Path, client: Client, script: Client
) -> None:
    dataset = inspected(*(shared_data / name for name in real.files))
    rows = _canonical(real, dataset)
    _pages(real, dataset, client)
    _api(real, dataset, script, rows)


def _canonical(real: Real, dataset: Dataset) -> list[dict[str, Any]]:
    """The stored rows to train on, once all of the version is as it should be."""
    version = dataset.version
    assert version is not None, dataset.problems
    kinds = {column["name"]: column["kind"] for column in version.columns}
    assert kinds.items() >= real.kinds.items()
    assert version.splits == real.splits
    place = storage.local_path(version.storage_prefix)
    assert place is not None and content_hash_of(place) == version.content_hash
    tables = {split: pq.read_table(place / f"{split}-00000-of-00001.parquet") for split in version.splits}
    assert {split: table.num_rows for split, table in tables.items()} == real.splits
    names = {column["name"]: column.get("names") for column in version.columns}
    assert {name: names[name] for name in real.classes} == real.classes
    stored: list[dict[str, Any]] = tables["train"].slice(0, 1).to_pylist()
    return stored


def _pages(real: Real, dataset: Dataset, client: Client) -> None:
    def shown(name: str, **asked: Any) -> str:
        answer = client.get(reverse(f"datasets:{name}", args=[dataset.pk]), asked)
        assert answer.status_code == 200, name
        text: str = answer.content.decode()
        assert "style=" not in text.split("<main", 1)[1], "the CSP allows no inline style"
        return text

    detail = shown("detail")
    assert all(f">{name}</h3>" in detail for name in real.kinds)
    assert all(f"{rows:,}" in detail for rows in real.splits.values())
    for split, rows in real.splits.items():
        assert f"Row {rows:,} of the {split} rows" in shown("detail", split=split, row=rows)
        assert f'aria-label="Row {rows}"' in shown("browse", split=split, end=rows)
    mapping = shown("mapping", **({} if real.task else {"task": ""}))
    assert all(part in mapping for part in real.parts)


def _api(real: Real, dataset: Dataset, script: Client, rows: list[dict[str, Any]]) -> None:
    told = script.get(f"/api/v1/datasets/{dataset.pk}").json()
    assert (told["status"], told["splits"]) == ("ready", real.splits)
    if real.task:
        assert told["suggested"]["task"] == real.task
    page = script.get(f"/api/v1/datasets/{dataset.pk}/rows", {"split": "train", "limit": 1}).json()
    assert page["count"] == real.splits["train"]
    values = page["items"][0]["values"]
    assert values.items() >= real.first.items()
    for name, kind in real.kinds.items():
        if kind == "label":
            assert values[name] in _names(dataset, name)
        elif kind == "tags":
            assert values[name] == [_names(dataset, name)[code] for code in rows[0][name]]
        elif kind == "objects":
            assert values[name]["bbox"] == rows[0][name]["bbox"]
        elif kind == "image":
            assert script.get(values[name]["picture"]).content == rows[0][name]["bytes"]
        elif kind == "audio":
            assert values[name]["path"] == rows[0][name]["path"]
        else:
            assert values[name] == json.loads(json.dumps(rows[0][name]))


def _names(dataset: Dataset, column: str) -> list[str]:
    assert dataset.version is not None
    found: list[str] = next(each["names"] for each in dataset.version.columns if each["name"] == column)
    return found
