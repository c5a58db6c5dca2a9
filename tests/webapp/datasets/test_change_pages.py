"""Versions on the page and by the API: buttons beside findings, the list, files that are added."""

from __future__ import annotations

import json
from html import unescape
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from tests.webapp.datasets.conftest import Inspected
from tests.webapp.datasets.test_changes import ANIMALS, animals, table
from webapp.accounts.models import ApiToken, User, Workspace
from webapp.datasets.changing import run_change
from webapp.datasets.models import Change, Dataset

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def client(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def dataset(inspected: Inspected) -> Dataset:
    rows = [(f"example {n} of a text", "" if n % 10 == 0 else ANIMALS[n % 3]) for n in range(60)]
    return inspected(("animals.csv", table(rows, "text", "label")))


def page(client: Client, dataset: Dataset, query: str = "") -> str:
    response = client.get(f"/datasets/{dataset.pk}/{query}")
    assert response.status_code == 200
    return unescape(response.content.decode())


def finish() -> Change:
    """The change that waits, made as a worker makes it."""
    change = Change.objects.latest("pk")
    run_change(change.pk, "test")
    change.refresh_from_db()
    return change


def test_the_button_beside_a_finding_makes_a_version(client: Client, dataset: Dataset) -> None:
    before = page(client, dataset)
    assert "Drop these rows" in before and "Versions" not in before
    asked = json.dumps({"op": "drop_found", "code": "missing_values", "column": "label"})
    assert f'value="{asked}"' in before.replace("&quot;", '"')
    response = client.post(f"/datasets/{dataset.pk}/changes/", {"change": asked})
    assert response.status_code == 302
    during = page(client, dataset)
    assert "Dropping rows without “label”" in during and "every 1s" in during
    assert "Drop these rows" not in during  # one at a time
    assert finish().status == Change.Status.DONE
    after = page(client, dataset)
    assert "Dropped 6 rows without “label”." in after and "every 1s" not in after
    assert "Version 2" in after and "for new runs" in after and "Drop these rows" not in after


def test_an_older_version_is_shown_and_can_be_used_again(client: Client, dataset: Dataset) -> None:
    client.post(
        f"/datasets/{dataset.pk}/changes/",
        {"change": '{"op": "drop_found", "code": "missing_values", "column": "label"}'},
    )
    finish()
    old = page(client, dataset, "?version=1")
    assert (
        "This is version 1. New runs get version 2." in old
        and f"/datasets/{dataset.pk}/rows/?version=1" in old
    )
    assert client.get(f"/datasets/{dataset.pk}/?version=7").status_code == 404
    client.post(f"/datasets/{dataset.pk}/versions/1/use/")
    dataset.refresh_from_db()
    assert dataset.version is not None and dataset.version.number == 1
    assert client.post(f"/datasets/{dataset.pk}/versions/7/use/").status_code == 404


def test_what_cannot_be_asked_for_is_said(client: Client, dataset: Dataset) -> None:
    for asked in ("", "{", "[" * 100_000, "[]", '{"op": "drop_tables"}'):
        response = client.post(f"/datasets/{dataset.pk}/changes/", {"change": asked}, follow=True)
        assert "There is no such change" in response.content.decode()
    for asked in (
        '{"op": []}',
        '{"op": "map", "task": "\\u0000"}',
        '{"op": "split", "how": "kfold", "test": NaN}',
    ):
        response = client.post(f"/datasets/{dataset.pk}/changes/", {"change": asked}, follow=True)
        assert response.status_code == 200 and "messages" in response.context
        assert list(response.context["messages"])
    assert not Change.objects.exists()


def test_a_change_that_was_refused_says_why(client: Client, inspected: Inspected) -> None:
    dataset = inspected(("animals.csv", animals()))
    client.post(
        f"/datasets/{dataset.pk}/changes/",
        {"change": '{"op": "drop_found", "code": "missing_values", "column": "label"}'},
    )
    finish()
    assert "This changes nothing" in page(client, dataset)


def test_viewers_see_versions_and_change_nothing(viewer: User, client: Client, dataset: Dataset) -> None:
    client.post(
        f"/datasets/{dataset.pk}/changes/",
        {"change": '{"op": "drop_found", "code": "missing_values", "column": "label"}'},
    )
    finish()
    client.force_login(viewer)
    seen = page(client, dataset, "?version=1")
    assert "Version 2" in seen and "Drop these rows" not in seen and "Use it for new runs" not in seen
    for address in ("changes/", "files/", "versions/1/use/"):
        assert client.post(f"/datasets/{dataset.pk}/{address}").status_code == 403


def test_files_are_added_by_the_form(client: Client, inspected: Inspected) -> None:
    dataset = inspected(("animals.csv", animals()))
    assert "Add files" in page(client, dataset)
    address = f"/datasets/{dataset.pk}/files/"
    assert client.get(address).status_code == 200
    assert client.post(address).status_code == 422
    more = SimpleUploadedFile("more.csv", table([("an owl at night", "owl")], "text", "label"))
    assert client.post(address, {"file": [more], "split": "test"}).status_code == 302
    assert finish().status == Change.Status.DONE
    seen = page(client, dataset)
    assert "Added “more.csv”." in seen and "more.csv" in seen


def test_scripts_change_datasets_too(user: User, workspace: Workspace, inspected: Inspected) -> None:
    dataset = inspected(("animals.csv", animals()))
    client = Client(headers={"Authorization": f"Bearer {ApiToken.issue(user, workspace, 'test')[1]}"})
    base = f"/api/v1/datasets/{dataset.pk}"

    def post(path: str, said: Any) -> Any:
        return client.post(f"{base}/{path}", said, content_type="application/json")

    made = post("changes", {"change": {"op": "drop_labels", "column": "label", "labels": ["fox"]}})
    assert made.status_code == 202 and made.json()["status"] == "waiting"
    again = post("changes", {"change": {"op": "drop_labels", "column": "label", "labels": ["cat"]}})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "busy")
    assert post("versions/1/current", {}).status_code == 409
    finish()
    done = client.get(f"{base}/changes/{made.json()['id']}").json()
    assert (done["status"], done["parent"], done["version"]) == ("done", 1, 2)
    versions = client.get(f"{base}/versions").json()["items"]
    assert [(each["number"], each["is_current"], each["parent"]) for each in versions] == [
        (2, True, 1),
        (1, False, None),
    ]
    assert versions[0]["change"]["says"] == "Dropped 20 rows of “fox” in “label”."
    assert post("versions/1/current", {}).json()["is_current"]
    wrong = post("changes", {"change": {"op": "drop_rows", "split": "train"}})
    assert (wrong.status_code, list(wrong.json()["error"]["fields"])) == (422, ["rows"])
    for path in ("changes/999999", "versions/99"):
        assert client.get(f"{base}/{path}").status_code == 404
    more = SimpleUploadedFile("more.csv", table([("an owl", "owl")], "text", "label"))
    added = client.post(f"{base}/files?split=test", {"file": more})
    assert added.status_code == 202 and finish().status == Change.Status.DONE
    assert client.get(f"{base}/rows?version=1").status_code == 200


