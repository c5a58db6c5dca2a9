"""A run points at one version of its dataset: the current one, or the one that was chosen."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from runs.models import Run
from webapp.datasets.models import DatasetVersion

from .conftest import Lab, Script, text_of

URL = "/runs/new/"


@pytest.fixture
def older(lab: Lab) -> DatasetVersion:
    """Version 1 of the lab's dataset; 2, with fewer rows, is the one that new runs get."""
    older = lab.dataset.version
    assert older is not None
    newer = DatasetVersion.objects.get(pk=older.pk)
    newer.pk, newer.number, newer.content_hash, newer.rows = None, 2, "c" * 64, 5
    newer.parent, newer.change = older, {"op": "drop_rows", "says": "Dropped 5 rows of train."}
    newer.save()
    lab.dataset.version = newer
    lab.dataset.save()
    return older


def choices(lab: Lab, **changes: Any) -> dict[str, Any]:
    return {
        "model": "tiny",
        "dataset": lab.dataset.pk,
        "task": "text-classification",
        "method": "head",
        "shown_task": "text-classification",
        "shown_method": "head",
        "columns-text": "review",
        "columns-label": "stars",
        **changes,
    }


def test_the_form_offers_versions_and_launches_the_chosen_one(
    browser: Client, lab: Lab, older: DatasetVersion
) -> None:
    page = text_of(browser.get(URL, choices(lab)).content.decode())
    assert "Version 2 (usual): Dropped 5 rows of train." in page and "Version 1: as it was uploaded." in page
    chosen = browser.get(URL, choices(lab, version=f"{lab.dataset.pk}:1")).content.decode()
    assert f'<option value="{lab.dataset.pk}:1" selected>' in chosen
    browser.post(URL, choices(lab, version=f"{lab.dataset.pk}:1"))
    run = Run.objects.latest("pk")
    assert (run.dataset_version, run.dataset_hash) == (older, older.content_hash)
    again = browser.get(URL, {"from": run.pk}).content.decode()
    assert f'<option value="{lab.dataset.pk}:1" selected>' in again  # a copy stays with its version
    lab.dataset.refresh_from_db()
    assert lab.dataset.version != older


def test_a_version_of_another_dataset_is_passed_over(
    browser: Client, lab: Lab, older: DatasetVersion
) -> None:
    for odd in (f"{lab.dataset.pk + 1}:1", "1", ":", f"{lab.dataset.pk}:99", f"{lab.dataset.pk}:x", "9" * 40):
        page = browser.get(URL, choices(lab, version=odd)).content.decode()
        assert f'<option value="{lab.dataset.pk}:2" selected>' in page


def test_scripts_name_a_version_by_its_number(script: Script, lab: Lab, older: DatasetVersion) -> None:
    said = {"model": "tiny", "dataset": lab.dataset.pk, "method": "head"}
    assert script.post("runs", said).json()["dataset_version"] == 2
    made = script.post("runs", {**said, "version": 1})
    assert made.status_code == 201 and made.json()["dataset_version"] == 1
    assert made.json()["dataset_hash"] == older.content_hash
    wrong = script.post("runs", {**said, "version": 7})
    assert (wrong.status_code, list(wrong.json()["error"]["fields"])) == (422, ["dataset"])
