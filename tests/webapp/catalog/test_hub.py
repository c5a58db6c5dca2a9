"""Models of a hub: found, added at one exact commit, refused with a reason, and never in the way when it is away."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from webapp.accounts.models import User
from webapp.catalog.models import BaseModel

from .conftest import BERT, FakeHub, safe

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[3]
ABOUT: dict[str, Any] = {
    "downloads": 1234567,
    "likes": 3,
    "pipeline_tag": "fill-mask",
    "tags": ["bert", "license:mit"],
    "safetensors": {"parameters": {"F32": 110_000_000}, "total": 110_000_000},
}


def search(client: Client, words: str, *, whole: bool = False) -> str:
    """What the catalogue page loads below its own models; `whole`: without JavaScript."""
    headers = {} if whole else {"HX-Request": "true"}
    answer = client.get("/models/hub/", {"q": words}, headers=headers)
    assert answer.status_code == 200
    return answer.content.decode()


def add(client: Client, repository: str) -> str:
    """The page that one lands on, with the message."""
    answer = client.post("/models/hub/add/", {"repository": repository}, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


# -- finding -------------------------------------------------------------------------------------
def test_the_hub_is_asked_for_models_with_safe_weights(hub: FakeHub, member: Client) -> None:
    hub.offer("lab/tiny-bert", safe(), **ABOUT)
    hub.offer("lab/pickled-bert", {"config.json": b"{}", "pytorch_model.bin": b""})
    page = search(member, "bert")
    for said in ("lab/tiny-bert", "fill-mask", "110M", "1.2M", "mit", "Add lab/tiny-bert to the catalogue"):
        assert said in page
    assert "pickled" not in page and "<html" not in page
    assert "filter=safetensors" in hub.asked[0] and "search=bert" in hub.asked[0]


def test_it_works_without_javascript(hub: FakeHub, member: Client) -> None:
    hub.offer("lab/tiny-bert", safe(), **ABOUT)
    page = search(member, "bert", whole=True)
    assert "<html" in page and "lab/tiny-bert" in page


def test_the_page_loads_what_the_hub_has_after_itself(hub: FakeHub, member: Client, starters: None) -> None:
    page = member.get("/models/", {"q": "a&b"}).content.decode()
    assert 'hx-get="/models/hub/?q=a%26b"' in page
    assert hub.asked == []


def test_an_answer_is_kept_for_a_while(hub: FakeHub, member: Client) -> None:
    hub.offer("lab/tiny-bert", safe(), **ABOUT)
    assert all("lab/tiny-bert" in search(member, words) for words in ("bert", " BERT "))
    assert len(hub.asked) == 1


def test_nothing_found_says_so(hub: FakeHub, member: Client) -> None:
    assert "The hub has no model with safetensors weights for “zebra”." in search(member, "zebra")
    assert search(member, "  ").count("<tr") == 0 and len(hub.asked) == 1


def test_a_viewer_may_look_but_not_add(hub: FakeHub, viewer: Client) -> None:
    hub.offer("lab/tiny-bert", safe(), **ABOUT)
    assert "hub/add" not in search(viewer, "bert")
    assert viewer.post("/models/hub/add/", {"repository": "lab/tiny-bert"}).status_code == 403
    assert not BaseModel.objects.exists()


def test_names_from_a_hub_are_shown_as_text(hub: FakeHub, member: Client) -> None:
    hub.offer("lab/<script>bert", safe(), pipeline_tag="<b>x", tags=["license:<i>"])
    page = search(member, "bert")
    assert "lab/&lt;script&gt;bert" in page
    assert not any(mark in page for mark in ("<script>", "<b>x", "<i>"))


# -- no hub --------------------------------------------------------------------------------------
def test_without_a_hub_the_page_works_and_says_so(
    settings: Any, hub: FakeHub, member: Client, starters: None
) -> None:
    hub.close()
    assert "No hub can be reached from here" in search(member, "bert")
    assert "all-MiniLM-L6-v2" in member.get("/models/", {"q": "bert"}).content.decode()
    assert "No hub can be reached from here" in search(member, "bert", whole=True)
    assert "The hub did not give lab/tiny-bert" in add(member, "lab/tiny-bert")


def test_a_hub_that_is_away_is_left_alone_for_a_minute(hub: FakeHub, member: Client) -> None:
    hub.failing = True
    search(member, "bert")
    asked = len(hub.asked)
    assert "No hub can be reached from here" in search(member, "other words")
    assert len(hub.asked) == asked


def test_a_hub_that_fails_is_asked_once(hub: FakeHub, member: Client) -> None:
    hub.failing = True
    assert "No hub can be reached from here" in search(member, "bert")
    assert len(hub.asked) == 1


def test_a_hub_that_never_answers_holds_nobody_up(
    settings: Any, hub: FakeHub, member: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("webapp.catalog.hub.TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.HF_ENDPOINT = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert "No hub can be reached from here" in search(member, "bert")
        assert "The hub did not give lab/tiny-bert" in add(member, "lab/tiny-bert")


@pytest.mark.parametrize(
    "answer",
    [b"<html>", b"{}", b"[1]", b'[{"no": "id"}]', b'[{"id": "a/b", "tags": 7}]', b'{"id": "a/b", "tags": 7}'],
)
def test_what_is_no_hub_counts_as_none(answer: bytes, hub: FakeHub, member: Client) -> None:
    hub.instead = answer
    assert "No hub can be reached from here" in search(member, "bert")
    assert "The hub did not give a/b" in add(member, "a/b")


def test_offline_mode_is_obeyed(hub: FakeHub, member: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "No hub can be reached from here" in search(member, "bert")
    assert "The hub did not give lab/tiny-bert" in add(member, "lab/tiny-bert")
    assert hub.asked == []


# -- adding --------------------------------------------------------------------------------------
def test_an_added_model_is_pinned_to_the_commit_of_that_moment(
    hub: FakeHub, member: Client, user: User
) -> None:
    first = hub.offer("lab/tiny-bert", safe(), **ABOUT)
    page = add(member, "lab/tiny-bert")
    assert f"tiny-bert is in the catalogue, pinned to commit {first.commit[:12]}." in page
    model = BaseModel.objects.get()
    assert (model.workspace, model.source) == (user.last_workspace, "hub")
    assert (model.reference, model.revision, model.slug) == ("lab/tiny-bert", first.commit, "lab-tiny-bert")
    assert (model.kind, model.architecture, model.context_length) == ("text-encoder", "BertForMaskedLM", 512)
    assert (model.parameters, model.size_bytes, model.licence) == (110_000_000, 1000, "mit")
    assert model.homepage == f"{hub.url}/lab/tiny-bert"
    assert "/runs/new/?model=lab-tiny-bert" in page
    assert any(f"/lab/tiny-bert/resolve/{first.commit}/config.json" in asked for asked in hub.asked)
    assert not any("safetensors" in asked for asked in hub.asked)  # weights are for workers to fetch

    newer = hub.offer("lab/tiny-bert", safe({**BERT, "max_position_embeddings": 128}), **ABOUT)
    model.refresh_from_db()
    assert model.revision == first.commit
    add(member, "lab/tiny-bert")
    assert list(BaseModel.objects.order_by("pk").values_list("slug", "revision")) == [
        ("lab-tiny-bert", first.commit),
        ("lab-tiny-bert-2", newer.commit),
    ]


def test_adding_twice_leads_to_the_same_model(hub: FakeHub, member: Client) -> None:
    hub.offer("lab/tiny-bert", safe(), **ABOUT)
    add(member, "lab/tiny-bert")
    add(member, " lab/tiny-bert ")
    assert BaseModel.objects.count() == 1


@pytest.mark.parametrize(
    ("config", "kind", "architecture"),
    [
        ({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}, "text-decoder", "LlamaForCausalLM"),
        ({"model_type": "vit", "image_size": 224}, "image-encoder", ""),
        (
            {"architecture": "resnet18", "pretrained_cfg": {"input_size": [3, 160, 160]}},
            "image-encoder",
            "resnet18",
        ),
        ({"model_type": "whisper", "architectures": ["Whisper"]}, "other", "Whisper"),
        ({}, "other", ""),
    ],
)
def test_what_it_is_follows_from_its_config(
    config: dict[str, Any], kind: str, architecture: str, hub: FakeHub, member: Client
) -> None:
    hub.offer("lab/some", safe() | {"config.json": json.dumps(config).encode()})
    add(member, "lab/some")
    model = BaseModel.objects.get()
    assert (model.kind, model.architecture) == (kind, architecture)
    if kind == "image-encoder":
        assert model.image_size in {224, 160}


REFUSED = [
    ({"config.json": json.dumps(BERT).encode(), "pytorch_model.bin": b"x"}, "no safetensors weights"),
    ({"model.safetensors": b"x"}, "lab/odd has no config.json"),
    (safe({**BERT, "auto_map": {"AutoModel": "modeling.X"}}), "needs code of its own"),
    (safe() | {"config.json": b"[1]"}, "config.json is not a JSON object"),
    (safe() | {"config.json": b"{not json"}, "config.json cannot be read"),
    (safe() | {"config.json": b"\xff\xfe"}, "config.json cannot be read"),
    (safe() | {"config.json": b"[" * 200_000}, "config.json cannot be read"),
    (safe() | {"config.json": b" " * (11 << 20)}, "The config.json of lab/odd has 11,534,336 bytes"),
]


@pytest.mark.parametrize(("files", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_what_cannot_be_used_is_refused_with_a_sentence(
    files: dict[str, bytes], reason: str, hub: FakeHub, member: Client
) -> None:
    hub.offer("lab/odd", files)
    assert reason in add(member, "lab/odd")
    assert not BaseModel.objects.exists()
    assert not any("pytorch_model" in asked or "modeling" in asked for asked in hub.asked)


def test_a_config_full_of_nonsense_is_listed_without_it(hub: FakeHub, member: Client) -> None:
    odd = {
        "model_type": ["bert"],
        "architectures": {"a": 1},
        "architecture": "a\0\ud800" + "x" * 300,
        "max_position_embeddings": 10**30,
        "n_positions": True,
        "image_size": -1,
        "pretrained_cfg": {"input_size": []},
    }
    hub.offer("lab/odd", safe() | {"config.json": json.dumps(odd).encode()})
    add(member, "lab/odd")
    model = BaseModel.objects.get()
    assert (model.kind, model.context_length, model.image_size) == ("other", None, None)
    assert model.architecture == "a?" + "x" * 98


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("lab/nothing-there", "The hub has no public model"),
        ("", "is not a model’s name"),
        ("a/b/c", "is not a model’s name"),
        ("../../etc/passwd", "is not a model’s name"),
        ("http://127.0.0.1:22/x", "is not a model’s name"),
        ("lab/gated", "lab/gated is gated"),
    ],
)
def test_a_name_that_leads_nowhere_says_why(name: str, reason: str, hub: FakeHub, member: Client) -> None:
    hub.offer("lab/gated", safe(), gated=True)
    page = add(member, name).replace("&#x27;", "’")
    assert reason in page
    assert not BaseModel.objects.exists()


def test_a_model_may_be_called_like_a_page(hub: FakeHub, member: Client, user: User) -> None:
    from webapp.catalog.folders import free_slug

    slug = free_slug("hub")
    BaseModel.objects.create(slug=slug, name="Hub itself", kind="other", source="folder", reference="/x")
    assert "Hub itself" in member.get(f"/models/{slug}/").content.decode()


# -- fetching ------------------------------------------------------------------------------------
FETCH = """
import sys
from pathlib import Path
from runs.training.hub import snapshot
from runs.training.spec import ModelRef
ref = ModelRef(source="hub", reference="lab/tiny-bert", name="x", revision=sys.argv[1], kind="text-encoder")
print(snapshot(ref, Path(sys.argv[2])))
"""


def test_a_worker_fetches_that_commit_from_the_same_hub_and_no_pickle(hub: FakeHub, tmp_path: Path) -> None:
    files = safe() | {"pytorch_model.bin": b"x", "modeling.py": b"x", "tokenizer.json": b"{}"}
    repository = hub.offer("lab/tiny-bert", files)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", FETCH, repository.commit, str(tmp_path)],
        cwd=ROOT,
        env=environment | {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    folder = Path(done.stdout.strip().splitlines()[-1])
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    fetched = [asked for asked in hub.asked if "/resolve/" in asked]
    assert fetched and all(f"/resolve/{repository.commit}/" in asked for asked in fetched)
    assert not any(".bin" in asked or ".py" in asked for asked in hub.asked)
