"""Files on their way in, by the page's tus client in a real browser: dropped, cut off, reloaded, cancelled."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import Site
from tests.faults.link import Link

MINUTE = 60_000
ROWS = 300_000
NARROW: Any = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 10 MB of rows."""
    path = tmp_path_factory.mktemp("upload") / "many reviews.csv"
    with path.open("w") as file:
        file.write("text,label\n")
        file.writelines(f"review number {n} was written,{'good' if n % 3 else 'bad'}\n" for n in range(ROWS))
    return path


@pytest.fixture
def context(site: Site, browser: Browser, signed_in: Path) -> Iterator[BrowserContext]:
    """Signed in, on a small screen. That a connection was lost is a complaint which these tests cause."""
    made = browser.new_context(base_url=site.address, storage_state=signed_in, viewport=NARROW)
    yield made
    made.close()


@pytest.fixture(scope="module")
def token(site: Site) -> str:
    return site.manage("token", "admin").strip()


def asked(site: Site, token: str, path: str) -> Any:
    request = urllib.request.Request(f"{site.address}/api/v1/{path}")
    request.add_header("Authorization", f"Bearer {token}")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def slow(page: Page, bytes_a_second: int) -> None:
    """How fast the browser sends from now on; 0: as it can."""
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    limits = {"offline": False, "latency": 0, "downloadThroughput": -1}
    session.send("Network.emulateNetworkConditions", {**limits, "uploadThroughput": bytes_a_second or -1})


def until_some_has_gone(page: Page) -> None:
    expect(page.locator("[data-sent-text]")).to_contain_text(
        re.compile(r"[1-9]\.\d MB of .*MB, .*/s, \d+ s left"), timeout=MINUTE
    )


def made(page: Page, site: Site, token: str) -> Any:
    """The dataset on whose page the browser ends up."""
    page.wait_for_url(re.compile(r"/datasets/\d+/$"), timeout=MINUTE)
    return asked(site, token, f"datasets/{page.url.rstrip('/').rsplit('/', 1)[1]}")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_files_are_dropped_and_become_a_dataset(page: Page, site: Site, token: str) -> None:
    page.goto("/datasets/upload/")
    files = {
        name: ("text,label\n" + "".join(f"row {n} of {name},{'ab'[n % 2]}\n" for n in range(40))).encode()
        for name in ("train.csv", "test.csv")
    }
    transfer = page.evaluate_handle(
        """files => {
            const transfer = new DataTransfer();
            for (const [name, data] of Object.entries(files)) {
                transfer.items.add(new File([atob(data)], name, { type: "text/csv" }));
            }
            return transfer;
        }""",
        {name: base64.b64encode(data).decode() for name, data in files.items()},
    )
    page.dispatch_event("[data-drop]", "drop", {"dataTransfer": transfer})
    expect(page.locator("[data-files] li")).to_have_text(
        [re.compile("train.csv · "), re.compile("test.csv · ")]
    )
    page.get_by_label("Name").fill("Dropped")
    page.keyboard.press("Enter")
    dataset = made(page, site, token)
    assert dataset["name"] == "Dropped"
    assert {file["name"]: file["sha256"] for file in dataset["files"]} == {
        name: hashlib.sha256(data).hexdigest() for name, data in files.items()
    }
    assert asked(site, token, "uploads") == []
    assert page.evaluate("Object.keys(localStorage).filter(key => key.startsWith('tus::'))") == []


def test_a_reload_in_the_middle_costs_nothing_that_arrived(
    context: BrowserContext, site: Site, token: str, large: Path
) -> None:
    page = context.new_page()
    page.goto("/datasets/upload/")
    slow(page, 1_500_000)
    page.locator("input[type=file]").set_input_files(large)
    page.get_by_role("button", name="Upload", exact=True).click()
    until_some_has_gone(page)
    page.reload()
    unfinished = page.get_by_role("region", name="Uploads that were not finished")
    expect(unfinished).to_contain_text("many reviews.csv")
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
    (before,) = asked(site, token, "uploads")
    before = asked(site, token, f"uploads/{before['id']}")
    assert 0 < before["offset"] < before["length"] == large.stat().st_size
    slow(page, 0)
    offsets: list[int] = []
    page.on(
        "request",
        lambda sent: offsets.append(int(sent.headers["upload-offset"])) if sent.method == "PATCH" else None,
    )
    page.locator("input[type=file]").set_input_files(large)
    page.get_by_role("button", name="Upload", exact=True).click()
    dataset = made(page, site, token)
    assert offsets[0] >= before["offset"]
    assert [file["sha256"] for file in dataset["files"]] == [digest(large)]
    assert asked(site, token, "uploads") == []


