"""The form of a new run offers only what goes together, explains the rest, and keeps what was typed."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.test import Client

from runs.models import Run, Worker
from runs.training.tasks import all_tasks, get_task
from webapp.catalog.models import BaseModel
from webapp.datasets.models import Dataset, DatasetVersion

from .conftest import Lab, text_of

URL = "/runs/new/"


@pytest.fixture
def pictures(lab: Lab) -> Dataset:
    dataset = Dataset.objects.create(workspace=lab.workspace, name="Photos", status="ready")
    dataset.version = DatasetVersion.objects.create(
        dataset=dataset,
        content_hash="b" * 64,
        storage_prefix="p",
        size_bytes=1,
        rows=9,
        splits={"train": 7, "validation": 1, "test": 1},
        columns=[
            {"name": "photo", "kind": "image", "nulls": 0},
            {"name": "kind", "kind": "label", "nulls": 0, "distinct": 2, "names": ["a", "b"]},
        ],
    )
    dataset.save()
    return dataset


def show(browser: Client, **query: Any) -> str:
    answer = browser.get(URL, query)
    assert answer.status_code == 200
    return answer.content.decode()


def offered(page: str, name: str) -> list[str]:
    return re.findall(rf'type="radio" name="{name}" value="([^"]+)"', page)


def chosen(page: str, name: str) -> list[str]:
    return re.findall(rf'type="radio" name="{name}" value="([^"]+)" checked', page)


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


def test_what_cannot_be_trained_is_not_offered_and_the_page_says_why(browser: Client, lab: Lab) -> None:
    page = show(browser)
    assert "tiny" in offered(page, "model") and "glove-6b-50d" not in offered(page, "model")
    assert "nothing here trains word vectors yet" in page


def test_a_model_narrows_the_datasets(browser: Client, lab: Lab, pictures: Dataset) -> None:
    everything = show(browser)
    assert {str(lab.dataset.pk), str(pictures.pk)} == set(offered(everything, "dataset"))
    page = show(browser, model="efficientnet-lite0")
    assert offered(page, "dataset") == [str(pictures.pk)]
    assert "the model needs a column of images" in page


def test_choosing_both_suggests_task_columns_and_method(browser: Client, lab: Lab) -> None:
    page = show(browser, model="tiny", dataset=lab.dataset.pk)
    assert chosen(page, "task") == ["text-classification"] and chosen(page, "method") == ["head"]
    assert '<option value="review" selected>' in page and '<option value="stars" selected>' in page
    assert "the quickest one where there is no GPU" in page
    assert re.search(r"<button[^>]*type=\"submit\">.*?Launch", page, re.S)


def test_a_dataset_that_does_not_fit_is_taken_out_with_a_reason(
    browser: Client, lab: Lab, pictures: Dataset
) -> None:
    page = show(browser, model="tiny", dataset=pictures.pk)
    assert "“Photos” does not fit the model “Tiny”" in html.unescape(page)
    assert chosen(page, "dataset") == [] and "Choose a dataset." in page


@pytest.mark.parametrize("method", ["full", "last_layers", "lora", "head"])
def test_each_setting_is_explained_and_has_its_default(browser: Client, lab: Lab, method: str) -> None:
    page = html.unescape(show(browser, model="tiny", dataset=lab.dataset.pk, method=method))
    task = next(task for task in all_tasks() if task.slug == "text-classification")
    for item in task.settings_for(method):
        assert f'name="settings-{item.name}"' in page and item.title in page
        assert item.help.rstrip(".") in page, f"{item.name} is explained"
        default = item.default_for(method)
        if item.type in ("int", "float") and default is not None:
            found = re.search(rf'name="settings-{item.name}" value="([^"]*)"', page)
            assert found and float(found[1]) == default, item.name


def test_a_change_is_answered_with_the_form_alone(browser: Client, lab: Lab) -> None:
    data = {**choices(lab, method="lora"), "step": "choose"}
    fragment = browser.post(URL, data, headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in fragment and chosen(fragment, "method") == ["lora"]
    assert 'name="settings-lora_r"' in fragment
    assert not Run.objects.exists()
    without_scripts = browser.post(URL, data).content.decode()
    assert "<html" in without_scripts and chosen(without_scripts, "method") == ["lora"]


def test_the_fragment_is_that_part_of_the_page(browser: Client, lab: Lab) -> None:
    def form_of(answer: bytes) -> str:
        html = re.sub(r'(name="csrfmiddlewaretoken" value=")[^"]+', r"\1", answer.decode())
        form = html[html.index('<form id="new-run"') :]
        return form[: form.index("</form>")]

    data = {**choices(lab, method="full", name="Kept", **{"settings-seed": "7"}), "step": "choose"}
    page = browser.post(URL, data).content
    fragment = browser.post(URL, data, headers={"HX-Request": "true"}).content
    assert form_of(fragment) == form_of(page)
    assert 'value="Kept"' in form_of(fragment) and 'name="settings-seed" value="7"' in form_of(fragment)


def test_what_was_only_the_default_of_the_method_before_is_not_kept(browser: Client, lab: Lab) -> None:
    task = get_task("text-classification")
    rate = next(item for item in task.settings if item.name == "learning_rate")
    assert rate.default_for("full") != rate.default_for("lora")
    shown = {"shown_method": "full", "settings-learning_rate": str(rate.default_for("full"))}
    data = {**choices(lab, method="lora", **shown, **{"settings-seed": "7"}), "step": "choose"}
    page = browser.post(URL, data).content.decode()
    assert re.search(rf'name="settings-learning_rate" value="{rate.default_for("lora")}"', page)
    assert re.search(r'name="settings-seed" value="7"', page), "but what was typed is"


@pytest.mark.parametrize("changed", [{"method": "lora"}, {"shown_task": "image-classification"}])
def test_settings_that_nobody_has_seen_are_shown_before_they_are_launched(
    browser: Client, lab: Lab, changed: dict[str, str]
) -> None:
    data = {**choices(lab, name="Kept"), **changed}
    page = browser.post(URL, data).content.decode()
    assert not Run.objects.exists() and "Not launched yet" in page and 'value="Kept"' in page
    seen = dict(re.findall(r'type="hidden" name="(shown_\w+)" value="([^"]+)"', page))
    assert browser.post(URL, {**data, **seen}).status_code == 302
    assert Run.objects.get().method == data["method"]


def test_changed_advanced_settings_are_not_folded_away(browser: Client, lab: Lab) -> None:
    def details(**query: Any) -> str:
        page = show(browser, model="tiny", dataset=lab.dataset.pk, method="full", **query)
        found = re.search(r'<details class="advanced"[^>]*>', page)
        assert found
        return found[0]

    task = get_task("text-classification")
    advanced = next(item for item in task.settings_for("full") if item.advanced and item.type == "int")
    assert not details().endswith(" open>")
    run = lab.run(method="full", settings={advanced.name: advanced.default + 1})
    assert details(**{"from": run.pk}).endswith(" open>")


def test_it_says_how_much_there_is_to_do_and_who_could_do_it(browser: Client, lab: Lab) -> None:
    page = text_of(show(browser, model="tiny", dataset=lab.dataset.pk, method="full"))
    assert re.search(r"Train rows 48 .* Optimiser steps about \d", page) and "No worker is online" in page
    queues = ["cpu", "gpu1"]
    Worker.objects.create(name="h:/w", host="h", pid=1, queues=queues, slots=1, devices=[{"name": "H200"}])
    with_gpu = show(browser, model="tiny", dataset=lab.dataset.pk)
    assert "1 worker online" in with_gpu and chosen(with_gpu, "method") == ["lora"], "48 rows, with a GPU"


def test_a_model_that_is_not_installed_is_not_offered(browser: Client, lab: Lab) -> None:
    lab.model.details = {"missing": "Install the package x on every worker."}
    lab.model.save()
    page = show(browser, model="tiny", dataset=lab.dataset.pk)
    assert "tiny" not in offered(page, "model") and chosen(page, "model") == []
    assert "it is not installed: install the package x on every worker." in page


def test_without_a_dataset_it_leads_to_one(browser: Client, lab: Lab) -> None:
    Dataset.objects.all().delete()
    page = show(browser, model="tiny")
    assert "There is no dataset yet." in page and 'href="/datasets/"' in page
    assert "Choose a dataset." in page and chosen(page, "model") == ["tiny"]


def test_datasets_that_are_not_ready_are_not_offered(browser: Client, lab: Lab) -> None:
    Dataset.objects.update(status="inspecting")
    assert offered(show(browser, model="tiny", dataset=lab.dataset.pk), "dataset") == []
    assert browser.post(URL, choices(lab)).status_code == 200 and not Run.objects.exists()


def test_launching_leads_to_the_run(browser: Client, lab: Lab) -> None:
    data = choices(lab, name="By hand", **{"settings-seed": "7", "settings-max_length": ""})
    answer = browser.post(URL, data)
    run = Run.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, f"/runs/{run.pk}/")
    assert (run.name, run.settings["seed"], run.status) == ("By hand", 7, "queued")
    assert run.settings["max_length"] > 0


def test_mistakes_stand_beside_their_fields_and_nothing_typed_is_lost(browser: Client, lab: Lab) -> None:
    data = choices(lab, name="Keep me", **{"settings-seed": "often", "settings-max_length": "0"})
    page = html.unescape(browser.post(URL, data).content.decode())
    assert not Run.objects.exists()
    for name, said in (("seed", "Type a whole number"), ("max_length", "At least")):
        field = page.split(f'id="id_settings-{name}_field"', 1)[1].split('class="form-field', 1)[0]
        assert said in field and "form-error" in field, name
        assert 'aria-invalid="true"' in field
    assert 'value="often"' in page and 'value="Keep me"' in page
    assert "please look at the marked fields" in page


def test_what_only_the_launch_finds_stands_beside_its_field_too(browser: Client, lab: Lab) -> None:
    page = html.unescape(browser.post(URL, choices(lab, **{"columns-label": "same"})).content.decode())
    assert (
        "has one value only"
        in page.split('id="id_columns-label_field"', 1)[1].split('class="form-field', 1)[0]
    )


def test_nothing_chosen_says_what_to_choose(browser: Client, lab: Lab) -> None:
    page = browser.post(URL, {"model": "gone", "dataset": "x"}).content.decode()
    assert "Choose a model." in page and not Run.objects.exists()


def test_a_run_can_be_made_again_with_changes(browser: Client, lab: Lab) -> None:
    run = lab.run(method="lora", settings={"seed": 99, "lora_r": 4}, status="succeeded")
    page = show(browser, **{"from": run.pk})
    assert "Starts from the choices of" in page and chosen(page, "method") == ["lora"]
    assert re.search(r'name="settings-lora_r" value="4"', page)
    assert re.search(r'name="settings-seed" value="99"', page)


def test_things_of_others_are_neither_offered_nor_taken(browser: Client, lab: Lab) -> None:
    theirs = Dataset.objects.create(workspace=lab.stranger.workspaces.get(), name="Secret", status="ready")
    theirs.version = DatasetVersion.objects.create(
        dataset=theirs,
        content_hash="c" * 64,
        storage_prefix="q",
        size_bytes=1,
        rows=9,
        splits={"train": 9},
        columns=lab.version.columns,
    )
    theirs.save()
    assert "Secret" not in show(browser, model="tiny", dataset=theirs.pk)
    page = browser.post(URL, choices(lab, dataset=theirs.pk)).content.decode()
    assert "Secret" not in page and not Run.objects.exists()
    model = {"slug": "theirs", "name": "Hidden", "kind": "text-encoder", "workspace": theirs.workspace}
    BaseModel.objects.create(**model, source="folder", reference="/x")
    run = lab.run(workspace=theirs.workspace, name="Their run", method="lora")
    for query in ({"model": "theirs"}, {"from": run.pk}):
        page = show(browser, **query)
        assert "Hidden" not in page and "Their run" not in page and chosen(page, "model") == []
    assert browser.post(URL, choices(lab, model="theirs")).status_code == 200
    assert Run.objects.count() == 1


def test_a_viewer_may_not(lab: Lab) -> None:
    client = Client()
    client.force_login(lab.viewer)
    assert client.get(URL).status_code == 403
    assert client.post(URL, choices(lab)).status_code == 403