def test_classes_are_changed_on_a_page_of_their_own(client: Client, inspected: Inspected) -> None:
    dataset = inspected(("animals.csv", animals()))
    assert f"/datasets/{dataset.pk}/classes/1/" in page(client, dataset)
    address = f"/datasets/{dataset.pk}/classes/1/"
    seen = client.get(address).content.decode()
    assert all(name in seen for name in ANIMALS)
    assert client.get(f"/datasets/{dataset.pk}/classes/0/").status_code == 404  # texts
    assert client.get(f"/datasets/{dataset.pk}/classes/9/").status_code == 404
    nothing = client.post(address, {"merge": "1", "into": "canine"})
    assert nothing.status_code == 422 and "Say one class at least" in nothing.content.decode()
    unknown = client.post(address, {"merge": "1", "into": "canine", "labels": ["7"]})
    assert unknown.status_code == 422
    uncapped = client.post(address, {"cap": "1", "most": ""})
    assert uncapped.status_code == 422 and "how many rows" in uncapped.content.decode()
    assert client.post(address, {"merge": "1", "into": "canine", "labels": ["1", "2"]}).status_code == 302
    finish()
    assert "Joined “dog” and “fox” with “canine”" in page(client, dataset)
    assert client.post(address, {"drop": "1", "labels": ["0"]}).status_code == 302
    assert finish().asked["labels"] == ["cat"]


def test_a_row_that_is_looked_at_can_be_dropped(client: Client, inspected: Inspected) -> None:
    dataset = inspected(("animals.csv", animals()))
    seen = page(client, dataset, "?split=train&row=3")
    (asked,) = [
        part.split('">')[0] for part in seen.split('value="')[1:] if part.startswith('{"op": "drop_rows"')
    ]
    client.post(f"/datasets/{dataset.pk}/changes/?version=1", {"change": asked})
    assert finish().asked == {"op": "drop_rows", "split": "train", "rows": [3]}
