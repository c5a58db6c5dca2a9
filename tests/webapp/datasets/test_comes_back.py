"""Every kind through every download that offers it, and up again: the same rows, and but for CSV the same version."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.test import Client

from tests.webapp.datasets.conftest import Inspected
from tests.webapp.datasets.test_answers import squad
from tests.webapp.datasets.test_browse import stored
from tests.webapp.datasets.test_downloads import got, unpacked
from tests.webapp.datasets.test_masks import archive, mask
from tests.webapp.datasets.test_roundtrip import UPLOADS, lines
from webapp.accounts.models import User
from webapp.datasets.exporting import offered
from webapp.datasets.models import Dataset

pytestmark = pytest.mark.django_db(transaction=True)
KINDS: dict[str, tuple[str, bytes]] = {
    **{what: (name, data) for what, (name, data, _) in UPLOADS.items()},
    "answers": ("a.json", squad()),
    "masks": archive(mask(0, 1, 2, 255), classes__txt=b"sky\ncat\ndog\nbird\n"),
    "words and tags as lists": (
        "a.jsonl",
        lines([{"tokens": ["Ada", f"{n}"], "ner_tags": [("B-PER", "O")[n % 2], "O"]} for n in range(40)]),
    ),
}


def rows(dataset: Dataset) -> dict[str, list[dict[str, Any]]]:
    """{split: rows}, classes by their names."""
    assert dataset.version is not None, dataset.problems
    names = {
        column["name"]: column["names"] for column in dataset.version.columns if column["kind"] == "label"
    }
    return {
        split: [
            {
                key: names[key][value] if key in names and value is not None else value
                for key, value in row.items()
            }
            for row in stored(dataset, split)
        ]
        for split in dataset.version.splits
    }


def as_told(value: Any, kind: str) -> Any:
    """A value as CSV tells it: what is nested as JSON, and nothing for an empty text."""
    if kind in {"messages", "tokens", "tags", "answers"} and value is not None:
        return json.dumps(value, ensure_ascii=False)
    return None if value == "" else value


@pytest.mark.parametrize("what", KINDS)
def test_it_comes_back_as_the_same_rows(what: str, client: Client, user: User, inspected: Inspected) -> None:
    client.force_login(user)
    dataset = inspected(KINDS[what])
    version = dataset.version
    assert version is not None, dataset.problems
    forms = [export.slug for export in offered(version)]
    assert {"parquet", "huggingface"} <= set(forms)
    before = rows(dataset)
    for form in forms:
        answer = got(client, dataset, form)
        if form == "huggingface":  # the folder as it comes
            again = inspected(("folder.zip", b"".join(answer.streaming_content)))
        else:
            again = inspected(*unpacked(answer).items())
        if form != "csv":
            assert again.version is not None, (form, again.problems)
            assert rows(again) == before, form
            blank_is_class = form == "jsonl" and what == "nothing in some cells"
            assert again.version.content_hash == version.content_hash or blank_is_class, form
            continue
        kinds = {column["name"]: column["kind"] for column in version.columns}
        names = {c["name"]: c["names"] for c in version.columns if c["kind"] == "tags"}
        for split, told in rows(again).items():
            for old, new in zip(before[split], told, strict=True):
                plain = {
                    key: [names[key][code] for code in value] if key in names and value is not None else value
                    for key, value in old.items()
                }
                assert new == {key: as_told(value, kinds[key]) for key, value in plain.items()}


def test_a_list_of_words_without_fitting_tags_stays_nested(convert: Any) -> None:
    for tags in (["O"], ["O", 1], "O O"):
        data = lines(
            [{"tokens": ["a", "b"], "tags": ["O", "O"]}] * 20 + [{"tokens": ["a", "b"], "tags": tags}] * 20
        )
        kinds = {column["name"]: column["kind"] for column in convert(("a.jsonl", data)).columns}
        assert kinds["tokens"] == "json" and kinds["tags"] == "json"
    many = lines([{"tokens": ["a"], "tags": [f"t{n}"]} for n in range(1200)])
    assert {column["kind"] for column in convert(("a.jsonl", many)).columns} == {"json"}
    assert io.BytesIO(many).readline()
