"""What a run said of its test rows becomes a dataset, from its page and from scripts."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.test import Client

from runs.models import Artifact, Run
from runs.training.events import PREDICTIONS
from webapp import storage
from webapp.datasets.inspection import run_inspection
from webapp.datasets.models import Dataset

from .conftest import Lab, Script, text_of


@pytest.fixture
def finished(lab: Lab, tmp_path: Path) -> Run:
    """A run that has succeeded, with its predictions as the training program writes them."""
    from datasets import ClassLabel, Features, Value
    from datasets import Dataset as Rows

    from runs.training import predictions
    from runs.training.context import Context
    from runs.training.spec import DatasetRef, ModelRef, RunSpec

    run = lab.run(status="succeeded", metrics={"accuracy": 0.9})
    features = Features({"review": Value("string"), "stars": ClassLabel(names=["bad", "good"])})
    labels = [number % 2 for number in range(30)]
    rows = Rows.from_dict(
        {"review": [f"review number {n}" for n in range(30)], "stars": labels}, features=features
    )
    logits = np.array([[1.0, -1.0] if number % 3 else [-1.0, 1.0] for number in range(30)])
    workdir = tmp_path / "work"
    workdir.mkdir()
    model = ModelRef("tiny", "text-encoder", "folder", "/nowhere")
    spec = RunSpec(
        run_id=str(run.pk),
        attempt=1,
        task=run.task,
        method="head",
        model=model,
        dataset=DatasetRef("Reviews", "/nowhere", "0" * 64, {}),
        columns=run.columns,
        settings={},
        cache_dir=str(tmp_path),
    )
    said = predictions.of_classes(rows, labels, ["bad", "good"], logits)
    path = predictions.write(Context(workdir, spec, silent=True), "test", rows, said)
    for name, data in ((PREDICTIONS, path.read_bytes()), ("model.safetensors", b"weights")):
        key = f"runs/{run.pk}/artifacts/attempt-1/{name}"
        (tmp_path / "file").write_bytes(data)
        storage.put(tmp_path / "file", key)
        digest = hashlib.sha256(data).hexdigest()
        Artifact.objects.create(run=run, name=name, storage_key=key, size=len(data), sha256=digest)
    return run


@pytest.fixture(autouse=True)
def no_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker runs in these tests."""
    monkeypatch.setattr("webapp.datasets.intake.publish", lambda *_: True)


def test_the_button_leads_to_a_dataset_of_rows_with_what_was_said(
    finished: Run, browser: Client, lab: Lab
) -> None:
    page = browser.get(f"/runs/{finished.pk}/").content.decode()
    assert "Make a dataset of these predictions" in text_of(page)
    answer = browser.post(f"/runs/{finished.pk}/predictions/dataset/")
    dataset = Dataset.objects.exclude(pk=lab.dataset.pk).get()
    assert answer["Location"] == f"/datasets/{dataset.pk}/"
    run_inspection(dataset.pk, "test")
    dataset.refresh_from_db()
    assert (dataset.status, dataset.name) == ("ready", f"Predictions of {finished.name}"), dataset.problems
    assert dataset.version is not None and dataset.version.rows == 30
    kinds = {column["name"]: column["kind"] for column in dataset.version.columns}
    assert kinds == {
        "review": "text", "stars": "label", "prediction": "label", "score": "float", "right": "boolean",
    }  # fmt: skip
    names = {column["name"]: column.get("names") for column in dataset.version.columns}
    assert names["prediction"] == names["stars"] == ["bad", "good"]
    assert dataset.version.suggested["columns"] == {"text": "review", "label": "stars"}
    shown = text_of(browser.get(f"/datasets/{dataset.pk}/").content.decode())
    assert f"Predictions of a run {finished.name}" in shown


def test_what_was_said_is_beside_the_row_it_was_said_of(
    finished: Run, script: Script, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    answer = script.post(f"runs/{finished.pk}/predictions/dataset")
    assert answer.status_code == 201
    assert answer.json()["source"] == {
        "kind": "predictions", "run": finished.pk, "name": finished.name, "dataset": finished.dataset_name,
    }  # fmt: skip
    run_inspection(answer.json()["id"], "test")
    version = Dataset.objects.get(pk=answer.json()["id"]).version
    assert version is not None
    found: list[dict[str, Any]] = []
    for split in version.splits:
        storage.get(f"{version.storage_prefix}/{split}-00000-of-00001.parquet", tmp_path / split)
        found += pq.read_table(tmp_path / split).to_pylist()
    by_text = {row["review"]: row for row in found}
    for number in range(30):
        row = by_text[f"review number {number}"]
        said = 0 if number % 3 else 1
        assert (row["prediction"], row["right"]) == (said, said == number % 2)
        assert row["score"] == pytest.approx(1 / (1 + np.exp(-2)), rel=1e-5)


def test_deleting_the_run_leaves_the_dataset(finished: Run, script: Script) -> None:
    made = script.post(f"runs/{finished.pk}/predictions/dataset").json()["id"]
    storage.delete_under(f"runs/{finished.pk}")
    run_inspection(made, "test")
    assert Dataset.objects.get(pk=made).status == "ready"
    answer = script.post(f"runs/{finished.pk}/predictions/dataset")
    assert answer.status_code == 409 and "keeps no predictions" in answer.json()["error"]["message"]


def test_rows_are_no_part_of_the_model_that_people_pass_on(finished: Run, browser: Client) -> None:
    answer = browser.get(f"/runs/{finished.pk}/model.zip")
    packed = b"".join(answer.streaming_content)  # type: ignore[attr-defined]
    assert b"model.safetensors" in packed and PREDICTIONS.encode() not in packed
    assert browser.get(f"/runs/{finished.pk}/files/{PREDICTIONS}").status_code == 200


def test_a_run_without_predictions_has_no_button_and_says_why(lab: Lab, browser: Client) -> None:
    run = lab.run(status="succeeded", metrics={"accuracy": 0.9})
    assert "Make a dataset" not in text_of(browser.get(f"/runs/{run.pk}/").content.decode())
    page = browser.post(f"/runs/{run.pk}/predictions/dataset/", follow=True).content.decode()
    assert "This run keeps no predictions" in page


def test_a_viewer_may_not(finished: Run, lab: Lab) -> None:
    client = Client()
    client.force_login(lab.viewer)
    assert "Make a dataset" not in text_of(client.get(f"/runs/{finished.pk}/").content.decode())
    assert client.post(f"/runs/{finished.pk}/predictions/dataset/").status_code == 403
    watching = Script(lab.viewer, lab.workspace)
    assert watching.post(f"runs/{finished.pk}/predictions/dataset").status_code == 403
    assert Dataset.objects.count() == 1


def test_the_quota_counts(finished: Run, script: Script, settings: Any) -> None:
    settings.WORKSPACE_QUOTA_BYTES = 10
    answer = script.post(f"runs/{finished.pk}/predictions/dataset")
    assert answer.status_code == 413 and Dataset.objects.count() == 1
