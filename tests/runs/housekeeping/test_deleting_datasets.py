"""Deleting a dataset: its files go whatever storage says, and runs keep telling the truth about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from runs import lifecycle
from runs.housekeeping.orphans import find_orphans
from runs.housekeeping.removal import remove_due
from runs.launch import LaunchError, launch
from runs.models import Run, StorageRemoval
from tests.runs.conftest import Lab, Script, text_of
from webapp import storage
from webapp.catalog.models import BaseModel
from webapp.datasets.models import Dataset, DatasetVersion

from .conftest import keys, remove_now


@pytest.fixture
def files(lab: Lab, write: Callable[..., str]) -> str:
    """The dataset's files in storage; returns their prefix."""
    prefix = f"datasets/{lab.dataset.pk}"
    for name in ("uploads/0.csv", "versions/aaaa/train-00000-of-00001.parquet", "previews/aaaa/0.png"):
        write(f"{prefix}/{name}")
    return prefix


def delete(browser: Client, lab: Lab) -> str:
    """What the page says then."""
    answer = browser.post(f"/datasets/{lab.dataset.pk}/delete/", follow=True)
    assert answer.status_code == 200
    return text_of(answer.content.decode())


def test_its_files_go_within_seconds_and_nobody_elses(
    lab: Lab, browser: Client, files: str, write: Callable[..., str]
) -> None:
    neighbour = write(f"{files}1/uploads/0.csv")
    said = delete(browser, lab)
    assert "“Reviews” is deleted. Its files leave storage within seconds" in said
    assert not Dataset.objects.exists() and not DatasetVersion.objects.exists()
    assert remove_due() == 1
    assert keys() == [neighbour]


def test_files_stay_nowhere_though_storage_refuses_for_long(
    lab: Lab, browser: Client, files: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(prefix: str) -> None:
        raise OSError(5, "Slow Down")

    with monkeypatch.context() as away:
        away.setattr(storage, "delete_under", refuse)
        delete(browser, lab)
        for _ in range(5):
            StorageRemoval.objects.update(due_at=timezone.now())
            assert remove_due() == 0
    waiting = StorageRemoval.objects.get()
    assert "Slow Down" in waiting.error and waiting.tries == 5 and len(keys(files)) == 3
    assert find_orphans(now=timezone.now() + timedelta(days=30)) == [], "it has an owner until then"
    remove_now()
    assert keys(files) == []


def test_what_an_inspection_stores_afterwards_goes_an_hour_later(
    lab: Lab, browser: Client, files: str, write: Callable[..., str]
) -> None:
    delete(browser, lab)
    assert remove_due() == 1
    write(f"{files}/versions/aaaa/late.parquet")
    remove_now()
    assert keys(files) == []


@pytest.mark.parametrize("status", ["queued", "running", "paused"])
def test_a_dataset_that_a_run_still_needs_is_not_deleted(
    lab: Lab, browser: Client, script: Script, files: str, status: str
) -> None:
    lab.run(name="Needs it", status=status)
    lab.run(name="Is over", status="succeeded")
    said = delete(browser, lab)
    assert (
        "“Reviews” cannot be deleted yet: “Needs it” still needs it. Cancel it, or wait until it is over."
        in said
    )
    refused = script.client.delete(f"/api/v1/datasets/{lab.dataset.pk}")
    assert refused.status_code == 409 and refused.json()["error"]["code"] == "in_use"
    assert Dataset.objects.exists() and not StorageRemoval.objects.exists() and len(keys(files)) == 3
    Run.objects.filter(name="Needs it").update(status="cancelled")
    assert script.client.delete(f"/api/v1/datasets/{lab.dataset.pk}").status_code == 204


def test_of_many_that_need_it_some_are_named(lab: Lab, browser: Client) -> None:
    for number in range(5):
        lab.run(name=f"Run {number}")
    assert "“Run 0”, “Run 1”, “Run 2” and others still need it. Cancel them" in delete(browser, lab)


def test_a_run_that_used_it_says_that_it_is_gone_and_offers_nothing_that_needs_it(
    lab: Lab, browser: Client, script: Script, ended: Callable[..., Run]
) -> None:
    failure = {"code": "crashed", "message": "It crashed.", "hint": ""}
    run = ended(status="failed", failure=failure, method="full", settings={"num_train_epochs": 3.0})
    before = browser.get(f"/runs/{run.pk}/")["HX-PTag"]
    assert f"/runs/{run.pk}/retry/" in browser.get(f"/runs/{run.pk}/").content.decode()
    delete(browser, lab)
    answer = browser.get(f"/runs/{run.pk}/")
    html, shown = answer.content.decode(), text_of(answer.content.decode())
    assert answer["HX-PTag"] != before, "a page that is open hears of it"
    assert "Reviews (deleted)" in shown
    assert "The dataset “Reviews” was deleted by anna: the results stay" in shown
    assert f"/runs/{run.pk}/retry/" not in html and f"/runs/{run.pk}/extend/" not in html
    for action in ("retry", "extend"):
        refused = script.post(
            f"runs/{run.pk}/{action}", {"num_train_epochs": 9} if action == "extend" else None
        )
        assert refused.status_code == 409, refused.content
        assert "its dataset “Reviews” has been deleted" in refused.json()["error"]["message"]
    assert Run.objects.get(pk=run.pk).status == "failed"


def test_a_cancelled_run_is_not_tried_again_without_its_dataset(lab: Lab, browser: Client) -> None:
    run = lab.run(status="cancelled")
    delete(browser, lab)
    with pytest.raises(lifecycle.NotAllowed, match="its dataset “Reviews” has been deleted"):
        lifecycle.retry(run.pk, lab.member)


@pytest.mark.django_db(transaction=True)
def test_a_launch_that_loses_against_the_deletion_says_so(transactional_db: None, lab: Lab) -> None:
    model = BaseModel.objects.get(slug="all-minilm-l6-v2")
    version = DatasetVersion.objects.select_related("dataset").get(pk=lab.version.pk)
    lab.dataset.delete()  # after the form was checked
    with pytest.raises(LaunchError) as refused:
        launch(
            workspace=lab.workspace, user=lab.member, base_model=model, version=version,
            task="text-classification", method="head", columns={"text": "review", "label": "stars"},
        )  # fmt: skip
    assert refused.value.fields == {"dataset": "Reviews has just been deleted."}
    assert not Run.objects.exists()
