"""People come in by password or by a one-time link, and nobody else does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from webapp.accounts import links
from webapp.accounts.models import SignInLink, User
from webapp.accounts.people import create_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> User:
    return create_user("ada", password="correct horse battery")


def path_of(link: str) -> str:
    return "/" + link.split("/", 3)[3]


def test_a_password_signs_in(client: Client, ada: User) -> None:
    answer = client.post(
        "/accounts/sign-in/", {"username": "ada", "password": "correct horse battery"}, follow=True
    )
    assert answer.status_code == 200
    assert "ada’s workspace" in answer.content.decode()


def test_a_wrong_password_is_told_beside_the_form_and_keeps_the_name(client: Client, ada: User) -> None:
    page = client.post("/accounts/sign-in/", {"username": "ada", "password": "wrong"}).content.decode()
    assert "do not go together" in page
    assert 'value="ada"' in page


def test_guessing_locks_out_with_a_sentence(client: Client, ada: User) -> None:
    for _ in range(8):
        answer = client.post("/accounts/sign-in/", {"username": "ada", "password": "guess"})
    assert answer.status_code == 429
    assert "Too many wrong passwords" in answer.content.decode()
    answer = client.post("/accounts/sign-in/", {"username": "ada", "password": "correct horse battery"})
    assert answer.status_code == 429


def test_a_link_signs_in_once(client: Client, ada: User) -> None:
    path = path_of(links.make_link(ada))
    assert client.get(path).status_code == 200, "looking at it uses nothing up"
    assert client.post(path).status_code == 302
    assert client.get("/accounts/profile/").status_code == 200
    other = Client().post(path)
    assert other.status_code == 410
    assert "does not work any more" in other.content.decode()


def test_a_link_ends_with_its_time(client: Client, ada: User) -> None:
    path = path_of(links.make_link(ada, hours=1))
    SignInLink.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert client.post(path).status_code == 410


def test_a_link_of_a_closed_account_signs_nobody_in(client: Client, ada: User) -> None:
    path = path_of(links.make_link(ada))
    User.objects.update(is_active=False)
    assert client.post(path).status_code == 410


def test_the_secret_of_a_link_is_not_kept(ada: User) -> None:
    secret = links.make_link(ada).rstrip("/").rsplit("/", 1)[1]
    assert not SignInLink.objects.filter(digest=secret).exists()


def test_strangers_are_sent_to_the_sign_in_page(client: Client) -> None:
    answer = client.get("/accounts/profile/")
    assert answer.status_code == 302
    assert answer["Location"].startswith("/accounts/sign-in/")


def test_signing_out(client: Client, ada: User) -> None:
    client.force_login(ada)
    client.post("/accounts/sign-out/")
    assert client.get("/accounts/profile/").status_code == 302


def test_the_command_prints_a_link_that_works(
    client: Client, ada: User, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("sign_in_link", "ada")
    assert client.post(path_of(capsys.readouterr().out.strip())).status_code == 302
