"""Runs and tasks as a script sees them."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from runs.models import Artifact, Metric, Run
from webapp.accounts.models import ApiToken

from .conftest import Lab, Script


def error_of(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.content
    body = answer.json()
    assert set(body) == {"error"} and set(body["error"]) == {"code", "message", "fields"}
    assert body["error"]["message"]
    error: dict[str, Any] = body["error"]
    return error


# -- tokens ---------------------------------------------------------------------------------------
def test_a_call_without_a_good_token_is_told_how_to_get_one(lab: Lab) -> None:
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic YTpi"}):
        answer = Client(headers=headers).get("/api/v1/runs")
        assert error_of(answer, 401)["code"] == "unauthenticated"
        assert answer["WWW-Authenticate"].startswith("Bearer")


def test_cookies_count_for_nothing(lab: Lab) -> None:
    browser = Client()
    browser.force_login(lab.member)
    error_of(browser.get("/api/v1/runs"), 401)


def test_a_revoked_token_and_that_of_a_former_member_open_nothing(lab: Lab, script: Script) -> None:
    assert script.get("runs").status_code == 200
    lab.member.memberships.all().delete()
    error_of(script.get("runs"), 401)
    revoked = Script(lab.viewer, lab.workspace)
    ApiToken.objects.filter(user=lab.viewer).delete()
    error_of(revoked.get("runs"), 401)


# -- tasks and models -----------------------------------------------------------------------------
def test_tasks_say_what_they_need_and_allow(script: Script) -> None:
    tasks = {task["slug"]: task for task in script.get("tasks").json()}
    text = tasks["text-classification"]
    assert text["column_sets"] == [["text", "label"]]
    assert {method["slug"] for method in text["methods"]} == {"full", "last_layers", "head", "lora"}
    assert text["main_metric"] in {metric["name"] for metric in text["metrics"]}
    rate = next(item for item in text["settings"] if item["name"] == "learning_rate")
    assert rate["help"] and rate["methods"] and "head" not in rate["methods"]
    assert {"image-classification", "text-generation"} <= set(tasks)


def test_models_are_found_by_task_and_words(script: Script) -> None:
    found = script.get("models", task="text-generation").json()
    assert [model["id"] for model in found] == ["smollm2-135m-instruct"]
    assert [model["id"] for model in script.get("models", q="minilm").json()] == ["all-minilm-l6-v2"]
    one = script.get("models/efficientnet-lite0").json()
    assert one["tasks"] == ["image-classification"] and one["licence"]
    error_of(script.get("models/gone"), 404)


# -- runs -----------------------------------------------------------------------------------------
def test_a_run_is_launched_watched_and_cancelled(lab: Lab, script: Script) -> None:
    answer = script.post("runs", {"model": "tiny", "dataset": lab.dataset.pk, "method": "head"})
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert (made["status"], made["model"], made["dataset"]) == ("queued", "tiny", lab.dataset.pk)
    assert (made["failure"], made["artifacts"]) == (None, [])
    assert script.get(f"runs/{made['id']}").json() == made
    assert [run["id"] for run in script.get("runs").json()["items"]] == [made["id"]]
    assert script.post(f"runs/{made['id']}/cancel").json()["status"] == "cancelled"
    assert error_of(script.post(f"runs/{made['id']}/cancel"), 409)["code"] == "not_allowed"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model": "gone"}, "model"),
        ({"dataset": 10**9}, "dataset"),
        ({"method": "magic"}, "method"),
        ({"settings": {"seed": "x"}}, "settings.seed"),
        ({"columns": {"text": "gone"}}, "columns.text"),
        ({"dataset": "many"}, "dataset"),
        ({"name": "x" * 300}, "name"),
    ],
)
def test_a_run_that_cannot_be_says_what_to_change(
    lab: Lab, script: Script, changes: dict[str, Any], field: str
) -> None:
    body = {"model": "tiny", "dataset": lab.dataset.pk, "method": "head", **changes}
    error = error_of(script.post("runs", body), 422)
    assert error["code"] == "invalid" and error["fields"][field]
    assert not Run.objects.exists()


@pytest.mark.parametrize("body", ["{", "[]", "null", '"text"', '{"model": null}'])
def test_a_body_that_is_no_run_is_refused(script: Script, body: str) -> None:
    answer = script.client.post("/api/v1/runs", body, content_type="application/json")
    error = error_of(answer, 400 if body == "{" else 422)
    assert error["code"] == ("bad_request" if body == "{" else "invalid")


def test_what_went_wrong_and_what_came_out_is_in_the_answer(lab: Lab, script: Script) -> None:
    failure = {
        "code": "out_of_memory",
        "message": "It was too large.",
        "hint": "Halve the batch.",
        "log_tail": [],
    }
    run = lab.run(status="failed", failure=failure, metrics={"loss": 0.5})
    Artifact.objects.create(run=run, name="a b/config.json", storage_key="k", size=3, sha256="0" * 64)
    found = script.get(f"runs/{run.pk}").json()
    assert {key: found["failure"][key] for key in ("code", "message", "hint")} == {
        key: failure[key] for key in ("code", "message", "hint")
    }
    assert found["metrics"] == {"loss": 0.5}
    (artifact,) = found["artifacts"]
    assert (artifact["name"], artifact["size"]) == ("a b/config.json", 3)
    assert artifact["url"] == f"http://testserver/api/v1/runs/{run.pk}/artifacts/a%20b/config.json"


def test_runs_are_listed_newest_first_by_status_task_and_page(lab: Lab, script: Script) -> None:
    old = lab.run(name="old", created_at=timezone.now() - timedelta(days=1))
    new = lab.run(name="new", status="succeeded", task="text-generation")
    names = [run["name"] for run in script.get("runs").json()["items"]]
    assert names == ["new", "old"]
    assert [run["id"] for run in script.get("runs", status="succeeded").json()["items"]] == [new.pk]
    assert [run["id"] for run in script.get("runs", task="text-classification").json()["items"]] == [old.pk]
    page = script.get("runs", limit=1, offset=1).json()
    assert ([run["id"] for run in page["items"]], page["count"]) == ([old.pk], 2)
    assert "status" in error_of(script.get("runs", status="sleepy"), 422)["fields"]
    assert "limit" in error_of(script.get("runs", limit=100_000), 422)["fields"]


def test_points_come_once_with_a_cursor(lab: Lab, script: Script) -> None:
    run = lab.run(status="running")
    start = timezone.now()
    Metric.objects.bulk_create(
        Metric(run=run, series="loss", step=step, value=1 / step, at=start + timedelta(seconds=step // 3))
        for step in range(1, 6)
    )
    first = script.get(f"runs/{run.pk}/metrics").json()
    assert [point["step"] for point in first["points"]] == [1, 2, 3, 4, 5] and first["more"] is False
    Metric.objects.create(run=run, series="loss", step=6, value=0.1, at=start + timedelta(seconds=9))
    second = script.get(f"runs/{run.pk}/metrics", since=first["next"]).json()
    assert [(point["series"], point["step"], point["value"]) for point in second["points"]] == [
        ("loss", 6, 0.1)
    ]
    nothing = script.get(f"runs/{run.pk}/metrics", since=second["next"]).json()
    assert (nothing["points"], nothing["next"]) == ([], second["next"])
    pasted = script.client.get(f"/api/v1/runs/{run.pk}/metrics?since={first['next']}")  # without quoting it
    assert pasted.json()["points"] == second["points"]
    error_of(script.get(f"runs/{run.pk}/metrics", since="yesterday"), 422)


def test_a_viewer_looks_but_does_not_touch(lab: Lab) -> None:
    viewer = Script(lab.viewer, lab.workspace)
    run = lab.run()
    assert viewer.get(f"runs/{run.pk}").status_code == 200
    assert error_of(viewer.post(f"runs/{run.pk}/cancel"), 403)["code"] == "forbidden"
    error_of(viewer.post("runs", {"model": "tiny", "dataset": lab.dataset.pk, "method": "head"}), 403)
    run.refresh_from_db()
    assert run.status == "queued" and Run.objects.count() == 1


# -- the frame ------------------------------------------------------------------------------------
def test_the_document_lists_every_operation(lab: Lab, script: Script) -> None:
    paths = script.client.get("/api/v1/openapi.json").json()["paths"]
    listed = {
        (method, path.removeprefix("/api/v1/")) for path, methods in paths.items() for method in methods
    }
    assert {
        ("get", "models"),
        ("get", "models/{model_id}"),
        ("post", "datasets"),
        ("get", "datasets/{dataset_id}"),
        ("get", "tasks"),
        ("post", "runs"),
        ("get", "runs"),
        ("get", "runs/{run_id}"),
        ("get", "runs/{run_id}/metrics"),
        ("post", "runs/{run_id}/cancel"),
        ("get", "runs/{run_id}/artifacts/{name}"),
    } <= listed
    browser = Client()
    browser.force_login(lab.member)
    page = browser.get("/api/docs/").content.decode()
    assert all(path in page for path in paths)


def examples() -> list[tuple[str, str, Any]]:
    """(method, path, answer) of each example in docs/api.md."""
    page = (Path(__file__).resolve().parents[2] / "docs/api.md").read_text()
    found = []
    for section in page.split("\n### ")[1:]:
        method, path = re.findall(r"`([A-Z]+) ([^`]+)`", section.splitlines()[0])[-1]
        for block in re.findall(r"(?:^    .*\n)+", section.partition("\n## ")[0], re.M):
            if block.startswith("    {"):
                found.append((method.lower(), f"/api/v1/{path}", json.loads(block)))
    return found


def agrees(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> bool:
    """Whether an object has just the fields that it is said to have, and so on within."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return agrees(value, document["components"]["schemas"][name], document)
    if "anyOf" in schema:
        return any(agrees(value, option, document) for option in schema["anyOf"])
    if schema.get("type") == "null" or value is None:
        return value is None and schema.get("type") == "null"
    if "properties" in schema:
        return set(value) == set(schema["properties"]) and all(
            agrees(value[name], field, document) for name, field in schema["properties"].items()
        )
    if schema.get("type") == "array":
        return all(agrees(item, schema["items"], document) for item in value)
    return True


