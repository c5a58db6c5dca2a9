"""A poll that has nothing new is one query, and still tells nothing to whoever may not look."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection, connections
from django.http import HttpResponse
from django.test import Client, RequestFactory
from django.utils import timezone

from webapp.accounts.models import Session, User
from webapp.accounts.people import create_user
from webapp.datasets.models import Dataset
from webapp.polling import not_modified, tag_of, tag_of_many, tagged

Queries = Callable[[int], Any]


@pytest.fixture
def ada(db: None) -> User:
    return create_user("ada", password="a long pass phrase")


@pytest.fixture
def browser(ada: User) -> Client:
    client = Client()
    client.force_login(ada)
    return client


@pytest.fixture
def dataset(ada: User) -> Dataset:
    return Dataset.objects.create(workspace=ada.memberships.get().workspace, name="Data", status="inspecting")


def poll(client: Client, dataset: Dataset, tag: str | None = None) -> Any:
    tag = tag or f"{dataset.pk}-{dataset.row_version}"
    return client.get(f"/datasets/{dataset.pk}/progress/", headers={"HX-Request": "true", "HX-PTag": tag})


def test_nothing_new_is_one_query_and_no_bytes(
    browser: Client, dataset: Dataset, django_assert_num_queries: Queries
) -> None:
    tag = browser.get(f"/datasets/{dataset.pk}/")["HX-PTag"]
    with django_assert_num_queries(1):
        answer = poll(browser, dataset, tag)
    assert (answer.status_code, answer.content, answer["HX-PTag"]) == (304, b"", tag)


def test_a_kept_connection_is_not_tried_by_a_statement_of_its_own(
    browser: Client, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = browser.get(f"/datasets/{dataset.pk}/")["HX-PTag"]
    tried: list[str] = []
    assert connection.health_check_enabled
    monkeypatch.setattr(connections["default"], "is_usable", lambda: tried.append("SELECT 1") or True)
    connection.health_check_done = False  # as each request finds it
    assert poll(browser, dataset, tag).status_code == 304 and tried == []
    connection.health_check_done = False
    assert poll(browser, dataset, "1-0").status_code == 200 and tried, "everything else still tries it"


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_died_meanwhile_is_replaced(browser: Client, dataset: Dataset) -> None:
    tag = browser.get(f"/datasets/{dataset.pk}/")["HX-PTag"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        dead = cursor.fetchone()[0]
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [dead])
    assert poll(browser, dataset, tag).status_code == 304
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        assert cursor.fetchone()[0] != dead


def test_something_new_is_sent(browser: Client, dataset: Dataset) -> None:
    tag = f"{dataset.pk}-{dataset.row_version}"
    Dataset.objects.filter(pk=dataset.pk).update(row_version=dataset.row_version + 1)
    answer = poll(browser, dataset, tag)
    assert answer.status_code == 200 and answer["HX-PTag"] != tag


def test_signing_out_ends_it_at_once(browser: Client, dataset: Dataset) -> None:
    cookie = dict(browser.cookies)
    assert poll(browser, dataset).status_code == 304
    browser.post("/accounts/sign-out/")
    stolen = Client()
    for name, morsel in cookie.items():
        stolen.cookies[name] = morsel.value
    assert poll(stolen, dataset).status_code == 302


@pytest.mark.parametrize("change", ["left", "inactive", "expired", "password"])
def test_whoever_may_no_longer_look_learns_nothing(
    browser: Client, ada: User, dataset: Dataset, change: str
) -> None:
    match change:
        case "left":
            ada.memberships.all().delete()
        case "inactive":
            User.objects.update(is_active=False)
        case "expired":
            Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
        case "password":
            ada.set_password("another pass phrase")
            ada.save()
            dataset.row_version += 1  # what stands there is asked for, and refused
            dataset.save()
            assert poll(browser, dataset, f"{dataset.pk}-1").status_code == 302
            return
    assert poll(browser, dataset).status_code in {302, 404}


def test_strangers_and_people_of_other_workspaces_get_what_they_always_get(dataset: Dataset) -> None:
    assert poll(Client(), dataset).status_code == 302
    other = Client()
    other.force_login(create_user("mallory"))
    assert poll(other, dataset).status_code == 404


@pytest.mark.parametrize("tag", ["1", "-", "a-b", "9" * 60 + "-1", "1-'; DROP TABLE x", "٣-٤"])
def test_a_tag_that_is_none_is_passed_over(browser: Client, dataset: Dataset, tag: str) -> None:
    assert poll(browser, dataset, tag).status_code == 200


def test_a_tag_of_another_row_does_not_count(browser: Client, ada: User, dataset: Dataset) -> None:
    other = Dataset.objects.create(workspace=dataset.workspace, name="Other", status="ready")
    assert poll(browser, dataset, f"{other.pk}-{other.row_version}").status_code == 200


def test_a_tag_changes_with_what_it_stands_for_and_with_nothing_else() -> None:
    row = Dataset(pk=7, row_version=3, name="a")
    assert tag_of(row) == tag_of(Dataset(pk=7, row_version=3, name="b")) == "7-3"
    assert tag_of(Dataset(pk=7, row_version=4)) != tag_of(row) != tag_of(Dataset(pk=8, row_version=3))
    many = tag_of_many("runs", "/runs/?q=a", 1, (2, 5, 1))
    assert many == tag_of_many("runs", "/runs/?q=a", 1, (2, 5, 1))
    others = {
        tag_of_many("runs", "/runs/?q=b", 1, (2, 5, 1)),
        tag_of_many("runs", "/runs/?q=a", 2, (2, 5, 1)),
    }
    assert many not in others and len(others) == 2
    assert tag_of_many("1", 1) != tag_of_many(1, "1"), "what it depends on is not glued together"


def test_only_the_very_tag_is_nothing_new() -> None:
    ask = RequestFactory().get
    for sent, status in ((None, None), ("7-2", None), ("7-33", None), ("7-3", 304)):
        answer = not_modified(ask("/", headers={"HX-PTag": sent} if sent else {}), "7-3")
        assert (answer and answer.status_code) == status, sent
    assert answer is not None and answer["HX-PTag"] == "7-3" and not answer.content


def test_a_fragment_is_never_kept_or_shown_as_the_page() -> None:
    answer = tagged(HttpResponse("fragment"), "7-3")
    assert answer["HX-PTag"] == "7-3" and "HX-Request" in answer["Vary"]
    assert {"private", "no-store"} <= set(answer["Cache-Control"].split(", "))
