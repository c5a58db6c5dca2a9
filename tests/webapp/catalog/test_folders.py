"""A model folder on the host's disk: added by an admin, for everybody, if nothing in it can do harm."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from django.test import Client

from webapp.catalog.models import BaseModel

from .conftest import BERT

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As `save_pretrained` writes it; the weights are never read here."""
    made = tmp_path / "my-bert"
    made.mkdir()
    (made / "config.json").write_text(json.dumps(BERT))
    (made / "model.safetensors").write_bytes(b"\0" * 1000)
    (made / "tokenizer.json").write_text("{}")
    return made


def refusal(client: Client, path: object, name: str = "") -> str:
    """The page that says why; nothing was added, and what was typed is still there."""
    answer = client.post("/models/folder/add/", {"path": str(path), "name": name})
    assert answer.status_code == 422
    assert not BaseModel.objects.exists()
    page = answer.content.decode()
    assert 'aria-invalid="true"' in page
    return page.replace("&#x27;", "'")


def test_an_admin_adds_a_folder_for_everybody(admin: Client, member: Client, folder: Path) -> None:
    assert "Add a folder" in admin.get("/models/").content.decode()
    assert admin.get("/models/folder/add/").status_code == 200
    page = admin.post("/models/folder/add/", {"path": f" {folder} "}, follow=True).content.decode()
    assert "my-bert is in the catalogue." in page
    model = BaseModel.objects.get()
    assert (model.source, model.reference, model.workspace) == ("folder", str(folder), None)
    assert (model.kind, model.architecture, model.context_length) == ("text-encoder", "BertForMaskedLM", 512)
    assert model.size_bytes == 1000
    assert "my-bert" in member.get("/models/").content.decode()
    assert "/runs/new/?model=my-bert" in member.get("/models/my-bert/").content.decode()


def test_it_can_have_a_name_of_its_own(admin: Client, folder: Path) -> None:
    admin.post("/models/folder/add/", {"path": str(folder), "name": " Our\0 BERT "})
    model = BaseModel.objects.get()
    assert (model.name, model.slug) == ("Our BERT", "our-bert")


def test_nobody_else_may_name_a_folder_of_the_host(member: Client, viewer: Client, folder: Path) -> None:
    for client in (member, viewer):
        for answer in (
            client.get("/models/folder/add/"),
            client.post("/models/folder/add/", {"path": str(folder)}),
        ):
            assert answer.status_code == 403
            assert "Only an admin of this installation may add folders" in answer.content.decode()
        assert "Add a folder" not in client.get("/models/").content.decode()
    assert not BaseModel.objects.exists()


def test_the_same_folder_is_listed_once(admin: Client, folder: Path, tmp_path: Path) -> None:
    admin.post("/models/folder/add/", {"path": str(folder)})
    (tmp_path / "alias").symlink_to(folder)
    for path in (folder, tmp_path / "alias", folder / ".." / "my-bert"):
        answer = admin.post("/models/folder/add/", {"path": str(path)})
        assert "is in the catalogue already, as my-bert." in answer.content.decode()
    assert BaseModel.objects.count() == 1


def test_two_folders_of_one_name_get_addresses_of_their_own(
    admin: Client, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere" / "my-bert"
    other.parent.mkdir()
    os.system(f"cp -r {folder} {other}")
    for path in (folder, other):
        admin.post("/models/folder/add/", {"path": str(path)})
    assert sorted(BaseModel.objects.values_list("slug", flat=True)) == ["my-bert", "my-bert-2"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("", "Give the whole path, beginning with a slash."),
        ("models/my-bert", "Give the whole path, beginning with a slash."),
        ("~/my-bert", "Give the whole path, beginning with a slash."),
        ("/nowhere/my-bert", "There is no folder /nowhere/my-bert on this host."),
        ("/etc/passwd", "There is no folder /etc/passwd on this host."),
        ("/etc", "/etc has no config.json"),
        ("/" + "a" * 5000, "This folder cannot be read"),
        ("/a\0b", "on this host."),
    ],
)
def test_a_path_that_leads_to_no_model_says_so(path: str, reason: str, admin: Client) -> None:
    assert reason in refusal(admin, path, name="kept <b>")
    assert (
        "kept &lt;b&gt;"
        in admin.post("/models/folder/add/", {"path": path, "name": "kept <b>"}).content.decode()
    )


def test_pickled_weights_are_refused(admin: Client, folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "no safetensors weights. Pickled weights (.bin, .pt) can hide code" in refusal(admin, folder)


def test_code_in_the_folder_is_refused(admin: Client, folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({**BERT, "auto_map": {"AutoModel": "modeling.X"}}))
    assert "needs code of its own, which Tuneboard does not run" in refusal(admin, folder)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{oops", "config.json cannot be read"),
        (b"\xff\xfe", "config.json cannot be read"),
        (b"[" * 200_000, "config.json cannot be read"),
        (b"[]", "config.json is not a JSON object."),
        (b" " * (11 << 20), "config.json has more than 10 MB"),
    ],
    ids=["cut off", "not UTF-8", "too deep", "a list", "too big"],
)
def test_a_damaged_config_is_refused(content: bytes, reason: str, admin: Client, folder: Path) -> None:
    (folder / "config.json").write_bytes(content)
    assert reason in refusal(admin, folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_link_out_of_the_folder_is_refused(name: str, admin: Client, folder: Path, tmp_path: Path) -> None:
    (folder / name).rename(tmp_path / "outside")
    (folder / name).symlink_to(tmp_path / "outside")
    assert f"{name} is a link out of the folder" in refusal(admin, folder)


def test_a_linked_folder_inside_is_refused_too(admin: Client, folder: Path) -> None:
    (folder / "additional_chat_templates").symlink_to("/etc")
    assert "additional_chat_templates is a link out of the folder" in refusal(admin, folder)


def test_a_link_that_stays_inside_is_fine(admin: Client, folder: Path) -> None:
    (folder / "blob").write_bytes(b"\0" * 10)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("blob")
    admin.post("/models/folder/add/", {"path": str(folder)})
    assert BaseModel.objects.get().size_bytes == 10


def test_a_path_longer_than_the_database_keeps_is_refused(
    admin: Client, folder: Path, tmp_path: Path
) -> None:
    deep = tmp_path
    for _ in range(3):
        deep = deep / ("d" * 200)
    deep.mkdir(parents=True)
    folder = folder.rename(deep / "my-bert")
    assert "This path is longer than 500 letters" in refusal(admin, folder)


def test_an_admin_takes_it_out_again(admin: Client, folder: Path) -> None:
    admin.post("/models/folder/add/", {"path": str(folder)})
    answer = admin.post("/models/my-bert/remove/", follow=True)
    assert "my-bert is no longer in the catalogue." in answer.content.decode()
    assert not BaseModel.objects.exists() and (folder / "model.safetensors").exists()
