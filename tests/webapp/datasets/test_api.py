"""Datasets as a script sees them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from tests.webapp.datasets.conftest import stored_files
from webapp.accounts.models import ApiToken, User, Workspace
from webapp.datasets.inspection import run_inspection
from webapp.datasets.models import Dataset

CSV = b"text,label\n" + b"".join(f"sentence number {n},{'ab'[n % 2]}\n".encode() for n in range(30))
URL = "/api/v1/datasets"


def headers_of(user: User, workspace: Workspace) -> dict[str, str]:
    return {"Authorization": f"Bearer {ApiToken.issue(user, workspace, 'test')[1]}"}


@pytest.fixture
def headers(user: User, workspace: Workspace) -> dict[str, str]:
    return headers_of(user, workspace)


def upload(client: Client, headers: dict[str, str], data: bytes = CSV, **said: Any) -> Any:
    return client.post(URL, {"file": SimpleUploadedFile("r.csv", data), **said}, headers=headers)


def test_a_script_uploads_waits_and_deletes(client: Client, headers: dict[str, str]) -> None:
    response = upload(client, headers, name="Reviews")
    assert response.status_code == 201, response.content
    made = response.json()
    assert (made["name"], made["status"], made["progress"]["stage"]) == ("Reviews", "inspecting", "waiting")
    run_inspection(made["id"], "test")
    ready = client.get(f"{URL}/{made['id']}", headers=headers).json()
    assert ready["status"] == "ready"
    assert (ready["rows"], ready["splits"]["train"], ready["problems"]) == (30, 24, [])
    assert [column["kind"] for column in ready["columns"]] == ["text", "label"]
    assert client.get(URL, headers=headers).json()["count"] == 1
    assert client.delete(f"{URL}/{made['id']}", headers=headers).status_code == 204
    assert client.get(f"{URL}/{made['id']}", headers=headers).status_code == 404


def test_several_files_are_one_dataset(client: Client, headers: dict[str, str]) -> None:
    files = [SimpleUploadedFile("train.csv", CSV), SimpleUploadedFile("test.csv", CSV)]
    made = client.post(URL, {"file": files}, headers=headers).json()
    run_inspection(made["id"], "test")
    assert client.get(f"{URL}/{made['id']}", headers=headers).json()["splits"]["test"] == 30


def test_a_file_that_cannot_be_used_ends_as_invalid_with_problems(
    client: Client, headers: dict[str, str]
) -> None:
    made = upload(client, headers, data=b"text,label\n").json()
    run_inspection(made["id"], "test")
    answer = client.get(f"{URL}/{made['id']}", headers=headers).json()
    assert answer["status"] == "invalid"
    assert answer["problems"][0]["code"] == "header_only"
    assert stored_files() == []


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"task": "fortune-telling"}, "task"),
        ({"columns": "not json"}, "columns"),
        ({"columns": json.dumps({"nobody": "text"})}, "columns"),
        ({"columns": json.dumps(["text"])}, "columns"),
        ({"columns": "[" * 100_000}, "columns"),
        ({"columns": json.dumps({"text": "\0"})}, "columns"),
        ({"columns": json.dumps({"text": "\ud800"})}, "columns"),
        ({"seed": "-1"}, "seed"),
        ({"seed": "one"}, "seed"),
    ],
)
def test_what_is_said_wrongly_is_answered_by_field(
    said: dict[str, str], field: str, client: Client, headers: dict[str, str]
) -> None:
    response = upload(client, headers, **said)
    assert response.status_code == 422
    assert field in response.json()["error"]["fields"]
    assert not Dataset.objects.exists()


def test_a_missing_file_is_answered_by_field(client: Client, headers: dict[str, str]) -> None:
    response = client.post(URL, {"name": "x"}, headers=headers)
    assert response.status_code == 422
    assert "file" in response.json()["error"]["fields"]


def test_a_viewers_token_only_reads(client: Client, viewer: User, workspace: Workspace) -> None:
    headers = headers_of(viewer, workspace)
    assert upload(client, headers).status_code == 403
    assert client.get(URL, headers=headers).status_code == 200
    assert stored_files() == []


def test_without_a_token_nothing_reaches_the_disk(client: Client, workspace: Workspace) -> None:
    assert upload(client, {}).status_code == 401
    assert stored_files() == []


def test_the_api_offers_samples_too(client: Client, headers: dict[str, str]) -> None:
    first = client.post(f"{URL}/samples/which-language", headers=headers)
    again = client.post(f"{URL}/samples/which-language", headers=headers)
    assert first.status_code == 201
    assert first.json()["id"] == again.json()["id"]
    assert client.post(f"{URL}/samples/nothing", headers=headers).status_code == 404
