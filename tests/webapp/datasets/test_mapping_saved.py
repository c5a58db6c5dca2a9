"""What was chosen on the mapping page makes a version, which suggests it to runs."""

from __future__ import annotations

import html
import re

import pytest
from django.test import Client
from django.urls import reverse

from tests.webapp.datasets.conftest import Inspected
from tests.webapp.datasets.test_mapping import CSV, error, page
from webapp.accounts.models import User
from webapp.datasets.changing import run_change
from webapp.datasets.models import Change, Dataset

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def client(client: Client, user: User) -> Client:
    client.force_login(user)
    return client


@pytest.fixture
def reviews(inspected: Inspected) -> Dataset:
    return inspected(("reviews.csv", CSV))


def sent(shown: str) -> dict[str, str]:
    """What the button sends, as a browser does: the form as it is, so that nothing else than what it says is saved."""
    form = re.search(r'<form class="card mapping-form".*?</form>', shown, re.S)
    assert form and 'formmethod="post"' in form[0]
    fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form[0]))
    for name, options in re.findall(r'<select name="([^"]+)".*?>(.*?)</select>', form[0], re.S):
        chosen = re.search(r'<option value="([^"]*)" selected', options)
        fields[name] = chosen[1] if chosen else ""
    return {name: html.unescape(value) for name, value in fields.items()}


def test_the_choice_makes_a_version_that_runs_follow(client: Client, reviews: Dataset) -> None:
    address = reverse("datasets:mapping", args=[reviews.pk])
    said = {"task": "text-generation", "set": "text", "column-text": "sentence"}
    fields = sent(page(client, reviews, **said))
    answer = client.post(address, fields)
    assert answer.status_code == 302
    change = Change.objects.get()
    run_change(change.pk, "test")
    reviews.refresh_from_db()
    assert reviews.version is not None and reviews.version.number == 2
    assert reviews.version.suggested["task"] == fields["task"]
    assert "sentence" in reviews.version.suggested["columns"].values()
    first = reviews.version.parent
    assert first is not None and first.content_hash == reviews.version.content_hash


def test_what_is_in_use_already_and_what_does_not_suit_is_said(client: Client, reviews: Dataset) -> None:
    address = reverse("datasets:mapping", args=[reviews.pk])
    same = client.post(address, sent(page(client, reviews)))
    assert same.status_code == 422 and "It is mapped so already." in same.content.decode()
    wrong = sent(page(client, reviews)) | {"column-label": "sentence"}
    answer = client.post(address, wrong)
    assert answer.status_code == 422 and error(answer.content.decode(), "column-label")
    undecided = client.post(address, {"task": ""})
    assert undecided.status_code == 422 and "Choose what a model should learn" in undecided.content.decode()
    assert not Change.objects.exists()


def test_viewers_see_no_button_and_change_nothing(client: Client, reviews: Dataset, viewer: User) -> None:
    fields = sent(page(client, reviews)) | {"column-text": "id"}
    client.force_login(viewer)
    assert "Use these" not in page(client, reviews)
    assert client.post(reverse("datasets:mapping", args=[reviews.pk]), fields).status_code == 403
    assert not Change.objects.exists()


def test_the_button_brings_the_token_that_a_post_needs(reviews: Dataset, user: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    address = reverse("datasets:mapping", args=[reviews.pk])
    shown = page(client, reviews, task="text-generation", set="text")
    button = re.search(r"<button[^>]*csrfmiddlewaretoken[^>]*>", shown)
    assert button
    token = re.search(r'value="([^"]+)"', button[0])
    assert token
    assert client.post(address, sent(shown)).status_code == 403
    assert client.post(address, sent(shown) | {"csrfmiddlewaretoken": token[1]}).status_code == 302