def test_a_connection_that_is_cut_ten_times_is_taken_up_again_by_itself(
    browser: Browser, site: Site, signed_in: Path, token: str, large: Path
) -> None:
    port = int(site.address.rsplit(":", 1)[1])
    link = Link(lambda: socket.create_connection(("localhost", port)))
    context = browser.new_context(base_url=f"http://localhost:{link.port}", storage_state=signed_in)
    page = context.new_page()
    page.goto("/datasets/upload/")
    slow(page, 4_000_000)
    page.locator("input[type=file]").set_input_files(large)
    page.get_by_role("button", name="Upload", exact=True).click()
    begun = (site.home / "storage" / "uploads").glob("*/data")
    page.wait_for_timeout(500)
    kept = next(begun)
    for cut in range(10):
        while kept.stat().st_size < large.stat().st_size * (cut + 0.5) / 11:
            page.wait_for_timeout(20)
        link.become("cut")
        if cut == 5:
            expect(page.locator("[data-sent-text]")).to_contain_text("What has arrived is kept")
        page.wait_for_timeout(100)
        link.become("open")
    dataset = made(page, site, token)
    assert [file["sha256"] for file in dataset["files"]] == [digest(large)]
    context.close()
    link.close()


def test_cancel_leaves_nothing_and_the_form_as_it_was(
    context: BrowserContext, site: Site, token: str, large: Path
) -> None:
    page = context.new_page()
    page.goto("/datasets/upload/")
    slow(page, 1_500_000)
    page.locator("input[type=file]").set_input_files(large)
    page.get_by_label("Name").fill("Not yet")
    page.get_by_role("button", name="Upload", exact=True).click()
    until_some_has_gone(page)
    page.get_by_role("button", name="Cancel").press("Enter")
    expect(page.locator("[data-sent-text]")).to_have_text("Cancelled; nothing was kept.")
    assert asked(site, token, "uploads") == []
    expect(page.get_by_label("Name")).to_have_value("Not yet")
    expect(page.locator("[data-files] li")).to_contain_text("many reviews.csv")
    expect(page.get_by_role("button", name="Upload", exact=True)).to_be_enabled()


def test_what_was_not_finished_can_be_discarded(
    context: BrowserContext, site: Site, token: str, large: Path
) -> None:
    page = context.new_page()
    page.goto("/datasets/upload/")
    slow(page, 1_500_000)
    page.locator("input[type=file]").set_input_files(large)
    page.get_by_role("button", name="Upload", exact=True).click()
    until_some_has_gone(page)
    page.reload()
    page.get_by_role("button", name="Discard many reviews.csv").press("Enter")
    expect(page.locator("main")).to_contain_text("is gone")
    assert asked(site, token, "uploads") == []


def test_without_scripts_the_form_sends_files_by_itself(
    site: Site, browser: Browser, signed_in: Path, token: str, tmp_path: Path
) -> None:
    path = tmp_path / "plain.csv"
    path.write_text("text,label\n" + "".join(f"row {n},{'ab'[n % 2]}\n" for n in range(40)))
    plain = browser.new_context(base_url=site.address, storage_state=signed_in, java_script_enabled=False)
    page = plain.new_page()
    page.goto("/datasets/upload/")
    page.locator("input[type=file]").set_input_files(path)
    page.get_by_role("button", name="Upload", exact=True).click()
    assert [file["sha256"] for file in made(page, site, token)["files"]] == [digest(path)]
    plain.close()
