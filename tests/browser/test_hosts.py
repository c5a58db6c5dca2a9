"""The pages of hosts in a browser: numbers and charts stay live, and only what is new is asked for."""

from __future__ import annotations

import re

from playwright.sync_api import Page, Request, expect

from runs.execution.hosts import own_version
from tests.browser.conftest import Site


def test_a_host_is_watched_live_drained_and_taken_up_again(page: Page) -> None:
    asked: list[str] = []

    def note(request: Request) -> None:
        if "/points/" in request.url:
            asked.append(request.url)

    page.on("request", note)
    page.goto("/")
    page.get_by_role("link", name="Hosts").click()
    expect(page.get_by_role("heading", name="Hosts")).to_be_visible()
    page.locator(".host-table a.list-main").first.click()
    expect(page.get_by_text("Running now")).to_be_visible()

    # The charts of its CPU and memory are drawn, and grow by what is new alone.
    cpu = page.locator("figure", has=page.get_by_role("heading", name="CPU use"))
    expect(cpu.locator("canvas")).to_be_visible(timeout=60_000)
    expect(cpu.locator(".chart-plot")).to_have_attribute(
        "aria-label", re.compile(r"CPU use: CPU [\d.]+ % at \d\d:\d\d:\d\d"), timeout=60_000
    )
    before = cpu.locator(".chart-plot").get_attribute("aria-label") or ""
    expect(cpu.locator(".chart-plot")).not_to_have_attribute("aria-label", before, timeout=60_000)
    assert "since=" not in asked[0] and asked[1:] and all("since=" in url for url in asked[1:])

    # Drained by a button that asks first; then taken up again.
    page.get_by_role("button", name="Drain").click()
    page.get_by_role("dialog").get_by_role("button", name="Drain").click()
    expect(page.get_by_text("the host can be stopped now")).to_be_visible()
    page.get_by_role("button", name="Take runs again").click()
    expect(page.locator("#host-live .status-badge").first).to_have_text("Online")


def test_the_web_server_says_which_version_it_is(site: Site) -> None:
    asked = "from runs.models import Deployment; print(Deployment.objects.get().version)"
    assert site.manage("shell", "-v0", "-c", asked).strip() == own_version()


def test_an_admin_is_shown_how_a_host_joins(page: Page) -> None:
    page.goto("/hosts/")
    expect(page.get_by_role("heading", name="Add a host")).to_be_visible()
    expect(page.locator(".join-command pre").first).to_contain_text("make worker")
