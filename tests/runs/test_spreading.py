"""On how many devices and hosts a run trains is chosen in the form or by the API, checked, and explained."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from runs.launch import LaunchError, launch
from runs.models import Run, Worker
from runs.repeating import repeat
from runs.spreading import Spread, batch_sentence, what_is_missing

from .conftest import Lab, Script, text_of
from .test_page_new_run import choices, show

URL = "/runs/new/"


def launched(lab: Lab, **choices: Any) -> Run:
    return launch(
        **{
            "workspace": lab.workspace,
            "user": lab.member,
            "base_model": lab.model,
            "version": lab.version,
            "method": "full",
            **choices,
        }
    )


def new_worker(number: int, gpus: int = 0) -> Worker:
    return Worker.objects.create(
        name=f"worker{number}",
        host=f"host{number}",
        pid=1,
        slots=max(1, gpus),
        devices=[{"index": n, "name": "H200", "memory_bytes": 1 << 37} for n in range(gpus)],
        queues=["cpu", *(f"gpu{n}" for n in (1, 2, 4, 8) if n <= gpus)],
    )


def test_a_run_is_alone_unless_it_is_asked_for_otherwise(lab: Lab) -> None:
    run = launched(lab)
    assert (run.nodes, run.processes, run.strategy, run.queue) == (1, 1, "", "cpu")


def test_devices_become_processes_that_are_queued_for_as_many_gpus(lab: Lab) -> None:
    run = launched(lab, devices=2, hosts=3)
    assert (run.nodes, run.processes, run.strategy, run.queue) == (3, 2, "ddp", "cpu")
    new_worker(1, gpus=8)
    run = launched(lab, devices=4, strategy="fsdp2")
    assert (run.nodes, run.processes, run.strategy, run.queue) == (1, 4, "fsdp2", "gpu4")
    assert run.world_size == 4


@pytest.mark.parametrize(
    ("chosen", "field", "said"),
    [
        ({"devices": 3}, "devices", "1, 2, 4 or 8"),
        ({"hosts": 0}, "hosts", "1 to 64 hosts"),
        ({"devices": 2, "strategy": "magic"}, "strategy", "ddp, fsdp2"),
        ({"devices": 2, "method": "head"}, "devices", "nothing to share out"),
        ({"hosts": 2, "method": "head"}, "hosts", "nothing to share out"),
        (
            {"devices": 2, "strategy": "fsdp2", "settings": {"ema_decay": 0.99}},
            "strategy",
            "Averaged weights need the whole model",
        ),
    ],
)
def test_what_cannot_be_is_said_beside_its_field(
    lab: Lab, chosen: dict[str, Any], field: str, said: str
) -> None:
    with pytest.raises(LaunchError) as refused:
        launched(lab, **chosen)
    assert said in refused.value.fields[field]
    assert not Run.objects.exists()


def test_a_copy_of_a_run_has_its_devices_unless_its_method_needs_but_one(lab: Lab) -> None:
    run = launched(lab, devices=2, hosts=2, strategy="fsdp2")
    again = repeat(run, lab.member)
    assert (again.nodes, again.processes, again.strategy) == (2, 2, "fsdp2")
    head = repeat(run, lab.member, method="head")
    assert (head.nodes, head.processes, head.strategy) == (1, 1, "")


def test_the_form_launches_on_the_devices_that_were_chosen(browser: Client, lab: Lab) -> None:
    spread = {"spread-devices": "2", "spread-hosts": "2", "spread-strategy": "fsdp2"}
    spread["settings-per_device_train_batch_size"] = "8"
    form = choices(lab, method="full", shown_method="full", **spread)
    page = browser.post(URL, {**form, "step": "choose"}).content.decode()
    assert "(8 a device × 2 devices × 2 hosts)" in text_of(page)
    assert "32 rows" in text_of(page)  # so that the 48 train rows are two steps an epoch
    answer = browser.post(URL, form)
    run = Run.objects.get()
    assert answer.status_code == 302
    assert (run.nodes, run.processes, run.strategy) == (2, 2, "fsdp2")


def test_a_method_that_has_nothing_to_share_says_so_and_is_refused(browser: Client, lab: Lab) -> None:
    page = show(browser, model="tiny", dataset=lab.dataset.pk, method="head")
    assert "there is nothing to share out" in text_of(page)
    answer = browser.post(URL, choices(lab, **{"spread-devices": "2"}))
    assert "computes features once, on one device" in text_of(answer.content.decode())
    assert not Run.objects.exists()


def test_the_page_warns_of_hosts_that_are_not_there(browser: Client, lab: Lab) -> None:
    new_worker(1)
    form = choices(lab, method="full", shown_method="full", step="choose", **{"spread-hosts": "2"})
    page = text_of(browser.post(URL, form).content.decode())
    assert "1 worker is online: the run waits until 2 are, on hosts that reach each other." in page
    new_worker(2)
    page = text_of(browser.post(URL, form).content.decode())
    assert "the run waits until" not in page


def test_what_is_missing_is_told_by_gpus() -> None:
    workers = [Worker(queues=["cpu", "gpu1", "gpu2"], slots=2), Worker(queues=["cpu", "gpu1"], slots=1)]
    assert what_is_missing(Spread(1, 2, "ddp"), workers) == ""
    assert what_is_missing(Spread(2, 2, "ddp"), workers).startswith("1 worker with 2 GPUs is online")
    assert what_is_missing(Spread(8, 1, "ddp"), workers).startswith("No worker with 8 GPUs is online")


def test_the_batch_of_a_step_is_shown_as_a_sum() -> None:
    values = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}
    assert batch_sentence(Spread(4, 1, "ddp"), values) == "64 rows (8 a device × 4 devices × 2 accumulated)"
    assert batch_sentence(Spread(), values) == ""


def test_a_script_says_it_with_three_fields(script: Script, lab: Lab) -> None:
    body = {"model": "tiny", "dataset": lab.dataset.pk, "method": "full", "devices": 2, "hosts": 2}
    answer = script.post("runs", body)
    assert answer.status_code == 201, answer.content
    told = answer.json()
    assert (told["devices"], told["hosts"], told["strategy"]) == (2, 2, "ddp")
    refused = script.post("runs", {**body, "method": "head"})
    assert refused.status_code == 422 and "devices" in refused.json()["error"]["fields"]


def test_the_page_of_a_run_tells_its_devices(browser: Client, lab: Lab) -> None:
    run = lab.run(processes=4, nodes=2, strategy="fsdp2", queue="gpu4")
    page = text_of(browser.get(f"/runs/{run.pk}/").content.decode())
    assert "Devices 4 on each of 2 hosts, FSDP2" in page
    alone = lab.run()
    assert "Devices" not in text_of(browser.get(f"/runs/{alone.pk}/").content.decode())
