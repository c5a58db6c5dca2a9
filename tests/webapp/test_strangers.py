"""Nobody sees what is not theirs: every page and every API operation, asked for by a stranger.

The addresses are walked, not listed: one that is added is tried without anybody thinking of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from runs.models import Artifact, Attempt, Channel, Delivery, Log, LogChunk, Run, Worker
from runs.notifications import messages, outbox
from webapp import storage
from webapp.accounts.models import ApiToken, Membership, User, Workspace
from webapp.accounts.people import create_user
from webapp.api import api
from webapp.catalog.models import BaseModel
from webapp.datasets.models import Dataset, DatasetVersion
from webapp.secrets import seal

SECRET = "zebra-crossing"  # in the name of everything that is not the stranger's
METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
# For everybody, and why.
PUBLIC = {
    "accounts:sign_in": "how one gets in",
    "accounts:link": "a one-time link is its own key",
    "healthz": "load balancers ask without signing in; it says nothing but yes or no",
    "api:openapi-json": "the shape of the API is no secret",
    "no_such_path": "an error for every unknown path below /api/",
}
# Pages that belong to whoever looks, or that all signed-in people share: nothing of others is on them.
SHARED = {
    "overview", "api_docs", "datasets:list", "datasets:upload", "datasets:use_sample", "runs:list", "runs:new",
    "catalog:list", "catalog:hub", "catalog:add_hub_model", "catalog:add_folder",
    "accounts:sign_out", "accounts:profile", "accounts:save_profile", "accounts:set_password",
    "hosts:list", "hosts:detail", "hosts:points", "hosts:drain", "hosts:resume", "hosts:cost", "hosts:remove",
    "accounts:create_token", "accounts:workspace", "accounts:create_workspace", "accounts:add_member",
    "accounts:limits", "accounts:set_limits",  # 403 but for site administrators
    "housekeeping:page", "housekeeping:preview", "housekeeping:save", "housekeeping:reset", "housekeeping:count",
    "housekeeping:site", "housekeeping:site_preview", "housekeeping:site_save", "housekeeping:orphans",
    "housekeeping:delete_orphans", "runs:delete_several",
    "notifications:list", "notifications:mark_all_read", "notifications:news", "notifications:settings",
    "notifications:save_browser", "notifications:save_email", "notifications:add_webhook",
}  # fmt: skip
# Everybody, viewers too, has channels of their own; those of others are not found.
OWN_NOTIFICATIONS = {name for name in SHARED if name.startswith("notifications:")}


@dataclass(frozen=True)
class Address:
    name: str
    route: str


def addresses() -> list[Address]:
    """Every page; the API's operations are walked by its own document."""

    def walk(patterns: list[URLPattern | URLResolver], route: str, space: str) -> Iterator[Address]:
        for pattern in patterns:
            here = route + str(pattern.pattern)
            if isinstance(pattern, URLResolver):
                if pattern.namespace != "api":
                    yield from walk(pattern.url_patterns, here, pattern.namespace or space)
            else:
                name = pattern.name or getattr(pattern.callback, "__name__", "?")
                yield Address(f"{space}:{name}" if space else name, here)

    return list(walk(get_resolver().url_patterns, "", ""))


@dataclass
class Theirs:
    """One of each thing, in a workspace that the stranger is not in."""

    workspace: Workspace
    owner: User
    member: Membership
    run: Run
    dataset: Dataset
    model: BaseModel
    token: ApiToken
    host: Worker  # everybody's: what runs on it is theirs
    channel: Channel
    delivery: Delivery

    def path(self, route: str) -> str:
        """An address with the ids of what is here in the places of its converters."""
        filled = route.removeprefix("^")
        ids: dict[str, Any] = {"runs/": self.run.pk, "datasets/": self.dataset.pk, "tokens/": self.token.pk}
        ids["members/"], ids["hosts/"] = self.member.pk, self.host.pk
        ids["workspaces/"] = self.workspace.pk
        ids |= {
            "channels/": self.channel.pk,
            "deliveries/": self.delivery.pk,
            "notifications/<": self.delivery.pk,
        }
        for part, value in ids.items():
            if part in filled:
                filled = filled.replace("<int:pk>", str(value)).replace("{run_id}", str(value))
                filled = filled.replace("{dataset_id}", str(value)).replace("{channel_id}", str(value))
                filled = filled.replace("{delivery_id}", str(value)).replace("{host}", str(value))
        filled = filled.replace("<slug:slug>" if "models/" in filled else "{model_id}", self.model.slug)
        filled = filled.replace("{model_id}", self.model.slug).replace("<path:name>", "model.safetensors")
        filled = filled.replace("{name}", "model.safetensors").replace("<slug:name>", "0")
        filled = filled.replace("<slug:slug>", "which-language").replace("{slug}", "which-language")
        filled = filled.replace("<str:secret>", "guess")
        filled = filled.replace("<int:attempt>", "1").replace("{attempt}", "1")
        assert not re.search(r"[<{]", filled), f"teach this test to fill in {filled}"
        return "/" + filled.lstrip("/")