def test_the_examples_in_the_docs_have_the_fields_of_real_answers(script: Script) -> None:
    document = script.client.get("/api/v1/openapi.json").json()
    operations = {re.sub(r"\{\w*_id\}", "{id}", path): methods for path, methods in document["paths"].items()}
    tried = examples()
    assert {path.removeprefix("/api/v1/").split("/")[0] for _method, path, _answer in tried} == {
        "models", "datasets", "tasks", "runs", "storage", "notifications",
    }  # fmt: skip
    for method, path, answer in tried:
        answers = operations[path][method]["responses"]
        schema = next(answers[code] for code in ("200", "201", "202") if code in answers)["content"][
            "application/json"
        ]["schema"]
        assert agrees(answer, schema.get("items", schema), document), (method, path)
        assert not agrees({**answer, "invented": 1}, schema.get("items", schema), document)


def test_an_unknown_path_and_method_are_errors_like_others(script: Script) -> None:
    assert error_of(script.get("nothing/here"), 404)["code"] == "not_found"
    answer = script.client.put("/api/v1/runs", "{}", content_type="application/json")
    assert error_of(answer, 405)["code"] == "method_not_allowed"
    assert answer["Allow"] == "GET, POST"


def test_a_misspelt_field_does_not_train_with_a_default(lab: Lab, script: Script) -> None:
    body = {"model": "tiny", "dataset": lab.dataset.pk, "method": "head", "setings": {"seed": 1}}
    assert "setings" in error_of(script.post("runs", body), 422)["fields"]
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"model": "\xff"}', 400),
        (b"[" * 100_000, 400),
        (b'{"model": "tiny\\u0000", "dataset": 1, "method": "head"}', 422),
        (b'{"model": "\\ud800", "dataset": 1, "method": "head"}', 422),
        (b'{"model": "tiny", "dataset": 1, "method": "head", "columns": {"text": "a\\u0000"}}', 422),
        (b'{"model": "tiny", "dataset": 1' + b"0" * 30 + b', "method": "head"}', 422),
        (b'{"model": "tiny", "dataset": 1, "method": "head", "settings": {"learning_rate": NaN}}', 422),
        (b'{"model": "tiny", "dataset": 1, "method": "head", "settings": {"seed": [-Infinity]}}', 422),
        (b'{"\\u0000": 1}', 422),
        (b'["\\ud800"]', 422),
        (b'{"name": "' + b"x" * 11_000_000 + b'"}', 413),
    ],
)
def test_a_hostile_body_is_refused_in_the_usual_shape(script: Script, body: bytes, status: int) -> None:
    answer = script.client.post("/api/v1/runs", body, content_type="application/json")
    error_of(answer, status)
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("models?q=%00", 422),
        ("datasets?q=%00", 422),
        ("datasets?status=sleepy", 422),
        ("datasets?limit=0", 422),
        ("datasets?offset=99999999999999999999", 422),
        ("runs?task=%00", 422),
        ("runs?offset=99999999999999999999", 422),
        ("runs/99999999999999999999", 404),
        ("datasets/99999999999999999999", 404),
        ("models/%00", 404),
    ],
)
def test_a_hostile_address_is_refused_in_the_usual_shape(script: Script, path: str, status: int) -> None:
    error_of(script.client.get(f"/api/v1/{path}"), status)


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00%2B23:59.1", "%00", ".", "2026.x"])
def test_a_cursor_of_nobodys_making_is_refused(lab: Lab, script: Script, since: str) -> None:
    run = lab.run()
    assert (
        "since" in error_of(script.client.get(f"/api/v1/runs/{run.pk}/metrics?since={since}"), 422)["fields"]
    )


def test_an_upload_that_is_no_form_is_refused(script: Script) -> None:
    broken = script.client.post("/api/v1/datasets", b"garbage", content_type="multipart/form-data")
    error_of(broken, 400)


def test_the_page_about_the_api_tells_of_every_operation_and_no_other(script: Script) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/api.md").read_text()
    told = set(re.findall(r"^\| `(GET|POST|DELETE|HEAD|PATCH|OPTIONS) ([\w/{}.-]+)[^`]*` \|", page, re.M))
    paths = script.client.get("/api/v1/openapi.json").json()["paths"]
    there = {
        (method.upper(), re.sub(r"\{\w*_id\}", "{id}", path.removeprefix("/api/v1/")))
        for path, methods in paths.items()
        for method in methods
    }
    assert told == there
