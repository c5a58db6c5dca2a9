"""Questions with answers in a text: SQuAD nested and flat, checked against their contexts, shown where they stand."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.test import Client
from django.urls import reverse

from tests.webapp.datasets.conftest import Inspected, refusal
from tests.webapp.datasets.test_fixes import pressed
from tests.webapp.datasets.test_kinds import features
from tests.webapp.datasets.test_roundtrip import noted, stored
from webapp.accounts.models import User

KINDS = {"id": "text", "title": "text", "context": "text", "question": "text", "answers": "answers"}


@pytest.fixture
def client(client: Client, user: User) -> Client:
    client.force_login(user)
    return client


def squad(version: str = "v2.0", articles: int = 6, indent: int | None = None) -> bytes:
    """Articles with three questions each: one answered, one twice, and in 2.0 one without an answer."""
    data = []
    for n in range(articles):
        context = f"Zürich {n} lies on a lake. 𝔸da swam there in {1900 + n}."
        year = {"text": f"{1900 + n}", "answer_start": context.index("19")}
        swimmer = {"text": "𝔸da", "answer_start": context.index("𝔸da")}
        last: dict[str, Any] = {"id": f"{n}c", "question": f"Who flew there, {n}?", "answers": []}
        if version == "v2.0":
            last |= {"is_impossible": True, "plausible_answers": [swimmer]}
        questions = [
            {
                "id": f"{n}a",
                "question": f"When did she swim, {n}?",
                "answers": [year],
                "is_impossible": False,
            },
            {"id": f"{n}b", "question": f"Who swam, {n}?", "answers": [swimmer, swimmer]},
            last,
        ]
        data.append({"title": "Lakes", "paragraphs": [{"context": context, "qas": questions}]})
    return json.dumps({"version": version, "data": data}, ensure_ascii=False, indent=indent).encode()


def rows(convert: Any) -> list[dict[str, Any]]:
    found = [row for path in convert.output.glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    return sorted(found, key=lambda row: str(row["id"]))


def kinds(found: Any) -> dict[str, str]:
    return {column["name"]: column["kind"] for column in found.columns}


@pytest.mark.parametrize(("version", "indent"), [("1.1", None), ("v2.0", None), ("v2.0", 2)])
def test_squad_becomes_a_row_a_question(version: str, indent: int | None, convert: Any) -> None:
    found = convert(("train-v2.0.json", squad(version, indent=indent)))
    assert kinds(found) == KINDS and found.rows == 18 and found.problems == []
    first, second, third = rows(convert)[:3]
    assert first["answers"] == {"text": ["1900"], "answer_start": [first["context"].index("1900")]}
    assert second["answers"]["text"] == ["𝔸da", "𝔸da"] and third["answers"] == {
        "text": [],
        "answer_start": [],
    }
    assert second["context"][second["answers"]["answer_start"][0] :].startswith("𝔸da")


def test_a_document_whose_list_is_longer_than_a_row_may_be_is_read(convert: Any) -> None:
    """As the real files are: one line, the version first."""
    document = json.loads(squad(articles=3))
    for article in document["data"]:
        article["paragraphs"][0]["context"] += "x" * (7 << 20)
    found = convert(("a.json", json.dumps(document).encode()))
    assert found.rows == 9 and kinds(found)["answers"] == "answers"


@pytest.mark.parametrize("how", ["lines", "list", "dicts", "parquet"])
def test_flat_forms_are_the_same_rows(how: str, convert: Any) -> None:
    nested = convert(("a.json", squad()))
    flat = rows(convert)
    if how == "parquet":
        target = io.BytesIO()
        old = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))])
        table = pa.Table.from_pylist(flat)
        pq.write_table(table.set_column(4, "answers", table["answers"].cast(old)), target)
        found = convert(("a.parquet", target.getvalue()))
    elif how == "list":
        found = convert(("a.json", json.dumps(flat).encode()))
    else:
        if how == "dicts":
            for row in flat:
                answers = row["answers"]
                pairs = zip(answers["text"], answers["answer_start"], strict=True)
                row["answers"] = [{"text": text, "answer_start": start} for text, start in pairs] or {
                    "text": [], "answer_start": [],
                }  # fmt: skip
        found = convert(("a.jsonl", "\n".join(map(json.dumps, flat)).encode()))
    assert kinds(found) == KINDS and found.content_hash == nested.content_hash


def test_answers_come_back_from_their_own_parquet(convert: Any) -> None:
    first = convert(("a.json", squad()))
    again = convert(*stored(convert))
    assert (kinds(again), again.content_hash) == (KINDS, first.content_hash)


@pytest.mark.parametrize("shift", [1, -1, 500, -500])
def test_answers_that_stand_elsewhere_are_told_by_row(shift: int, inspected: Inspected) -> None:
    document = json.loads(squad())
    document["data"][2]["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] += shift
    dataset = inspected(("a.json", json.dumps(document).encode()))
    assert dataset.version is not None, dataset.findings
    told = next(problem for problem in dataset.findings if problem["code"] == "answers_elsewhere")
    assert (told["severity"], told["count"], told["column"]) == ("serious", 1, "answers")
    assert told["split"] in dataset.version.splits and told["row"] >= 1


@pytest.mark.django_db(transaction=True)
def test_a_button_drops_rows_whose_answers_stand_elsewhere(inspected: Inspected) -> None:
    document = json.loads(squad())
    for n in (1, 4):
        document["data"][n]["paragraphs"][0]["qas"][1]["answers"][0]["answer_start"] += 2
    dataset = inspected(("a.json", json.dumps(document).encode()))
    version = pressed(dataset, "answers_elsewhere")
    assert version.rows == 16 and version.columns[4]["kind"] == "answers"
    assert "Dropped 2 rows whose “answers” do not stand where they say" in version.change["says"]


def test_pages_mark_answers_in_their_context(inspected: Inspected, client: Client, tmp_path: Any) -> None:
    document = json.loads(squad())
    for article in document["data"]:
        paragraph = article["paragraphs"][0]
        paragraph["context"] = f"<b>Zürich</b> {'x' * 300} {paragraph['context']}"
        for asked in paragraph["qas"]:
            for answer in asked["answers"]:
                answer["answer_start"] = paragraph["context"].index(answer["text"])
    document["data"][0]["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] = 7
    dataset = inspected(("a.json", json.dumps(document).encode()))
    version = dataset.version
    assert version is not None and version.suggested == {}, dataset.findings
    html = client.get(reverse("datasets:detail", args=[dataset.pk])).content.decode().split("<main")[1]
    assert "No task suggests itself" in html and "no answer in the text" in html
    assert "swam there in 19" in html or '<mark class="entity hue-2">𝔸da</mark> swam' in html
    assert "<b>Zürich" not in html and "&lt;b&gt;Zürich" in html
    browse = reverse("datasets:browse", args=[dataset.pk])
    everything = "".join(
        client.get(browse, {"split": split}).content.decode() for split in ("train", "validation", "test")
    )
    assert (
        '<mark class="entity hue-2">𝔸da</mark> swam there' in everything
        and "no answer in the text" in everything
    )
    assert everything.count("not where it says") == 1
    assert "𝔸da" in client.get(browse, {"split": "train", "q": "𝔸da"}).content.decode()
    row = client.get(
        reverse("datasets:detail", args=[dataset.pk]), {"split": "train", "row": 1}
    ).content.decode()
    assert "row-answer" in row
    told = features(dataset, tmp_path)["answers"]
    assert "'text': List(Value('string'))" in told and "'answer_start': List(Value('int64'))" in told


@pytest.mark.parametrize(
    "paragraphs",
    [
        [{"context": "a", "qas": []}, {"qas": []}],
        [{"context": "a", "qas": []}, 7],
        [{"context": "a", "qas": []}, {"context": "a", "qas": {}}],
        [{"context": "a", "qas": [{"id": 1}]}],
        [{"context": "a", "qas": [{"question": "q", "answers": [{"text": "a"}]}]}],
        [{"context": "a", "qas": [{"question": "q", "answers": {"text": ["a"], "answer_start": []}}]}],
        [{"context": "a", "qas": [{"question": "q", "answers": [{"text": "a", "answer_start": "0"}]}]}],
        [{"context": "a", "qas": [{"question": "q", "answers": [{"text": "a", "answer_start": 2**70}]}]}],
    ],
)
def test_what_is_nearly_squad_is_told_by_entry(paragraphs: Any, convert: Any) -> None:
    good = json.loads(squad())["data"]
    document = {"data": [*good, {"title": "t", "paragraphs": paragraphs}]}
    said = refusal(convert, ("a.json", json.dumps(document).encode()))
    assert (said.code, said.row) == ("bad_conversation", 7) or said.code == "bad_answers"


def test_uneven_answers_of_a_strangers_parquet_are_refused(convert: Any) -> None:
    kind = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int64()))])
    values: list[Any] = [{"text": ["a"], "answer_start": [0]}, None, {"text": ["a"], "answer_start": []}] * 10
    table = pa.table({"context": ["a"] * 30, "answers": pa.array(values, kind)})
    said = refusal(convert, ("a.parquet", noted(table, {})))
    assert (said.code, said.row) == ("bad_answers", 3)


def test_answers_that_are_not_of_the_form_stay_nested_values(convert: Any) -> None:
    lines = [json.dumps({"q": f"row {n}", "answers": {"text": ["a"], "start": [n]}}) for n in range(30)]
    assert kinds(convert(("a.jsonl", "\n".join(lines).encode())))["answers"] == "json"
