"""Lengths in tokens of a model: asked for on the page or by HTTP, counted by a worker, kept for a version and a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.test import Client
from tokenizers import Tokenizer, models, pre_tokenizers

from tests.webapp.datasets.conftest import Inspected
from tests.webapp.datasets.test_api import headers_of
from webapp.accounts.models import User, Workspace
from webapp.catalog.models import BaseModel
from webapp.catalog.sync import sync_starters
from webapp.catalog.tokenizers import NoTokenizer, models_with_tokenizer, tokenizer_file
from webapp.datasets import token_counting, token_lengths
from webapp.datasets.models import Dataset, TokenLengths
from webapp.datasets.problems import Refused
from webapp.datasets.token_counting import Order, count_tokens, open_tokenizer, unknown_id
from webapp.datasets.token_lengths import request_count, run_count

pytestmark = pytest.mark.django_db(transaction=True)
KNOWN = ["[UNK]", "a", "good", "bad", "day"]


def tokenizer_of(folder: Path) -> Path:
    """A word each a token; what is not KNOWN is one and the same."""
    made = Tokenizer(models.WordLevel({word: n for n, word in enumerate(KNOWN)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.enable_truncation(4)
    folder.mkdir(exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


@pytest.fixture
def model(workspace: Workspace, tmp_path: Path) -> BaseModel:
    folder = tokenizer_of(tmp_path / "model").parent
    return BaseModel.objects.create(
        workspace=workspace,
        slug="words",
        name="Words",
        kind="text-encoder",
        source="folder",
        reference=str(folder),
        context_length=6,
    )


@pytest.fixture
def dataset(inspected: Inspected) -> Dataset:
    """100 texts of 2 to 4 words, and one of 8 with two that the tokenizer does not know."""
    texts = [
        " ".join([["a", "good", "bad", "day"][k % 4] for k in range(n, n + 2 + n % 3)]) for n in range(100)
    ]
    rows = [*texts, "a bad day a ☃ good day naïve"]
    table = "text,label\n" + "".join(f"{text},{'xy'[n % 2]}\n" for n, text in enumerate(rows))
    roles = {"text": "text", "label": "label"}  # else a column of so few texts would be one of classes
    return inspected(("train.csv", table.encode()), task="text-classification", columns=roles)


def counted(dataset: Dataset, model: BaseModel) -> TokenLengths:
    assert dataset.version is not None
    asked = request_count(dataset.version, model)
    run_count(asked.pk, "test")
    asked.refresh_from_db()
    return asked


def test_lengths_are_counted_against_what_the_model_reads(dataset: Dataset, model: BaseModel) -> None:
    done = counted(dataset, model)
    assert done.status == TokenLengths.Status.DONE, done.problems
    assert (done.result["rows"], done.result["counted"], done.result["limit"]) == (101, 101, 6)
    (column,) = done.result["columns"]
    assert (column["name"], column["rows"], column["p50"], column["p95"], column["max"]) == (
        "text",
        101,
        3,
        4,
        8,
    )
    assert column["cut"] == 1
    assert column["unknown"]["rows"] == 1
    assert sorted(column["unknown"]["pieces"]) == [["naïve", 1], ["☃", 1]]
    assert done.result["together"] is None
    longest = (column["split"], column["row"])
    assert longest == (column["unknown"]["split"], column["unknown"]["row"])


def test_what_was_counted_is_not_counted_again(
    dataset: Dataset, model: BaseModel, no_messages: list[int]
) -> None:
    done = counted(dataset, model)
    no_messages.clear()
    assert dataset.version is not None
    assert request_count(dataset.version, model).pk == done.pk
    assert no_messages == []
    run_count(done.pk, "another")  # delivered twice: nothing to do
    done.refresh_from_db()
    assert done.attempts == 1


def test_a_model_without_a_tokenizer_is_told_and_can_be_tried_again(
    dataset: Dataset, model: BaseModel, tmp_path: Path, no_messages: list[int]
) -> None:
    (tmp_path / "model" / "tokenizer.json").unlink()
    refused = counted(dataset, model)
    assert refused.status == TokenLengths.Status.REFUSED
    assert refused.problems[0]["message"] == "Words has no tokenizer.json on this host."
    tokenizer_of(tmp_path / "model")
    no_messages.clear()
    assert counted(dataset, model).status == TokenLengths.Status.DONE
    assert no_messages == [refused.pk]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b'{"version": "1.0"}',
        b"\x80\x04\x95pickle",
        json.dumps({"model": {}}).encode(),
    ],
)
def test_a_tokenizer_that_cannot_be_read_is_refused(data: bytes, dataset: Dataset, model: BaseModel) -> None:
    (Path(model.reference) / "tokenizer.json").write_bytes(data)
    refused = counted(dataset, model)
    assert refused.status == TokenLengths.Status.REFUSED
    assert refused.problems[0]["code"] == "bad_tokenizer"


def test_files_that_are_gone_are_told(dataset: Dataset, model: BaseModel) -> None:
    from webapp import storage

    assert dataset.version is not None
    storage.delete_under(dataset.version.storage_prefix)
    assert counted(dataset, model).problems[0]["code"] == "version_missing"


def test_a_worker_that_dies_lets_another_count(dataset: Dataset, model: BaseModel, settings: Any) -> None:
    assert dataset.version is not None
    asked = request_count(dataset.version, model)
    assert token_lengths.CLAIMS.claim(asked.pk, "dead") is not None
    run_count(asked.pk, "test")  # the lease holds
    assert TokenLengths.objects.get().status == TokenLengths.Status.WAITING
    TokenLengths.objects.update(lease_until="2000-01-01T00:00:00Z")
    assert token_lengths.requeue_due() == [asked.pk]
    run_count(asked.pk, "test")
    assert TokenLengths.objects.get().status == TokenLengths.Status.DONE
    TokenLengths.objects.update(
        status="waiting", lease_until="2000-01-01T00:00:00Z", attempts=settings.MAX_ATTEMPTS
    )
    assert token_lengths.requeue_due() == []
    assert TokenLengths.objects.get().status == TokenLengths.Status.REFUSED


def test_the_page_has_them_counted_and_shows_them(
    dataset: Dataset, model: BaseModel, client: Client, user: User
) -> None:
    client.force_login(user)
    page = f"/datasets/{dataset.pk}/"
    assert "Lengths in tokens" in client.get(page).content.decode()
    answer = client.post(f"{page}tokens/count/", {"model": "words"}, headers={"HX-Request": "true"})
    assert 'hx-trigger="every 1s"' in answer.content.decode()
    poll = {"HX-Request": "true", "HX-PTag": answer["HX-PTag"]}
    assert client.get(f"{page}tokens/", {"model": "words"}, headers=poll).status_code == 304
    run_count(TokenLengths.objects.get().pk, "test")
    fragment = client.get(f"{page}tokens/", {"model": "words"}, headers=poll).content.decode()
    assert "hx-trigger" not in fragment
    assert "1.0 % (1)" in fragment
    assert "☃" in fragment and "naïve" in fragment
    assert "at most 6 of a text" in client.get(page).content.decode()


def test_without_javascript_the_page_comes_back(
    dataset: Dataset, model: BaseModel, client: Client, user: User
) -> None:
    client.force_login(user)
    answer = client.post(f"/datasets/{dataset.pk}/tokens/count/", {"model": "words"})
    assert (answer.status_code, answer["Location"]) == (302, f"/datasets/{dataset.pk}/#tokens")
    assert "Waiting for a worker" in client.get(f"/datasets/{dataset.pk}/").content.decode()


def test_viewers_look_and_do_not_count(
    dataset: Dataset, model: BaseModel, client: Client, viewer: User
) -> None:
    counted(dataset, model)
    client.force_login(viewer)
    assert client.post(f"/datasets/{dataset.pk}/tokens/count/", {"model": "words"}).status_code == 403
    page = client.get(f"/datasets/{dataset.pk}/").content.decode()
    assert "at most 6 of a text" in page and "tokens/count/" not in page


def test_models_of_other_workspaces_are_not_there(
    dataset: Dataset, model: BaseModel, client: Client, user: User
) -> None:
    BaseModel.objects.update(workspace=Workspace.objects.create(name="Other", slug="other"))
    client.force_login(user)
    assert client.post(f"/datasets/{dataset.pk}/tokens/count/", {"model": "words"}).status_code == 404
    assert "Words" not in client.get(f"/datasets/{dataset.pk}/").content.decode()


def test_the_api_counts_and_tells(
    dataset: Dataset, model: BaseModel, client: Client, user: User, workspace: Workspace
) -> None:
    headers = headers_of(user, workspace)
    address = f"/api/v1/datasets/{dataset.pk}/token-lengths"
    assert client.get(address, {"model": "words"}, headers=headers).status_code == 404
    answer = client.post(address, {"model": "words"}, content_type="application/json", headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (202, "waiting")
    run_count(TokenLengths.objects.get().pk, "test")
    said = client.get(address, {"model": "words"}, headers=headers).json()
    assert (said["status"], said["version"], said["result"]["columns"][0]["max"]) == ("done", 1, 8)
    for wrong in ({"model": "none"}, {"model": "words", "version": 9}):
        answer = client.post(address, wrong, content_type="application/json", headers=headers)
        assert answer.status_code == 404


def test_a_dataset_without_texts_has_none(
    inspected: Inspected, model: BaseModel, client: Client, user: User, workspace: Workspace
) -> None:
    numbers = inspected(("n.csv", b"a,b\n" + b"".join(b"%d,%d\n" % (n, n * n) for n in range(40))))
    client.force_login(user)
    assert "Lengths in tokens" not in client.get(f"/datasets/{numbers.pk}/").content.decode()
    assert client.post(f"/datasets/{numbers.pk}/tokens/count/", {"model": "words"}).status_code == 404
    address = f"/api/v1/datasets/{numbers.pk}/token-lengths"
    answer = client.post(
        address, {"model": "words"}, content_type="application/json", headers=headers_of(user, workspace)
    )
    assert answer.status_code == 422


def rows_in(tmp_path: Path, **columns: list[Any]) -> dict[str, str]:
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table(columns), path)
    return {"train": str(path)}


def test_texts_of_a_row_are_counted_each_and_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_counting, "AT_ONCE", 20)  # a few texts at a time
    files = rows_in(tmp_path, one=["a day", "a " * 50, None], two=["good", None, "bad bad bad"])
    columns = [{"name": "one", "kind": "text"}, {"name": "two", "kind": "text"}]
    order = Order(files, columns, {"a": "one", "b": "two"}, str(tokenizer_of(tmp_path / "t")), 10)
    result = count_tokens(order, tmp_path, lambda *_: None)
    assert [(each["name"], each["rows"], each["max"], each["cut"]) for each in result["columns"]] == [
        ("one", 2, 50, 1),
        ("two", 2, 3, 0),
    ]
    assert (result["together"]["rows"], result["together"]["total"], result["together"]["row"]) == (3, 56, 2)


def test_of_very_many_rows_every_nth_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_counting, "MOST_ROWS", 40)
    files = rows_in(tmp_path, text=["a day"] * 100)
    order = Order(files, [{"name": "text", "kind": "text"}], {}, str(tokenizer_of(tmp_path / "t")))
    result = count_tokens(order, tmp_path, lambda *_: None)
    assert (result["rows"], result["counted"], result["columns"][0]["cut"]) == (100, 34, None)


def test_conversations_are_counted_by_what_is_said_in_them(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a good day"}, {"role": "assistant", "content": "bad"}]
    files = rows_in(tmp_path, messages=[turns] * 3)
    order = Order(files, [{"name": "messages", "kind": "messages"}], {}, str(tokenizer_of(tmp_path / "t")))
    assert count_tokens(order, tmp_path, lambda *_: None)["columns"][0]["max"] == 4


def test_starters_have_tokenizers_also_inside_gguf(user: User, tmp_path: Path) -> None:
    sync_starters()
    found = {model.slug: model for model in models_with_tokenizer(user)}
    assert {"all-minilm-l6-v2", "smollm2-135m-instruct"} <= set(found)
    assert "efficientnet-lite0" not in found
    small = open_tokenizer(tokenizer_file(found["all-minilm-l6-v2"], tmp_path))
    assert small.encode("Hello ☃").tokens == ["[CLS]", "hello", "[UNK]", "[SEP]"]
    assert small.id_to_token(unknown_id(small)) == "[UNK]"
    language = open_tokenizer(tokenizer_file(found["smollm2-135m-instruct"], tmp_path))
    assert language.encode("<|im_start|>user\nHi ☃").tokens[0] == "<|im_start|>"
    assert unknown_id(language) is None


@pytest.mark.parametrize(("number", "known"), [(0, 0), (None, None)])
def test_what_a_unigram_model_does_not_know_has_a_number(number: int | None, known: int | None) -> None:
    assert unknown_id(Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=number))) == known


def test_a_model_that_a_run_made_has_its_tokenizer_in_storage(workspace: Workspace, tmp_path: Path) -> None:
    from webapp import storage

    made = BaseModel(name="Mine", source="run", reference="runs/7/artifacts/model", kind="text-encoder")
    with pytest.raises(NoTokenizer, match="in storage"):
        tokenizer_file(made, tmp_path)
    storage.put(tokenizer_of(tmp_path / "t"), "runs/7/artifacts/model/tokenizer.json")
    assert open_tokenizer(tokenizer_file(made, tmp_path)).encode("a day").ids == [1, 4]


def test_without_the_library_it_is_said_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(Refused, match="training is not installed"):
        open_tokenizer(tmp_path / "tokenizer.json")