@pytest.fixture
def theirs(db: None, tmp_path: Any) -> Theirs:
    owner = create_user(SECRET)
    workspace = owner.memberships.get().workspace
    workspace.name = f"Workspace {SECRET}"
    workspace.save()
    common = {"workspace": workspace, "created_by": owner}
    model = BaseModel.objects.create(
        workspace=workspace,
        slug="own-model",
        name=f"Model {SECRET}",
        kind="text-encoder",
        source="folder",
        reference="/x",
    )
    dataset = Dataset.objects.create(**common, name=f"Data {SECRET}", status="ready")
    version = DatasetVersion.objects.create(
        dataset=dataset,
        content_hash="a" * 64,
        storage_prefix=f"datasets/{dataset.pk}/versions/a",
        size_bytes=1,
        rows=3,
        splits={"train": 3},
        columns=[{"name": SECRET, "kind": "text"}],
    )
    dataset.version = version
    dataset.save()
    run = Run.objects.create(
        **common,
        name=f"Run {SECRET}",
        base_model=model,
        dataset_version=version,
        dataset_name=dataset.name,
        dataset_hash="a" * 64,
        task="text-classification",
        method="head",
        columns={},
        settings={},
    )
    path = tmp_path / "weights"
    path.write_text(SECRET)
    storage.put(path, f"runs/{run.pk}/artifacts/model.safetensors")
    Artifact.objects.create(
        run=run,
        name="model.safetensors",
        storage_key=f"runs/{run.pk}/artifacts/model.safetensors",
        size=len(SECRET),
        sha256="0" * 64,
    )
    attempt = Attempt.objects.create(run=run, number=1, lease_until=timezone.now(), log_tail=SECRET)
    Log.objects.create(attempt=attempt, read=9, size=len(SECRET) + 1, lines=1)
    LogChunk.objects.create(attempt=attempt, start=0, first_line=1, data=f"{SECRET}\n".encode())
    token = ApiToken.issue(owner, workspace, f"Token {SECRET}")[0]
    host = Worker.objects.create(
        name="host:/home", host="host", pid=1, last_seen_at=timezone.now() - timedelta(1)
    )
    Attempt.objects.filter(pk=attempt.pk).update(worker=host)
    channel = Channel.objects.create(
        user=owner,
        workspace=workspace,
        kind="webhook",
        name=f"Webhook {SECRET}",
        sealed_url=seal(f"https://8.8.8.8/{SECRET}"),
        sealed_secret=seal(f"whsec_{SECRET}"),
    )
    delivery = outbox.send_test(channel)
    outbox.tell(run, "failed", SECRET, channels=[outbox.ensure_own(owner.pk, workspace.pk) or channel])
    assert Delivery.objects.filter(
        in_app=True, message__title=messages.TITLES["failed"].format(name=run.name)
    )
    return Theirs(
        workspace, owner, owner.memberships.get(), run, dataset, model, token, host, channel, delivery
    )


def body_of(answer: Any) -> str:
    data = b"".join(answer.streaming_content) if answer.streaming else answer.content
    return str(data.decode(errors="replace"))


def facts(theirs: Theirs) -> list[Any]:
    """What must be the same afterwards."""
    return [
        list(kind.objects.order_by("pk").values())
        for kind in (
            Run,
            Dataset,
            DatasetVersion,
            Artifact,
            ApiToken,
            Membership,
            Workspace,
            BaseModel,
            Worker,
        )
    ] + [User.objects.count(), theirs.run.events.count(), *_told(theirs)]


def _told(theirs: Theirs) -> list[Any]:
    """Their channels and messages; whoever looks may have their own."""
    return [
        list(kind.objects.filter(user=theirs.owner).order_by("pk").values()) for kind in (Channel, Delivery)
    ]


