"""Every page, narrow and wide, light and dark: nothing sticks out, nothing is refused, one main heading."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.conftest import Site

PAGES = [
    "/",
    "/models/",
    "/models/?q=bert",
    "/models/all-minilm-l6-v2/",
    "/models/glove-6b-50d/",
    "/models/folder/add/",
    "/datasets/",
    "/datasets/upload/",
    "/runs/",
    "/runs/?status=failed",
    "/runs/new/",
    "/hosts/",
    "/hosts/1/",
    "/accounts/profile/",
    "/accounts/workspace/",
    "/storage/",
    "/storage/preview/?run_days=0&checkpoint_keep=none&metric_action=thin",
    "/storage/site/",
    "/storage/left-over/",
    "/runs/delete/",
    "/notifications/",
    "/notifications/settings/",
    "/notifications/webhooks/add/",
    "/api/docs/",
]


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_and_behave(site: Site, browser: Browser, signed_in: Path, width: int, scheme: str) -> None:
    context = browser.new_context(
        base_url=site.address,
        storage_state=signed_in,
        viewport={"width": width, "height": 900},
        color_scheme=scheme,  # type: ignore[arg-type]
    )
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    for address in PAGES:
        answer = page.goto(address)
        assert answer is not None and answer.status == 200, address
        page.wait_for_timeout(150)
        beyond = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert beyond <= 0, f"{address} is {beyond} px too wide at {width} px"
        assert page.locator("h1").count() == 1, address
        assert not complaints, (address, complaints)
    context.close()


def test_pages_work_without_javascript(site: Site, browser: Browser, signed_in: Path) -> None:
    context = browser.new_context(base_url=site.address, storage_state=signed_in, java_script_enabled=False)
    page = context.new_page()
    for address in PAGES:
        answer = page.goto(address)
        assert answer is not None and answer.status == 200, address
        assert page.locator("main").inner_text().strip(), address
    page.goto("/runs/new/?model=all-minilm-l6-v2")
    assert page.get_by_role("button", name="Continue").is_visible(), "the form goes on without scripts"
    context.close()
