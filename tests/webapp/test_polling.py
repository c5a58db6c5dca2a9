"""A poll that has nothing new is one query, and still tells nothing to whoever may not look."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from webapp.accounts.models import Session, User
from webapp.accounts.people import create_user
from webapp.datasets.models import Dataset

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