def facts_of(theirs: Theirs) -> list[Any]:
    """The same without what the stranger may make in a workspace of their own."""
    place = theirs.workspace
    return [
        list(kind.objects.filter(**{where: place.pk}).order_by("pk").values())
        for kind, where in (
            (Run, "workspace"),
            (Dataset, "workspace"),
            (DatasetVersion, "dataset__workspace"),
            (Artifact, "run__workspace"),
            (ApiToken, "workspace"),
            (Membership, "workspace"),
            (Workspace, "pk"),
            (BaseModel, "workspace"),
        )
    ] + [theirs.run.events.count(), list(Worker.objects.values()), *_told(theirs)]


def test_nobody_who_is_not_signed_in_sees_or_changes_anything(theirs: Theirs) -> None:
    before = facts(theirs)
    tried = 0
    for address in addresses():
        if address.name in PUBLIC:
            continue
        for method in METHODS:
            answer = getattr(Client(), method)(theirs.path(address.route))
            assert answer.status_code == 302, (method, address)
            assert answer["Location"].startswith("/accounts/sign-in/?next="), (method, address)
            assert SECRET not in body_of(answer), (method, address)
            tried += 1
    assert tried > 150
    assert facts(theirs) == before


def test_what_is_public_says_nothing_about_anybody(theirs: Theirs) -> None:
    public = [address for address in addresses() if address.name in PUBLIC]
    assert {address.name for address in public} | {"api:openapi-json"} == set(PUBLIC)
    for address in public:
        assert SECRET not in body_of(Client().get(theirs.path(address.route)))


def test_what_is_excepted_is_still_there() -> None:
    assert {address.name for address in addresses()} >= SHARED


def test_people_of_other_workspaces_find_nothing(theirs: Theirs) -> None:
    stranger = create_user("mallory")
    client = Client()
    client.force_login(stranger)
    before = facts_of(theirs)
    for address in addresses():
        if address.name in PUBLIC or address.name == "accounts:sign_out":
            continue
        for method in METHODS:
            answer = getattr(client, method)(theirs.path(address.route))
            assert SECRET not in body_of(answer), (method, address)
            if address.name not in SHARED:
                allowed = {404, 405} | ({200} if method == "options" else set())
                assert answer.status_code in allowed, (method, address, answer.status_code)
    assert facts_of(theirs) == before


def test_what_is_not_theirs_cannot_be_put_into_a_form(theirs: Theirs) -> None:
    client = Client()
    client.force_login(create_user("mallory"))
    choice = {"model": "own-model", "dataset": theirs.dataset.pk, "method": "head"}
    assert SECRET not in body_of(client.get("/runs/new/", choice))
    assert SECRET not in body_of(client.post("/runs/new/", choice))
    client.post("/accounts/workspace/switch/", {"workspace": theirs.workspace.pk})
    assert SECRET not in body_of(client.get("/"))
    assert Run.objects.count() == 1


def operations() -> list[tuple[str, str]]:
    paths = api.get_openapi_schema()["paths"]
    return [(method, path) for path, methods in paths.items() for method in methods]


def test_the_api_answers_nobody_without_a_token(theirs: Theirs) -> None:
    before = facts(theirs)
    assert len(operations()) >= 15
    for path in sorted({path for _method, path in operations()}):
        for method in METHODS:
            for headers in ({}, {"Authorization": "Bearer tb_guess"}):
                answer = getattr(Client(headers=headers), method)(theirs.path(path))
                expected = 401 if (method, path) in operations() else 405
                assert answer.status_code == expected, (method, path, answer.status_code)
                if method != "head":
                    assert set(answer.json()) == {"error"}
    assert facts(theirs) == before


# A request that would be right if it came from somebody who may; what asks for more must be added here.
BODIES: dict[str, dict[str, Any]] = {
    "/api/v1/runs": {
        "data": {"model": "own-model", "dataset": 0, "method": "head"},
        "content_type": "application/json",
    },
    "/api/v1/runs/{run_id}/extend": {"data": {"max_steps": 5}, "content_type": "application/json"},
    "/api/v1/runs/{run_id}/priority": {"data": {"priority": "high"}, "content_type": "application/json"},
    "/api/v1/runs/{run_id}/duplicate": {"data": {}, "content_type": "application/json"},
    "/api/v1/datasets": {"data": {"file": b"text,label\na,b\n"}},
    "/api/v1/storage/preview": {"data": {"run_days": 0}, "content_type": "application/json"},
    "/api/v1/storage/rule": {"data": {"run_days": 0}, "content_type": "application/json"},
}


