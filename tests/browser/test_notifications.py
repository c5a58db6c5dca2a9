"""Notifications of the system in a real Chromium: asked for by a click, shown once whatever is open, leading to the run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Page

from runs.models import Delivery, Run
from runs.notifications import outbox
from webapp.accounts.people import create_user
from webapp.catalog.models import BaseModel

pytestmark = pytest.mark.django_db(transaction=True)
# Playwright keeps an event loop in this thread; Django takes that for asynchronous code.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
# Headless Chromium shows nothing that could be looked at: what is handed to it is written down.
OBSERVED = """
window.shown = [];
const Real = window.Notification;
window.Notification = class extends Real {
  constructor(title, options) {
    super(title, options);
    window.shown.push({title, body: options.body, tag: options.tag, click: () => this.onclick()});
  }
};
"""
PASSED = 21_000  # milliseconds: a little more than between two questions


@pytest.fixture
def anna(live_server: Any) -> Any:
    return create_user("anna")


@pytest.fixture
def context(browser: Browser, live_server: Any, anna: Any) -> Iterator[BrowserContext]:
    """A signed-in browser that may show notifications of the system."""
    client = Client()
    client.force_login(anna)
    opened = browser.new_context(base_url=live_server.url.replace("127.0.0.1", "localhost"))
    cookies = [{"name": k, "value": v.value, "url": "http://localhost"} for k, v in client.cookies.items()]
    opened.add_cookies(cookies)  # type: ignore[arg-type]
    opened.grant_permissions(["notifications"])
    opened.add_init_script(OBSERVED)
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    yield opened
    opened.close()
    assert not complaints, complaints


@pytest.fixture
def tell(anna: Any) -> Callable[[str], Run]:
    """Has a run of hers succeed, as far as the bell is concerned."""
    model = BaseModel.objects.create(slug="tiny", name="Tiny", kind="text-encoder", source="folder")

    def told(name: str) -> Run:
        run = Run.objects.create(
            **{"workspace": anna.workspaces.get(), "created_by": anna, "name": name, "base_model": model},
            **{
                "dataset_name": "Reviews",
                "dataset_hash": "a",
                "task": "text-classification",
                "method": "head",
            },
            **{"columns": {}, "settings": {}, "status": "succeeded"},
        )
        outbox.tell(run, "succeeded", "Succeeded.")
        return run

    return told


def tab(context: BrowserContext, path: str = "/notifications/settings/") -> Page:
    page = context.new_page()
    page.clock.install()
    page.goto(path)
    return page


def shown(*pages: Page) -> list[str]:
    return [item["title"] for page in pages for item in page.evaluate("window.shown")]


def until_shown(page: Page, how_many: int) -> None:
    for _ in range(200):  # wait_for_function evaluates text in the page, which its policy refuses
        if len(shown(page)) == how_many:
            return
        page.wait_for_timeout(50)
    raise AssertionError(shown(page))


def count(page: Page) -> str:
    label = page.locator("[data-bell-count]")
    return label.inner_text().split()[0] if label.is_visible() else ""


def test_nothing_is_asked_or_shown_before_somebody_clicks(
    context: BrowserContext, tell: Callable[[str], Run]
) -> None:
    page = tab(context)
    tell("Languages")
    with page.expect_response("**/notifications/new/**"):
        page.clock.fast_forward(PASSED)
    page.wait_for_selector("[data-bell-count]:visible")
    assert count(page) == "1" and shown(page) == []


def test_two_tabs_show_it_once_and_both_count_it(context: BrowserContext, tell: Callable[[str], Run]) -> None:
    first = tab(context)
    first.get_by_role("button", name="Show them in this browser").click()
    until_shown(first, 1)
    assert shown(first) == ["Tuneboard"]
    assert first.get_by_role("button", name="Stop showing them in this browser").is_visible()
    second = tab(context, "/runs/")
    run = tell("Languages")
    for page in (first, second):
        page.clock.fast_forward(PASSED)
    for page in (first, second):
        page.wait_for_selector("[data-bell-count]:visible")
        assert count(page) == "1"
    second.wait_for_timeout(500)
    assert sorted(shown(first, second)) == ["Languages has succeeded", "Tuneboard"]
    for page in (first, second):  # nothing new: nothing is shown again
        page.clock.fast_forward(PASSED)
    second.wait_for_timeout(500)
    assert len(shown(first, second)) == 2

    teller = first if "Languages has succeeded" in shown(first) else second
    with context.expect_page() as opened:
        teller.evaluate("window.shown.at(-1).click()")
    opened.value.wait_for_load_state()
    assert opened.value.url.endswith(f"/runs/{run.pk}/")
    assert Delivery.objects.get(run=run).read_at is not None


def test_somebody_who_goes_from_page_to_page_is_told_too(
    context: BrowserContext, tell: Callable[[str], Run]
) -> None:
    page = tab(context)
    page.get_by_role("button", name="Show them in this browser").click()
    until_shown(page, 1)
    tell("Languages")
    page.goto("/datasets/")  # comes with the new count already, long before the next question
    until_shown(page, 1)
    assert shown(page) == ["Languages has succeeded"]
    page.goto("/runs/")
    page.wait_for_timeout(500)
    assert shown(page) == []


def test_switched_off_it_shows_nothing_more(context: BrowserContext, tell: Callable[[str], Run]) -> None:
    page = tab(context)
    page.get_by_role("button", name="Show them in this browser").click()
    page.get_by_role("button", name="Stop showing them in this browser").click()
    before = shown(page)
    tell("Languages")
    page.clock.fast_forward(PASSED)
    page.wait_for_selector("[data-bell-count]:visible")
    page.wait_for_timeout(300)
    assert shown(page) == before
