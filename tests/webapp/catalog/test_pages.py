"""Finding a model: words, filters and order stand in the address, so that a view can be shared."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from webapp.accounts.models import ApiToken, User
from webapp.accounts.people import create_user
from webapp.catalog.models import BaseModel

from .conftest import client_of

pytestmark = pytest.mark.django_db


def listed(client: Client, **query: str) -> list[str]:
    """The names on the page, in its order."""
    answer = client.get("/models/", query)
    assert answer.status_code == 200
    return re.findall(r'<a class="list-main" href="/models/[^"]+">([^<]+)</a>', answer.content.decode())


ALL = ["all-MiniLM-L6-v2", "EfficientNet-Lite0", "GloVe 6B 50d", "SmolLM2-135M-Instruct"]


@pytest.mark.usefixtures("starters")
@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({}, ALL),
        ({"q": "minilm"}, ALL[:1]),
        ({"q": "BERT sentences"}, ALL[:1]),  # every word, wherever it stands
        ({"q": "bert nonsense"}, []),
        ({"q": "%"}, []),
        ({"task": "text-classification"}, [ALL[0], ALL[3]]),
        ({"task": "image-classification"}, [ALL[1]]),
        ({"task": "text-generation"}, [ALL[3]]),
        ({"kind": "word-vectors"}, [ALL[2]]),
        ({"licence": "PDDL-1.0"}, [ALL[2]]),
        ({"licence": "Apache-2.0"}, [ALL[0], ALL[1], ALL[3]]),
        ({"size": "small"}, ALL[:3]),
        ({"size": "medium"}, ALL[3:]),
        ({"size": "large"}, []),
        ({"task": "text-classification", "size": "small"}, ALL[:1]),
        ({"order": "smallest"}, [ALL[1], ALL[2], ALL[0], ALL[3]]),
        ({"order": "largest"}, [ALL[3], ALL[0], ALL[2], ALL[1]]),
        ({"task": "no-such-task", "licence": "none", "size": "x", "order": "x", "page": "99"}, ALL),
    ],
)
def test_the_address_says_what_is_shown(query: dict[str, str], names: list[str], member: Client) -> None:
    assert listed(member, **query) == names


@pytest.mark.usefixtures("starters")
def test_the_form_shows_what_the_address_says(member: Client) -> None:
    page = member.get("/models/", {"q": "a&b", "size": "medium", "order": "largest"}).content.decode()
    assert 'value="a&amp;b"' in page
    assert re.search(r'<option value="medium" selected>', page)
    assert re.search(r'<option value="largest" selected>', page)
    assert 'href="/models/">Clear</a>' in page


@pytest.mark.usefixtures("starters")
def test_a_search_without_a_find_leads_back(member: Client) -> None:
    page = member.get("/models/", {"q": "zzz"}).content.decode()
    assert "No model matches" in page and "Show all models" in page


def test_an_empty_catalogue_says_how_to_fill_it(member: Client) -> None:
    assert "The catalogue is empty" in member.get("/models/").content.decode()


def test_many_models_come_in_pages_that_keep_the_search(member: Client) -> None:
    BaseModel.objects.bulk_create(
        BaseModel(slug=f"m{n}", name=f"Mine {n:02}", kind="other", source="folder", reference=f"/{n}")
        for n in range(30)
    )
    assert len(listed(member, q="mine")) == 24
    assert listed(member, q="mine", page="2") == [f"Mine {n}" for n in range(24, 30)]
    assert re.search(r'href="\?[^"]*q=mine[^"]*page=2', member.get("/models/?q=mine").content.decode())


def test_what_others_added_is_not_shown(member: Client, user: User) -> None:
    other = create_user("eve")
    for owner, name in ((user, "Ours"), (other, "Theirs")):
        BaseModel.objects.create(
            workspace=owner.last_workspace,
            slug=name.lower(),
            name=name,
            kind="text-encoder",
            source="hub",
            reference="a/b",
            licence=f"licence-{name}",
        )
    assert listed(member) == ["Ours"]
    assert "licence-Theirs" not in member.get("/models/").content.decode()
    assert member.get("/models/theirs/").status_code == 404
    assert client_of(other).get("/models/theirs/").status_code == 200


def test_what_is_written_in_a_model_is_shown_as_text(member: Client, user: User) -> None:
    BaseModel.objects.create(
        workspace=user.last_workspace,
        slug="x",
        name="<script>alert(1)</script>",
        summary="<b>bold</b>",
        kind="other",
        source="hub",
        reference="a/b",
    )
    for path in ("/models/", "/models/x/"):
        page = member.get(path).content.decode()
        assert "&lt;script&gt;alert(1)" in page and "<script>alert" not in page and "<b>bold" not in page


def test_viewers_are_offered_nothing_to_change(starters: None, viewer: Client) -> None:
    assert "/runs/new/?model=" not in viewer.get("/models/").content.decode()
    assert "/runs/new/?model=" not in viewer.get("/models/all-minilm-l6-v2/").content.decode()


def test_an_added_model_can_be_taken_out_again(member: Client, viewer: Client, user: User) -> None:
    BaseModel.objects.create(
        workspace=user.last_workspace, slug="x", name="X", kind="other", source="hub", reference="a/b"
    )
    assert viewer.post("/models/x/remove/").status_code == 403
    assert member.get("/models/x/remove/").status_code == 405
    answer = member.post("/models/x/remove/", follow=True)
    assert "X is no longer in the catalogue." in answer.content.decode()
    assert not BaseModel.objects.exists()


def test_starters_and_the_hosts_folders_stay(starters: None, member: Client) -> None:
    BaseModel.objects.create(slug="shared", name="Shared", kind="other", source="folder", reference="/x")
    for slug in ("all-minilm-l6-v2", "shared"):
        assert member.post(f"/models/{slug}/remove/").status_code == 403
    assert BaseModel.objects.count() == 5


def test_scripts_find_the_same(starters: None, user: User) -> None:
    secret = ApiToken.issue(user, user.memberships.get().workspace, "t")[1]
    script = Client(headers={"Authorization": f"Bearer {secret}"})
    assert {model["id"] for model in script.get("/api/v1/models").json()} == {
        "all-minilm-l6-v2",
        "efficientnet-lite0",
        "glove-6b-50d",
        "smollm2-135m-instruct",
    }
    found = script.get("/api/v1/models", {"task": "text-classification", "q": "bert"}).json()
    assert [model["id"] for model in found] == ["all-minilm-l6-v2"]
    one = script.get("/api/v1/models/all-minilm-l6-v2").json()
    assert one == found[0]
    assert one["tasks"] == ["text-classification"] and one["installed"] is True
    assert one["licence"] == "Apache-2.0" and one["size_bytes"] > 10**7
    assert script.get("/api/v1/models/glove-6b-50d").json()["tasks"] == []
    missing = script.get("/api/v1/models/none")
    assert missing.status_code == 404 and missing.json()["error"]["code"] == "not_found"