def sent(theirs: Theirs, client: Client, method: str, path: str) -> Any:
    """The operation with a body that is whole, so that nothing but the caller can be wrong."""
    if method != "post" or path not in BODIES:
        return getattr(client, method)(theirs.path(path))
    body = {**BODIES[path], "data": dict(BODIES[path]["data"])}
    if "dataset" in body["data"]:
        body["data"]["dataset"] = theirs.dataset.pk
    if "file" in body["data"]:
        body["data"]["file"] = SimpleUploadedFile("r.csv", body["data"]["file"])
    return client.post(theirs.path(path), **body)


def test_tokens_of_other_workspaces_find_nothing(theirs: Theirs) -> None:
    stranger = create_user("mallory")
    secret = ApiToken.issue(stranger, stranger.memberships.get().workspace, "theirs")[1]
    client = Client(headers={"Authorization": f"Bearer {secret}"})
    before = facts_of(theirs)
    for method, path in operations():
        answer = sent(theirs, client, method, path)
        assert SECRET not in body_of(answer), (method, path)
        assert answer.status_code < 500, (method, path)
        if "_id}" in path:
            assert answer.status_code == 404, (method, path, answer.status_code)
    assert facts_of(theirs) == before


def test_a_token_launches_nothing_with_what_is_not_theirs(theirs: Theirs) -> None:
    stranger = create_user("mallory")
    secret = ApiToken.issue(stranger, stranger.memberships.get().workspace, "theirs")[1]
    client = Client(headers={"Authorization": f"Bearer {secret}"})
    answer = sent(theirs, client, "post", "/api/v1/runs")
    assert answer.status_code == 422
    assert set(answer.json()["error"]["fields"]) == {"model", "dataset"}
    assert SECRET not in body_of(answer) and Run.objects.count() == 1


def test_viewers_change_no_run_from_a_workspace_of_their_own_either(theirs: Theirs) -> None:
    viewer = create_user("vic")  # owns a workspace, and is in it now
    Membership.objects.create(user=viewer, workspace=theirs.workspace, role=Membership.Role.VIEWER)
    client = Client()
    client.force_login(viewer)
    before = facts_of(theirs)
    assert client.get(f"/runs/{theirs.run.pk}/").status_code == 200
    tried = [address for address in addresses() if address.route.startswith("runs/<int:pk>/")]
    assert len(tried) > 10
    for address in tried:
        answer = client.post(theirs.path(address.route))
        assert answer.status_code in {403, 405}, (address, answer.status_code)
    assert facts_of(theirs) == before


def test_viewers_change_nothing(theirs: Theirs) -> None:
    viewer = create_user("vic")
    Membership.objects.filter(user=viewer).delete()
    Membership.objects.create(user=viewer, workspace=theirs.workspace, role=Membership.Role.VIEWER)
    viewer.last_workspace = theirs.workspace
    viewer.save()
    own = {"accounts:save_profile", "accounts:set_password", "accounts:sign_out", "accounts:create_token"}
    own |= {"accounts:create_workspace", "accounts:switch_workspace"}
    client = Client()
    client.force_login(viewer)
    secret = ApiToken.issue(viewer, theirs.workspace, "viewer")[1]
    script = Client(headers={"Authorization": f"Bearer {secret}"})
    before = facts(theirs)
    for address in addresses():
        if address.name in PUBLIC or address.name in own:
            continue
        answer = client.post(theirs.path(address.route))
        expected = {404} if address.name == "accounts:revoke_token" else {403, 405}  # the token is another's
        if address.name.startswith("notifications:"):
            expected = {302, 405, 422} if address.name in OWN_NOTIFICATIONS else {404, 405}
        assert answer.status_code in expected, (address, answer.status_code)
    for method, path in operations():
        if method != "get":
            answer = sent(theirs, script, method, path)
            expected = {403}
            if "/notifications/" in path:
                expected = {404} if "_id}" in path else {400}  # their own, were there a body
            assert answer.status_code in expected, (path, answer.status_code)
    after = facts(theirs)
    for row in (*before[4], *after[4]):
        row.pop("last_used_at")
    assert after == before
