"""Uploads that are whole become a dataset as files of a form do."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tests.webapp.uploads.conftest import CSV, Tus
from webapp import storage
from webapp.accounts.models import User
from webapp.datasets import intake
from webapp.datasets.inspection import run_inspection
from webapp.datasets.models import Dataset
from webapp.uploads.models import Upload

URL = "/api/v1/datasets/from-uploads"


@pytest.mark.django_db(transaction=True)
def test_a_script_makes_a_dataset_of_its_uploads(anywhere: str, tus: Tus) -> None:
    ids = [tus.whole(CSV, "train.csv"), tus.whole(CSV[:200] + b"\n", "test.csv")]
    made = tus.json("POST", URL, {"uploads": ids, "name": "Reviews"})
    assert made.status_code == 201, made.content
    seen = made.json()
    assert (seen["name"], seen["status"]) == ("Reviews", "inspecting")
    assert [file["name"] for file in seen["files"]] == ["train.csv", "test.csv"]
    assert seen["files"][0]["sha256"] == hashlib.sha256(CSV).hexdigest()
    assert not Upload.objects.exists()
    assert [file.key.split("/")[0] for file in storage.listing()] == ["datasets", "datasets"]
    run_inspection(seen["id"], "test")
    ready = tus.ask("GET", f"/api/v1/datasets/{seen['id']}").json()
    assert ready["status"] == "ready" and ready["splits"]["train"] + ready["splits"]["validation"] == 30


def test_what_has_not_arrived_makes_no_dataset(folder: Path, tus: Tus) -> None:
    address = tus.announce(len(CSV))
    tus.send(address, 0, CSV[:100])
    answer = tus.json("POST", URL, {"uploads": [address.rsplit("/", 1)[1]]})
    assert answer.status_code == 422
    assert answer.json()["error"]["fields"]["file"] == "“rows.csv” has not arrived whole yet: 100 B of 631 B."
    assert tus.offset(address) == 100


@pytest.mark.parametrize("ids", [[], [str(uuid.uuid4())]])
def test_no_upload_makes_no_dataset(ids: list[str], folder: Path, tus: Tus) -> None:
    answer = tus.json("POST", URL, {"uploads": ids})
    assert answer.status_code == 422 and set(answer.json()["error"]["fields"]) == {"file"}


def test_what_was_said_wrongly_leaves_the_uploads_for_the_next_try(folder: Path, tus: Tus) -> None:
    pk = tus.whole(CSV)
    answer = tus.json("POST", URL, {"uploads": [pk], "task": "fortune-telling"})
    assert answer.status_code == 422 and set(answer.json()["error"]["fields"]) == {"task"}
    assert tus.json("POST", URL, {"uploads": [pk]}).status_code == 201


def test_a_dataset_that_cannot_be_made_leaves_the_uploads(
    folder: Path, tus: Tus, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [tus.whole(CSV), tus.whole(CSV)]
    real, kept = storage.copy, []

    def fails_at_the_second(source: str, key: str) -> None:
        kept.append(key)
        if len(kept) == 2:
            raise OSError("storage is away")
        real(source, key)

    monkeypatch.setattr(storage, "copy", fails_at_the_second)
    assert tus.json("POST", URL, {"uploads": ids}).status_code == 500
    monkeypatch.undo()
    assert not Dataset.objects.exists()
    assert {file.key for file in storage.listing()} == {f"uploads/{pk}/data" for pk in ids}


@pytest.mark.django_db(transaction=True)
def test_the_form_takes_uploads_in_the_place_of_files(
    folder: Path, tus: Tus, user: User, settings: Any
) -> None:
    client = Client()
    client.force_login(user)
    pk = tus.whole(CSV)
    wrong = client.post("/datasets/upload/", {"upload": [pk], "task": "fortune-telling"})
    assert wrong.status_code == 422
    assert f'name="upload" value="{pk}"' in wrong.content.decode()  # it need not be sent again
    made = client.post("/datasets/upload/", {"upload": [pk], "name": "Reviews"})
    dataset = Dataset.objects.get()
    assert (made.status_code, made["Location"]) == (302, f"/datasets/{dataset.pk}/")
    assert dataset.name == "Reviews" and dataset.files.get().sha256 == hashlib.sha256(CSV).hexdigest()
    again = client.post("/datasets/upload/", {"upload": [pk]})
    assert again.status_code == 422 and "not there any more" in again.content.decode()


def test_the_page_lists_what_was_not_finished_and_discards_it(folder: Path, tus: Tus, user: User) -> None:
    client = Client()
    client.force_login(user)
    address = tus.announce(len(CSV), "<b>bold.csv")
    tus.send(address, 0, CSV[:399])
    page = client.get("/datasets/upload/").content.decode()
    assert "<b>bold" not in page and "&lt;b&gt;bold.csv" in page and "399 B of 631 B" in page
    left = client.post(f"/uploads/{address.rsplit('/', 1)[1]}/discard/", follow=True).content.decode()
    assert "is gone" in left and "399 B of 631 B" not in left
    assert not Upload.objects.exists() and not list(storage.listing())


def test_uploads_of_another_person_make_no_dataset(folder: Path, tus: Tus, user: User) -> None:
    pk = tus.whole(CSV)
    other = User.objects.create_user("bob")
    with pytest.raises(intake.IntakeError, match="not there any more"):
        intake.create_of_uploads(
            workspace=Upload.objects.get().workspace, user=other, uploads=[uuid.UUID(pk)]
        )
