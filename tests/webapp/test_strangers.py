"""Nobody sees what is not theirs: every page and every API operation, asked for by a stranger.

The addresses are walked, not listed: one that is added is tried without anybody thinking of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from runs.models import Run
from tests.webapp.theirs import SECRET, Theirs, facts, facts_of, make_theirs
from webapp.accounts.models import ApiToken, Membership
from webapp.accounts.people import create_user
from webapp.api import api

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
    "overview", "api_docs", "uploads:collection", "datasets:list", "datasets:upload", "datasets:from_hub", "datasets:use_sample", "runs:list", "runs:new",
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


@pytest.fixture
def theirs(db: None, tmp_path: Path) -> Theirs:
    return make_theirs(tmp_path)


def body_of(answer: Any) -> str:
    data = b"".join(answer.streaming_content) if answer.streaming else answer.content
    return str(data.decode(errors="replace"))


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
    known = operations()
    assert len(known) >= 15
    for path in sorted({path for _method, path in known}):
        for method in METHODS:
            for headers in ({}, {"Authorization": "Bearer tb_guess"}):
                answer = getattr(Client(headers=headers), method)(theirs.path(path))
                expected = 401 if (method, path) in known else 405
                assert answer.status_code == expected, (method, path, answer.status_code)
                if method != "head":
                    assert set(answer.json()) == {"error"}
    assert facts(theirs) == before


# A request that would be right if it came from somebody who may; what asks for more must be added here.
BODIES: dict[str, dict[str, Any]] = {
    "/api/v1/datasets/{dataset_id}/changes": {
        "data": {"change": {"op": "drop_rows", "split": "train", "rows": [1]}},
        "content_type": "application/json",
    },
    "/api/v1/datasets/{dataset_id}/token-lengths": {
        "data": {"model": "own-model"},
        "content_type": "application/json",
    },
    "/api/v1/runs": {
        "data": {"model": "own-model", "dataset": 0, "method": "head"},
        "content_type": "application/json",
    },
    "/api/v1/runs/{run_id}/extend": {"data": {"max_steps": 5}, "content_type": "application/json"},
    "/api/v1/runs/{run_id}/priority": {"data": {"priority": "high"}, "content_type": "application/json"},
    "/api/v1/runs/{run_id}/duplicate": {"data": {}, "content_type": "application/json"},
    "/api/v1/datasets/from-uploads": {"data": {"uploads": []}, "content_type": "application/json"},
    "/api/v1/datasets/from-hub": {"data": {"dataset": "lab/reviews"}, "content_type": "application/json"},
    "/api/v1/datasets/{dataset_id}/files": {"data": {"file": b"text,label\na,b\n"}},
    "/api/v1/datasets": {"data": {"file": b"text,label\na,b\n"}},
    "/api/v1/storage/preview": {"data": {"run_days": 0}, "content_type": "application/json"},
    "/api/v1/storage/rule": {"data": {"run_days": 0}, "content_type": "application/json"},
}


def sent(theirs: Theirs, client: Client, method: str, path: str) -> Any:
    """The operation with a body that is whole, so that nothing but the caller can be wrong."""
    if method != "post" or path not in BODIES:
        return getattr(client, method)(theirs.path(path))
    body = {**BODIES[path], "data": dict(BODIES[path]["data"])}
    if body["data"].get("dataset") == 0:
        body["data"]["dataset"] = theirs.dataset.pk
    if "uploads" in body["data"]:
        body["data"]["uploads"] = [str(theirs.upload.pk)]
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
