"""The form of a new run keeps up with its fields and does not get in the way of Launch."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect


def test_one_click_launches_though_a_field_was_changed_just_before(page: Page) -> None:
    page.goto("/datasets/")
    page.get_by_role("button", name="Which language?").click()
    use = page.get_by_role("link", name="Use in a run")
    expect(use).to_be_visible(timeout=60_000)
    use.click()
    page.locator("label", has_text="all-MiniLM-L6-v2").click()
    expect(page.get_by_role("button", name="Launch")).to_be_enabled()
    page.get_by_label("Name of the run").fill("Typed a moment ago")  # the click below takes the focus from it
    page.get_by_role("button", name="Launch").click()
    page.wait_for_url(re.compile(r"/runs/\d+/$"))
    expect(page.get_by_role("heading", level=1)).to_have_text("Typed a moment ago")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.get_by_text("Cancel requested.")).to_be_visible()
    expect(page.locator(".run-facts-line .status-badge")).to_have_text("Cancelled", timeout=90_000)
