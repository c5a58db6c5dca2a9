"""A run that is queued can start; what stands in its way is told by the name of the field to change."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from runs.launch import LaunchError, launch
from runs.models import Run, Worker
from runs.training.tasks import all_tasks
from webapp.catalog.models import BaseModel
from webapp.datasets.models import Dataset

from .conftest import Lab


def launched(lab: Lab, **choices: Any) -> Run:
    return launch(
        **{
            "workspace": lab.workspace,
            "user": lab.member,
            "base_model": lab.model,
            "version": lab.version,
            "method": "head",
            **choices,
        }
    )


def refusal(lab: Lab, **choices: Any) -> dict[str, str]:
    with pytest.raises(LaunchError) as caught:
        launched(lab, **choices)
    assert not Run.objects.exists()
    assert str(caught.value) == next(iter(caught.value.fields.values()))
    return caught.value.fields


def test_what_is_left_out_is_suggested_and_kept_with_the_run(lab: Lab) -> None:
    run = launched(lab)
    assert (run.status, run.task, run.method) == ("queued", "text-classification", "head")
    assert run.columns == {"text": "review", "label": "stars"}
    assert run.settings["seed"] == 42 and run.settings["max_length"] > 0
    assert run.name == "Tiny on Reviews, head on features"
    assert (run.dataset_name, run.dataset_hash) == ("Reviews", "a" * 64)
    assert [event.kind for event in run.events.all()] == ["submitted"]
    assert "anna" in run.events.get().message


def test_a_default_name_keeps_the_case_of_an_acronym(lab: Lab) -> None:
    assert launched(lab, method="lora").name == "Tiny on Reviews, LoRA adapters"


def test_the_datasets_own_suggestion_comes_first(lab: Lab) -> None:
    lab.version.suggested = {
        "task": "text-classification",
        "columns": {"text": "stars", "label": "stars"},
        "reason": "",
    }
    lab.version.save()
    fields = refusal(lab)  # the suggestion is taken, and checked like anything else
    assert "columns.text" in fields


def test_choices_are_kept(lab: Lab) -> None:
    run = launched(
        lab,
        task="text-classification",
        method="full",
        columns={"text": "review", "label": "stars"},
        settings={"learning_rate": "3e-5", "num_train_epochs": 2, "seed": ""},
        name="  My run  ",
    )
    assert (run.name, run.settings["learning_rate"], run.settings["num_train_epochs"]) == ("My run", 3e-5, 2)
    assert run.settings["seed"] == 42


@pytest.mark.parametrize(
    ("choices", "field", "says"),
    [
        ({"method": "magic"}, "method", "choose one of: "),
        ({"task": "mind-reading"}, "task", "mind-reading"),
        ({"task": "image-classification"}, "model", "does not train a model of the kind"),
        ({"task": "text-classification", "columns": {"text": "gone"}}, "columns.text", "no column 'gone'"),
        ({"columns": {"text": "number", "label": "stars"}}, "columns.text", "is of kind float"),
        ({"columns": {"colour": "stars"}}, "columns.colour", "has no role 'colour'"),
        ({"columns": {"text": "review", "label": "same"}}, "columns.label", "has one value only"),
        ({"columns": {"text": "review"}}, "columns", "needs columns for: text and label"),
        ({"settings": {"max_length": 0}}, "settings.max_length", ""),
        ({"settings": {"seed": "often"}}, "settings.seed", ""),
        ({"settings": {"wheels": 4}}, "settings.wheels", "There is no such setting"),
        ({"settings": {"learning_rate": 1e-3}}, "settings.learning_rate", "no such setting; leave it out"),
    ],
)
def test_a_mistake_is_told_beside_its_field(lab: Lab, choices: dict[str, Any], field: str, says: str) -> None:
    fields = refusal(lab, **choices)
    assert says in fields[field] and fields[field].endswith(".")


def test_several_mistakes_are_told_at_once(lab: Lab) -> None:
    assert set(refusal(lab, settings={"seed": "x", "max_length": -1})) == {
        "settings.seed",
        "settings.max_length",
    }


def test_a_dataset_that_is_not_ready_is_refused(lab: Lab) -> None:
    lab.dataset.status = Dataset.Status.INSPECTING
    lab.dataset.save()
    lab.version.dataset.refresh_from_db()
    assert "not ready" in refusal(lab)["dataset"]


def test_somebody_elses_dataset_is_not_there(lab: Lab) -> None:
    other = lab.stranger.workspaces.get()
    assert refusal(lab, workspace=other) == {"dataset": "There is no such dataset in this workspace."}


def test_a_model_that_nothing_trains_yet_is_refused(lab: Lab) -> None:
    vectors = BaseModel.objects.get(slug="glove-6b-50d")
    assert "No task trains" in refusal(lab, base_model=vectors)["task"]


def test_a_starter_that_is_not_installed_says_what_to_install(lab: Lab) -> None:
    lab.model.details = {"missing": "Install it with: pip install x"}
    assert "is not installed. Install it with" in refusal(lab)["model"]


def test_one_column_cannot_play_two_roles(lab: Lab) -> None:
    answers = BaseModel.objects.get(slug="smollm2-135m-instruct")
    columns = {"prompt": "review", "completion": "review"}
    fields = refusal(lab, base_model=answers, task="text-generation", method="lora", columns=columns)
    assert "cannot play two roles" in fields["columns"]


def test_what_a_run_was_made_of_stays_with_it(lab: Lab) -> None:
    run = launched(lab, settings={"seed": 7})
    lab.dataset.name = "Another name"
    lab.dataset.save()
    lab.version.suggested = {"task": "text-generation", "columns": {"text": "review"}, "reason": ""}
    lab.version.save()
    run.refresh_from_db()
    assert (run.dataset_name, run.dataset_hash) == ("Reviews", "a" * 64)
    assert (run.task, run.columns, run.settings["seed"]) == (
        "text-classification",
        {"text": "review", "label": "stars"},
        7,
    )
    assert run.dataset_version_id == lab.version.pk
    assert (run.workspace_id, run.created_by_id) == (lab.workspace.pk, lab.member.pk)


def test_every_task_that_is_declared_refuses_a_dataset_without_its_columns(lab: Lab) -> None:
    lab.version.columns = [{"name": "nothing", "kind": "float", "nulls": 0, "distinct": 3}]
    lab.version.save()
    for task in all_tasks():
        lab.model.kind = task.model_kinds[0]
        fields = refusal(lab, task=task.slug, method=task.methods[0].slug)
        assert "needs columns for" in fields["columns"], task.slug


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", 10**400, -1, True, [1], {}, "much"])
def test_numbers_that_are_none_are_refused(lab: Lab, value: Any) -> None:
    assert refusal(lab, method="full", settings={"learning_rate": value})["settings.learning_rate"]


def test_runs_go_to_the_gpus_while_a_host_with_one_is_alive(lab: Lab) -> None:
    host = Worker.objects.create(name="gpu:/home", host="gpu", pid=1, queues=["cpu", "gpu1"])
    assert launched(lab).queue == "gpu1"
    Worker.objects.filter(pk=host.pk).update(last_seen_at=timezone.now() - timedelta(days=1))
    assert launched(lab).queue == "cpu"
