"""Datasets of a hub: looked up, pinned to a commit, fetched by a worker, and refused with a sentence."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.test import Client

from webapp.accounts.models import ApiToken, User, Workspace
from webapp.datasets.inspection import run_inspection
from webapp.datasets.intake import held_bytes
from webapp.datasets.models import Dataset

from .conftest import Fetched, stored_files
from .fake_hub import CONVERTED, URL, FakeDatasets

pytestmark = pytest.mark.django_db


def csv(rows: int, word: str = "text") -> bytes:
    lines = (f"{word} number {n},{'good' if n % 2 else 'bad'}\n" for n in range(rows))
    return ("text,label\n" + "".join(lines)).encode()


def parquet(rows: int, word: str = "text") -> bytes:
    table = pa.table(
        {
            "text": [f"{word} number {n}" for n in range(rows)],
            "label": [("bad", "good")[n % 2] for n in range(rows)],
        }
    )
    target = io.BytesIO()
    pq.write_table(table, target)
    return target.getvalue()


THREE = {
    "README.md": b"# Reviews",
    "data/train.csv": csv(20, "to train"),
    "data/dev.csv": csv(6, "to look"),
    "data/test.csv": csv(8, "to test"),
}


def refused(script: Client, dataset: str = "lab/reviews", status: int = 422, **said: Any) -> dict[str, str]:
    """{field: sentence} of what cannot be taken; nothing is noted."""
    answer = script.post(URL, {"dataset": dataset, **said}, "application/json")
    assert answer.status_code == status, answer.content
    assert not Dataset.objects.exists()
    fields: dict[str, str] = answer.json()["error"]["fields"]
    return fields


def findings(dataset: Dataset) -> list[dict[str, Any]]:
    """Of a dataset that is ready."""
    assert dataset.version is not None, dataset.problems
    found: list[dict[str, Any]] = dataset.version.problems
    return found


def splits(dataset: Dataset) -> dict[str, int]:
    """{split: rows}."""
    assert dataset.version is not None, dataset.problems
    return dict(dataset.version.splits)


# -- from the hub to a version -------------------------------------------------------------------
def test_its_files_become_splits_and_the_commit_is_kept(
    hub: FakeDatasets, fetched: Fetched, script: Client, browser: Client
) -> None:
    there = hub.offer("lab/reviews", THREE)
    dataset = fetched()
    assert dataset.status == "ready" and dataset.name == "reviews"
    assert dataset.version is not None
    assert dataset.version.splits == {"train": 20, "validation": 6, "test": 8}
    said = script.get(f"/api/v1/datasets/{dataset.pk}").json()
    assert said["source"]["commit"] == there.commit and said["source"]["dataset"] == "lab/reviews"
    assert said["files"] == [] and "files" not in said["source"]
    page = browser.get(f"/datasets/{dataset.pk}/").content.decode()
    assert f"lab/reviews at {there.commit[:12]}" in page
    assert f"{hub.url}/datasets/lab/reviews/tree/{there.commit}" in page
    assert all(f"/resolve/{there.commit}/" in asked for asked in hub.asked if "/resolve/" in asked)
    assert not any("README" in asked for asked in hub.asked)
    assert all(key.startswith(f"datasets/{dataset.pk}/") and "upload" not in key for key in stored_files())


def test_a_newer_commit_later_changes_nothing(hub: FakeDatasets, script: Client) -> None:
    first = hub.offer("lab/reviews", THREE)
    answer = script.post(URL, {"dataset": "lab/reviews", "revision": "main"}, "application/json").json()
    newer = hub.offer("lab/reviews", {"train.csv": csv(99)})
    hub.repositories["lab/reviews@old"] = first
    assert newer.commit != first.commit
    run_inspection(answer["id"], "test")
    dataset = Dataset.objects.get(pk=answer["id"])
    assert dataset.version is not None and dataset.version.rows == 34
    assert answer["source"]["commit"] == first.commit and answer["source"]["revision"] == "main"


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub: FakeDatasets, fetched: Fetched) -> None:
    hub.offer("lab/reviews", THREE)
    old = hub.offer_at("lab/reviews", "v1", {"train.csv": csv(50)})
    for revision in ("v1", old.commit):
        dataset = fetched(revision=revision)
        assert dataset.version is not None and dataset.version.rows == 50
        assert dataset.request["source"]["commit"] == old.commit


def test_what_the_card_says_counts_more_than_names(hub: FakeDatasets, fetched: Fetched) -> None:
    card = {
        "configs": [
            {"config_name": "en", "default": True, "data_files": [
                {"split": "train", "path": "english/**"}, {"split": "test", "path": ["held/?_*.csv"]}]},
            {"config_name": "de", "data_dir": "german", "data_files": "*.csv"},
        ]
    }  # fmt: skip
    files = {
        "english/a/test.csv": csv(20),
        "english/b.csv": csv(10, "more"),
        "held/1_x.csv": csv(7, "held"),
        "held/README.csv": csv(40),
        "german/all.csv": csv(30, "deutsch"),
    }
    hub.offer("lab/reviews", files, cardData=card)
    assert splits(fetched()) | {"validation": 0} == {"train": 27, "validation": 0, "test": 7}
    dataset = fetched(config="de")
    assert dataset.version is not None and dataset.version.rows == 30
    assert dataset.request["source"]["config"] == "de"


def test_parquet_of_the_hub_is_taken_where_the_dataset_has_no_files_of_its_own(
    hub: FakeDatasets, fetched: Fetched
) -> None:
    hub.offer("lab/reviews", {"README.md": b"", "reviews.py": b"raise SystemExit", "1.jpg": b"x"})
    made = {
        "default/train/0000.parquet": parquet(20),
        "default/train/0001.parquet": parquet(10, "more"),
        "default/test/0000.parquet": parquet(5, "test"),
    }
    converted = hub.offer_at("lab/reviews", CONVERTED, made)
    dataset = fetched()
    assert splits(dataset)["test"] == 5 and sum(splits(dataset).values()) == 35
    source = dataset.request["source"]
    assert source["files_commit"] == converted.commit != source["commit"]
    assert not any(asked.endswith(".py") for asked in hub.asked)


def test_one_split_is_taken_and_split_anew(hub: FakeDatasets, fetched: Fetched) -> None:
    hub.offer("lab/reviews", {"train-0.parquet": parquet(9), "unsupervised.parquet": parquet(40, "more")})
    dataset = fetched(split="train")
    assert dataset.version is not None and dataset.version.rows == 9
    assert not any(each["code"] == "split_left_out" for each in findings(dataset))
    told = findings(fetched())
    assert any(
        "what names no split, such as unsupervised.parquet is left out" in each["message"] for each in told
    )


def test_splits_of_other_names_are_left_out_and_told(hub: FakeDatasets, fetched: Fetched) -> None:
    files = {
        "c/train/0.parquet": parquet(20),
        "c/test/0.parquet": parquet(4, "t"),
        "c/extra/0.parquet": parquet(9),
    }
    hub.offer("lab/reviews", {})
    hub.offer_at("lab/reviews", CONVERTED, files)
    dataset = fetched()
    assert sum(splits(dataset).values()) == 24
    assert [each["code"] for each in findings(dataset) if "extra" in each["message"]] == ["split_left_out"]


def test_splits_that_are_called_after_ours_are_ours(hub: FakeDatasets, fetched: Fetched) -> None:
    files = {"c/train_sft/0.parquet": parquet(20), "c/test_sft/0.parquet": parquet(4, "t")}
    hub.offer("lab/reviews", {})
    hub.offer_at("lab/reviews", CONVERTED, files)
    assert splits(fetched())["test"] == 4


# -- the page ------------------------------------------------------------------------------------
def test_the_form_leads_to_the_dataset(hub: FakeDatasets, browser: Client) -> None:
    hub.offer("lab/reviews", THREE)
    assert "Dataset on the hub" in browser.get("/datasets/upload/").content.decode()
    answer = browser.post("/datasets/from-hub/", {"hub-dataset": " lab/reviews ", "hub-name": "Mine"})
    dataset = Dataset.objects.get()
    assert answer["Location"] == f"/datasets/{dataset.pk}/"
    assert (dataset.name, dataset.stage) == ("Mine", "waiting")
    assert "Waiting for a worker" in browser.get(answer["Location"]).content.decode()


def test_what_is_wrong_stands_beside_its_field(hub: FakeDatasets, browser: Client) -> None:
    hub.offer("lab/reviews", THREE)
    asked = {"hub-dataset": "lab/reviews", "hub-revision": "<b>v9"}
    answer = browser.post("/datasets/from-hub/", asked)
    page = answer.content.decode()
    assert answer.status_code == 422 and not Dataset.objects.exists()
    assert "lab/reviews has no revision “&lt;b&gt;v9”." in page and "<b>v9" not in page
    assert 'value="lab/reviews"' in page and 'id="id_hub-revision_error"' in page
    assert browser.post("/datasets/from-hub/", {}).status_code == 422


def test_a_viewer_may_not(hub: FakeDatasets, viewer: User, workspace: Workspace) -> None:
    client = Client()
    client.force_login(viewer)
    assert client.post("/datasets/from-hub/", {"hub-dataset": "lab/reviews"}).status_code == 403
    secret = ApiToken.issue(viewer, workspace, "test")[1]
    answer = Client(headers={"Authorization": f"Bearer {secret}"}).post(
        URL, {"dataset": "lab/reviews"}, "application/json"
    )
    assert answer.status_code == 403 and hub.asked == []


# -- refused before anything is fetched ----------------------------------------------------------
REFUSED: list[tuple[dict[str, Any], dict[str, bytes], str, str]] = [
    ({"dataset": "lab/nothing"}, THREE, "dataset", "The hub has no public dataset “lab/nothing”"),
    ({"dataset": "../../etc/passwd"}, THREE, "dataset", "is not a dataset’s name"),
    ({"dataset": "http://127.0.0.1:22/x"}, THREE, "dataset", "is not a dataset’s name"),
    ({"dataset": " "}, THREE, "dataset", "is not a dataset’s name"),
    ({"revision": "v9"}, THREE, "revision", "has no revision “v9”"),
    ({"revision": "../../../api/models/x/y"}, THREE, "revision", "has no revision"),
    ({"config": "de"}, THREE, "config", "has no folder “de”"),
    ({"split": "unsupervised"}, THREE, "split", "There are: “test”, “train”, “validation”"),
    ({}, {"data.py": b"x", "1.jpg": b"x"}, "dataset", "no files that can be read here"),
    ({}, {".hidden/train.csv": b"a", "README.txt": b"x"}, "dataset", "no files that can be read here"),
    ({}, {"a/dev.csv": csv(9), "b/test.csv": csv(9)}, "split", "choose one of “test”, “validation”"),
    ({"task": "no-such"}, THREE, "task", "There is no task"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "files", "field", "reason"), REFUSED, ids=[each[3] for each in REFUSED])
def test_what_cannot_be_taken_says_why(
    said: dict[str, Any], files: dict[str, bytes], field: str, reason: str, hub: FakeDatasets, script: Client
) -> None:
    hub.offer("lab/reviews", files)
    assert reason in refused(script, **said)[field]
    assert not any("GET" in asked and "/resolve/" in asked for asked in hub.asked)


def test_several_configurations_are_named(hub: FakeDatasets, script: Client) -> None:
    configs = [{"config_name": name, "data_files": f"{name}/*"} for name in ("en", "de")]
    hub.offer("lab/reviews", {"en/a.csv": csv(9), "de/a.csv": csv(9)}, cardData={"configs": configs})
    assert "choose one of “en”, “de”" in refused(script)["config"]
    assert "There are: “en”, “de”" in refused(script, config="fr")["config"]


def test_a_gated_dataset_says_whose_terms_stand_before_it(hub: FakeDatasets, script: Client) -> None:
    hub.offer("lab/reviews", THREE, gated=True)
    assert "lab/reviews is gated" in refused(script)["dataset"]


def test_size_and_quota_are_looked_at_before_a_byte_comes(
    hub: FakeDatasets, script: Client, settings: Any, workspace: Workspace
) -> None:
    hub.offer("lab/reviews", THREE)
    settings.UPLOAD_MAX_BYTES = 100
    assert "this server takes up to 100" in refused(script, status=413)["dataset"]
    settings.UPLOAD_MAX_BYTES = 10**9
    settings.WORKSPACE_QUOTA_BYTES = sum(map(len, THREE.values())) + 100
    assert script.post(URL, {"dataset": "lab/reviews"}, "application/json").status_code == 201
    assert held_bytes(workspace) == sum(len(data) for name, data in THREE.items() if "README" not in name)
    answer = script.post(URL, {"dataset": "lab/reviews"}, "application/json")
    assert answer.status_code == 413 and "this workspace may keep" in answer.json()["error"]["message"]
    assert Dataset.objects.count() == 1


def test_too_many_files_are_refused(hub: FakeDatasets, script: Client) -> None:
    hub.offer("lab/reviews", {f"train-{n}.csv": b"a" for n in range(501)})
    assert "501 files; at most 500" in refused(script)["dataset"]


@pytest.mark.parametrize(
    "card",
    [7, [1], {"configs": 7}, {"configs": [7, {}, {"config_name": 3}]}, {"configs": [{"config_name": "a"}]},
     {"configs": [{"config_name": "a", "data_files": {"x": 1}}]},
     {"configs": [{"config_name": "a", "data_files": [{"split": "train", "path": [None, 3]}]}]}],
    ids=lambda card: json.dumps(card)[:60],
)  # fmt: skip
def test_a_card_of_nonsense_counts_as_none(card: Any, hub: FakeDatasets, fetched: Fetched) -> None:
    hub.offer("lab/reviews", THREE, cardData=card)
    assert splits(fetched()) == {"train": 20, "validation": 6, "test": 8}


@pytest.mark.timeout(20)
def test_a_pattern_that_is_made_to_take_for_ever_does_not(hub: FakeDatasets, script: Client) -> None:
    pattern = "/".join(["**", "*a*a*a*a*a*b"] * 200)
    card = {"configs": [{"config_name": "a", "data_files": pattern}]}
    hub.offer("lab/reviews", {"/".join(["a" * 100] * 50) + ".csv": csv(9)}, cardData=card)
    assert "no files that can be read" in refused(script)["dataset"]


# -- no hub --------------------------------------------------------------------------------------
def test_without_a_hub_there_is_a_sentence(hub: FakeDatasets, script: Client, browser: Client) -> None:
    hub.close()
    assert "upload its files instead" in refused(script)["dataset"]
    page = browser.post("/datasets/from-hub/", {"hub-dataset": "lab/reviews"}).content.decode()
    assert "The hub did not give “lab/reviews”" in page


def test_offline_mode_is_obeyed(hub: FakeDatasets, script: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused(script)
    assert hub.asked == []


@pytest.mark.parametrize(
    "answer",
    [b"<html>", b"{}", b"[1]", b'{"id": "a/b", "tags": 7}', b'{"id": "../x", "sha": "%s"}' % (b"a" * 40),
     b'{"id": "a/b", "sha": "../../x"}'],
)  # fmt: skip
def test_what_is_no_hub_counts_as_none(answer: bytes, hub: FakeDatasets, script: Client) -> None:
    hub.instead = answer
    answered = script.post(URL, {"dataset": "lab/reviews"}, "application/json")
    assert answered.status_code == 422 and not Dataset.objects.exists()
