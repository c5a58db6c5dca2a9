"""Workspaces: who is in, what they may do, and going from one to another."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from webapp.accounts.models import Membership, User, Workspace
from webapp.accounts.people import create_user, create_workspace

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada(client: Client) -> User:
    user = create_user("ada")
    client.force_login(user)
    return user


def membership_of(user: User, workspace: Workspace | None) -> Membership:
    return Membership.objects.get(user=user, workspace=workspace)


def test_a_new_person_gets_a_link_to_come_by(client: Client, ada: User) -> None:
    page = client.post("/accounts/workspace/members/", {"username": "bob", "role": "viewer"}).content.decode()
    found = re.search(r"https?://[^/]+(/accounts/link/[\w-]+/)<", page)
    assert found
    visitor = Client()
    visitor.post(found.group(1))
    assert "ada’s workspace" in visitor.get("/accounts/workspace/").content.decode()
    assert membership_of(User.objects.get(username="bob"), ada.last_workspace).role == "viewer"


def test_adding_somebody_twice_is_told(client: Client, ada: User) -> None:
    answer = client.post("/accounts/workspace/members/", {"username": "ada", "role": "viewer"})
    assert answer.status_code == 422
    assert "is a member already" in answer.content.decode()


def test_the_last_owner_stays(client: Client, ada: User) -> None:
    mine = membership_of(ada, ada.last_workspace)
    page = client.post(f"/accounts/workspace/members/{mine.pk}/", {"role": "viewer"}, follow=True)
    assert "only owner" in page.content.decode()
    page = client.post(f"/accounts/workspace/members/{mine.pk}/remove/", follow=True)
    assert "only owner" in page.content.decode()
    assert membership_of(ada, ada.last_workspace).role == "owner"


def test_members_do_not_manage_members(client: Client, ada: User) -> None:
    bob = create_user("bob")
    Membership.objects.create(user=bob, workspace=ada.last_workspace, role="member")
    User.objects.filter(pk=bob.pk).update(last_workspace=ada.last_workspace)
    client.force_login(bob)
    assert (
        client.post("/accounts/workspace/members/", {"username": "eve", "role": "owner"}).status_code == 403
    )
    mine = membership_of(bob, ada.last_workspace)
    assert client.post(f"/accounts/workspace/members/{mine.pk}/", {"role": "owner"}).status_code == 403
    assert not User.objects.filter(username="eve").exists()


def test_an_owner_does_not_reach_into_another_workspace(client: Client, ada: User) -> None:
    eve = create_user("eve")
    theirs = membership_of(eve, eve.last_workspace)
    assert client.post(f"/accounts/workspace/members/{theirs.pk}/remove/").status_code == 404


def test_going_to_another_workspace(client: Client, ada: User) -> None:
    second = create_workspace("Second", ada)
    client.post("/accounts/workspace/switch/", {"workspace": second.slug})
    assert "Second" in client.get("/accounts/workspace/").content.decode()


def test_nobody_goes_to_a_workspace_that_is_not_theirs(client: Client, ada: User) -> None:
    eve = create_user("eve")
    assert eve.last_workspace is not None
    answer = client.post("/accounts/workspace/switch/", {"workspace": eve.last_workspace.slug})
    assert answer.status_code == 404


def test_two_workspaces_of_one_name_get_two_slugs(ada: User) -> None:
    assert create_workspace("Lab", ada).slug != create_workspace("Lab", ada).slug
