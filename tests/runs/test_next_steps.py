"""Each reason that a run can fail for has a next step, which is a button on its page and an action in the API."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.test import Client

from runs.models import Checkpoint, Run
from runs.training.events import FAILURE_CODES

from .conftest import Lab, Script, text_of

SETTINGS = {
    "learning_rate": 0.0002, "per_device_train_batch_size": 32, "gradient_accumulation_steps": 1,
    "per_device_eval_batch_size": 64, "max_length": 256, "num_train_epochs": 3.0, "seed": 42,
}  # fmt: skip


@pytest.fixture
def failed(lab: Lab) -> Any:
    def make(code: str, details: dict[str, Any] | None = None, **values: Any) -> Run:
        failure = {"code": code, "message": "It went wrong.", "hint": "Mend it.", "details": details or {}}
        return lab.run(
            **{"status": "failed", "method": "full", "settings": SETTINGS, "failure": failure, **values}
        )

    return make


def box_of(browser: Client, run: Run) -> str:
    page = browser.get(f"/runs/{run.pk}/").content.decode()
    return re.search(r'<section class="failure-box".*?</section>', page, re.S)[0]  # type: ignore[index]


def links(box: str) -> dict[str, str]:
    """{words of a button: where it leads}; forms by their address."""
    found = re.findall(r'<a class="btn[^"]*" href="([^"]*)">(.*?)</a>', box, re.S)
    found += re.findall(r'<form method="post" action="([^"]*)">.*?<button[^>]*>(.*?)</button>', box, re.S)
    return {re.sub(r"<[^>]+>", "", words).strip(): html.unescape(url) for url, words in found}


def typed(page: str, name: str) -> str:
    found = re.search(rf'name="settings-{name}" value="([^"]*)"', page)
    assert found, name
    return found[1]


@pytest.mark.parametrize("code", FAILURE_CODES)
def test_every_reason_has_a_button_and_the_same_in_the_api(
    browser: Client, script: Script, failed: Any, code: str
) -> None:
    run = failed(code)
    buttons = links(box_of(browser, run))
    actions = script.get(f"runs/{run.pk}").json()["failure"]["actions"]
    assert buttons and [action["title"] for action in actions] == [
        words for action in actions for words in buttons if words == action["title"]
    ]
    assert len(actions) == len(buttons)
    for action in actions:
        assert action["url"].startswith("http://testserver/")
        if action["method"] == "GET":
            path = action["url"].removeprefix("http://testserver")
            assert browser.get(path).status_code == 200, path


def test_lack_of_memory_leads_to_a_run_with_half_the_batch_and_the_same_result(
    browser: Client, failed: Any
) -> None:
    run = failed("out_of_memory")
    address = links(box_of(browser, run))["Try with half the batch"]
    page = browser.get(address).content.decode()
    assert float(typed(page, "per_device_train_batch_size")) == 16
    assert float(typed(page, "gradient_accumulation_steps")) == 2
    assert float(typed(page, "learning_rate")) == 0.0002, "the rest is as in the run that failed"
    run.refresh_from_db()
    assert run.settings == SETTINGS, "a run is never changed in place"


def test_lack_of_memory_at_a_batch_of_one_shortens_the_texts(browser: Client, failed: Any) -> None:
    run = failed("out_of_memory", settings={**SETTINGS, "per_device_train_batch_size": 1})
    page = browser.get(links(box_of(browser, run))["Try with half the length"]).content.decode()
    assert typed(page, "max_length") == "128"


def test_divergence_leads_to_a_run_with_a_tenth_of_the_learning_rate(browser: Client, failed: Any) -> None:
    run = failed("diverged")
    page = browser.get(links(box_of(browser, run))["Try with the learning rate 2e-05"]).content.decode()
    assert float(typed(page, "learning_rate")) == 2e-05


def test_a_bad_row_can_be_opened(browser: Client, script: Script, failed: Any, lab: Lab) -> None:
    run = failed("bad_data", {"split": "train", "row": 1234, "column": "re&view"})
    where = f"/datasets/{lab.dataset.pk}/?version=1&split=train&row=1234&column=re%26view#row"
    assert links(box_of(browser, run))["Open row 1,234 of the train rows"] == where
    failure = script.get(f"runs/{run.pk}").json()["failure"]
    assert failure["details"] == {"split": "train", "row": 1234, "column": "re&view"}
    assert failure["actions"][0] == {
        "kind": "open_row",
        "title": "Open row 1,234 of the train rows",
        "method": "GET",
        "url": f"http://testserver{where}",
    }
    assert "Open row" not in box_of(browser, failed("bad_data", run.failure["details"], dataset_version=None))


def test_a_run_goes_on_from_its_last_checkpoint_by_a_click(
    browser: Client, script: Script, failed: Any
) -> None:
    run = failed("worker_lost")
    Checkpoint.objects.create(run=run, step=1200, storage_prefix="p", size_bytes=1)
    buttons = links(box_of(browser, run))
    assert buttons["Go on from step 1,200"] == f"/runs/{run.pk}/retry/"
    action = script.get(f"runs/{run.pk}").json()["failure"]["actions"][0]
    assert (action["kind"], action["method"]) == ("retry", "POST")
    assert action["url"] == f"http://testserver/api/v1/runs/{run.pk}/retry"
    browser.post(buttons["Go on from step 1,200"])
    run.refresh_from_db()
    assert run.status == "queued"


def test_a_missing_model_leads_to_the_choice_of_another(browser: Client, failed: Any, lab: Lab) -> None:
    address = links(box_of(browser, failed("model_unavailable")))["Choose another model"]
    page = browser.get(address).content.decode()
    assert f'value="{lab.dataset.pk}"' in page and "Choose a model." in page


def test_a_viewer_sees_where_it_went_wrong_and_changes_nothing(failed: Any, lab: Lab) -> None:
    viewer = Client()
    viewer.force_login(lab.viewer)
    box = box_of(viewer, failed("bad_data", {"split": "train", "row": 2, "column": "review"}))
    assert list(links(box)) == ["Open row 2 of the train rows"]
    assert links(box_of(viewer, failed("out_of_memory"))) == {}


def test_an_address_cannot_ask_for_what_the_form_does_not_have(browser: Client, failed: Any) -> None:
    run = failed("diverged")
    page = browser.get(
        f"/runs/new/?from={run.pk}&settings-learning_rate=%3Cscript%3E&settings-unheard_of=1"
    ).content.decode()
    assert "<script>&" not in page and "settings-unheard_of" not in page
    assert typed(page, "learning_rate") == "&lt;script&gt;"
    assert "It went wrong." in text_of(box_of(browser, run))
