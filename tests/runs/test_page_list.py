"""The list of runs is searched, filtered, sorted and paged by its address, and stays right by itself."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
from django.test import Client
from django.utils import timezone

from runs.models import Run

from .conftest import Lab, poll, text_of


def show(browser: Client, query: str = "") -> str:
    answer = browser.get(f"/runs/{query}")
    assert answer.status_code == 200
    return answer.content.decode()


def names_in(html: str) -> list[str]:
    return re.findall(r'<a class="list-main" href="/runs/\d+/">([^<]+)</a>', html)


@pytest.fixture
def three(lab: Lab) -> list[Run]:
    """alpha is the oldest and ended last, gamma trains."""
    now = timezone.now()
    return [
        lab.run(name="alpha", status="succeeded", created_at=now - timedelta(hours=3), finished_at=now),
        lab.run(
            name="beta",
            status="failed",
            created_at=now - timedelta(hours=2),
            finished_at=now - timedelta(hours=1),
            dataset_name="Kittens",
            method="lora",
            failure={"message": "It ran out of memory."},
        ),
        lab.run(name="gamma", status="running", created_at=now - timedelta(hours=1)),
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["gamma", "beta", "alpha"]),
        ("?q=alp", ["alpha"]),
        ("?q=KITTEN", ["beta"]),
        ("?q=tiny", ["gamma", "beta", "alpha"]),
        ("?status=failed", ["beta"]),
        ("?status=active", ["gamma"]),
        ("?method=lora", ["beta"]),
        ("?model=tiny&method=head", ["gamma", "alpha"]),
        ("?task=text-classification&method=head", ["gamma", "alpha"]),
        ("?sort=name", ["alpha", "beta", "gamma"]),
        ("?sort=oldest", ["alpha", "beta", "gamma"]),
        ("?sort=finished", ["alpha", "beta", "gamma"]),
        ("?status=failed&q=alpha", []),
        ("?status=unknown&task=%27&sort=--&q=%00&page=x", ["gamma", "beta", "alpha"]),
    ],
)
def test_it_is_searched_filtered_and_sorted_by_its_address(
    browser: Client, three: list[Run], query: str, expected: list[str]
) -> None:
    assert names_in(show(browser, query)) == expected


def test_the_form_shows_what_is_chosen_and_offers_only_what_occurs(browser: Client, three: list[Run]) -> None:
    page = show(browser, "?q=be&status=failed&method=lora")
    assert 'value="be"' in page
    for chosen in ("failed", "lora"):
        assert f'<option value="{chosen}" selected>' in page
    methods = page.split('name="method"', 1)[1].split("</select>", 1)[0]
    assert set(re.findall(r'value="([a-z_]+)"', methods)) == {"lora", "head"}
    assert "Clear" in text_of(page) and "Clear" not in text_of(show(browser, "?sort=name"))


def test_nothing_that_matches_leads_back_to_all(browser: Client, three: list[Run]) -> None:
    nothing = show(browser, "?q=zzz")
    assert "No run matches" in nothing and "Show all runs" in nothing and names_in(nothing) == []


def test_a_long_list_has_pages_that_keep_the_filter(browser: Client, lab: Lab) -> None:
    for number in range(30):
        lab.run(name=f"run {number:02}")
    first = show(browser, "?q=run&sort=name")
    assert len(names_in(first)) == 25 and "30 runs, 1–25 shown" in text_of(first)
    following = re.search(r'href="(\?[^"]*page=2[^"]*)"', first)
    assert following and "q=run" in following[1] and "sort=name" in following[1]
    second = show(browser, unescape(following[1]))
    assert names_in(second) == [f"run {number:02}" for number in range(25, 30)]
    assert names_in(show(browser, "?q=run&sort=name&page=99")) == names_in(second), "past the end is the end"


def test_each_run_says_how_it_stands(browser: Client, lab: Lab, three: list[Run]) -> None:
    lab.run(name="busy", status="running", phase="training", step=30, total_steps=120, eta_seconds=65)
    lab.run(name="good", status="succeeded", metrics={"accuracy": 0.912})
    said = text_of(show(browser))
    assert "Training · step 30 of 120 · 1 min 5 s left" in said
    assert "It ran out of memory." in said
    assert "91.2 % Accuracy" in said


def test_it_asks_for_itself_again_with_its_filter_and_sooner_while_something_trains(
    browser: Client, lab: Lab
) -> None:
    run = lab.run(status="running")
    page = unescape(show(browser, "?q=First&sort=name"))
    assert 'hx-get="/runs/?q=First&sort=name"' in page and 'hx-trigger="every 3s"' in page
    Run.objects.filter(pk=run.pk).update(status="succeeded")
    assert 'hx-trigger="every 15s"' in show(browser)


def test_only_what_changed_is_sent(browser: Client, three: list[Run]) -> None:
    path = "/runs/?status=active"
    tag = browser.get(path)["HX-PTag"]
    unchanged = poll(browser, path, tag)
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert poll(browser, "/runs/?status=failed", tag).status_code == 200, "another filter is another fragment"
    Run.objects.filter(pk=three[0].pk).update(status="running", row_version=9)
    fragment = poll(browser, path, tag).content.decode()
    assert "<html" not in fragment and names_in(fragment) == ["gamma", "alpha"]


def test_runs_of_other_workspaces_are_not_in_it(lab: Lab, three: list[Run]) -> None:
    client = Client()
    client.force_login(lab.stranger)
    page = show(client, "?q=alpha")
    assert names_in(page) == [] and "No runs yet" in page
    tag = client.get("/runs/")["HX-PTag"]
    Run.objects.filter(pk=three[0].pk).update(row_version=50)
    assert poll(client, "/runs/", tag).status_code == 304, "nor do they move it"


def test_an_empty_list_leads_members_on_and_tells_viewers(browser: Client, lab: Lab) -> None:
    page = show(browser)
    assert "No runs yet" in page and 'href="/runs/new/"' in page and 'href="/models/"' in page
    viewer = Client()
    viewer.force_login(lab.viewer)
    page = show(viewer)
    assert "No runs yet" in page and "/runs/new/" not in page
