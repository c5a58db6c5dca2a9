"""One's own name, password and tokens."""

from __future__ import annotations

import re

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from webapp.accounts import tokens
from webapp.accounts.models import ApiToken, Membership, User
from webapp.accounts.people import create_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada(client: Client) -> User:
    user = create_user("ada", password="correct horse battery")
    client.force_login(user)
    return user


def test_a_token_is_shown_once_and_works(client: Client, ada: User) -> None:
    page = client.post("/accounts/profile/tokens/", {"name": "nightly"}).content.decode()
    found = re.search(r'id="new-token">(tb_[\w-]+)<', page)
    assert found
    token = tokens.authenticate(found.group(1))
    assert token is not None
    assert (token.user, token.name) == (ada, "nightly")
    again = client.get("/accounts/profile/").content.decode()
    assert found.group(1) not in again
    assert "nightly" in again


def test_a_revoked_token_works_no_more(client: Client, ada: User) -> None:
    token, secret = ApiToken.issue(ada, ada.last_workspace, "x")  # type: ignore[arg-type]
    client.post(f"/accounts/profile/tokens/{token.pk}/revoke/")
    assert tokens.authenticate(secret) is None


def test_nobody_revokes_a_token_of_somebody_else(client: Client, ada: User) -> None:
    eve = create_user("eve")
    token, secret = ApiToken.issue(eve, eve.last_workspace, "x")  # type: ignore[arg-type]
    assert client.post(f"/accounts/profile/tokens/{token.pk}/revoke/").status_code == 404
    assert tokens.authenticate(secret) is not None


def test_a_token_ends_with_the_membership_and_with_the_account(ada: User) -> None:
    _, secret = ApiToken.issue(ada, ada.last_workspace, "x")  # type: ignore[arg-type]
    User.objects.update(is_active=False)
    assert tokens.authenticate(secret) is None
    User.objects.update(is_active=True)
    assert tokens.authenticate(secret) is not None
    Membership.objects.all().delete()
    assert tokens.authenticate(secret) is None


def test_a_token_without_a_name_is_told_beside_the_field(client: Client, ada: User) -> None:
    answer = client.post("/accounts/profile/tokens/", {"name": " "})
    assert answer.status_code == 422
    assert "This field is required" in answer.content.decode()


def test_a_name_with_markup_is_shown_as_text(client: Client, ada: User) -> None:
    client.post("/accounts/profile/tokens/", {"name": "<script>alert(1)</script>"})
    assert "<script>alert" not in client.get("/accounts/profile/").content.decode()


def test_a_new_password_holds(client: Client, ada: User) -> None:
    client.post(
        "/accounts/profile/password/", {"new_password1": "a fresh one 91", "new_password2": "a fresh one 91"}
    )
    assert client.get("/accounts/profile/").status_code == 200, "this session goes on"
    answer = Client().post("/accounts/sign-in/", {"username": "ada", "password": "a fresh one 91"})
    assert answer.status_code == 302


def test_the_command_prints_a_token_alone(ada: User, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("token", "ada")
    secret = capsys.readouterr().out
    assert re.fullmatch(r"tb_[\w-]+\n", secret)
    assert tokens.authenticate(secret.strip()) is not None


def test_the_command_names_the_users_that_there_are(ada: User) -> None:
    with pytest.raises(CommandError, match=r"no user 'bob'.*There are: ada"):
        call_command("token", "bob")
