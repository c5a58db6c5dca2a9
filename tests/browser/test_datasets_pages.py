"""Pages of datasets on a small screen and with the keyboard alone, and the mapping form as it answers to choices."""

from __future__ import annotations

import json
import re
import time
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import Site
from tests.webapp.datasets.packing import picture, recording, zipped

NARROW: Any = {"width": 360, "height": 740}
LONG = "Donaudampfschifffahrtsgesellschaftskapitän" * 4
MOST_TABS = 80  # until what is looked for has the focus


def chat() -> bytes:
    said = [
        {"messages": [{"role": "user", "content": f"{LONG} {n}?"}, {"role": "assistant", "content": f"Yes, {n}."}]}
        for n in range(60)
    ]  # fmt: skip
    return "\n".join(map(json.dumps, said)).encode()


def reviews() -> bytes:
    head = "text,label,second text,a column of a very long name that says much,stars"
    rows = (
        f"review number {n} says {LONG},{'good' if n % 3 else 'bad'},another text {n},{LONG},{n}.5"
        for n in range(300)
    )
    return "\n".join([head, *rows]).encode()


def boxes() -> bytes:
    coco = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 900, "height": 300} for n in range(12)],
        "annotations": [
            {"image_id": n, "category_id": n % 2, "bbox": [10 * n, 20, 90, 80]} for n in range(12)
        ],
        "categories": [{"id": 0, "name": LONG}, {"id": 1, "name": "dog"}],
    }
    photos = {f"{n}.png": picture(n, size=(900, 300)) for n in range(12)}
    return zipped({"annotations.json": json.dumps(coco).encode(), **photos})


def sounds() -> bytes:
    return zipped({f"{label}/{n}.wav": recording(n) for label in ("yes", "no") for n in range(12)})


FILES = {
    "reviews.csv": reviews,
    "chat.jsonl": chat,
    "boxes.zip": boxes,
    "words.zip": sounds,
    "words.conll": lambda: b"\n".join(b"Ada%d B-PER\nwrote O\nprograms O\n" % n for n in range(40)),
}


@pytest.fixture(scope="module")
def datasets(site: Site) -> dict[str, int]:
    """{file name: id} of what the worker has looked into."""
    token = site.manage("token", "admin").strip()

    def asked(path: str, data: bytes | None = None, kind: str = "") -> Any:
        headers = {"Authorization": f"Bearer {token}", **({"Content-Type": kind} if kind else {})}
        request = urllib.request.Request(f"{site.address}/api/v1/{path}", data, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    found = {}
    for name, make in FILES.items():
        edge = uuid.uuid4().hex
        head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
        body = head.encode() + make() + f"\r\n--{edge}--\r\n".encode()
        found[name] = asked("datasets", body, f"multipart/form-data; boundary={edge}")["id"]
    deadline = time.monotonic() + 120
    for name, pk in found.items():
        while (told := asked(f"datasets/{pk}"))["status"] == "inspecting":
            assert time.monotonic() < deadline, name
            time.sleep(0.3)
        assert told["status"] == "ready", told
    return found


@pytest.fixture
def narrow(site: Site, browser: Browser, signed_in: Any) -> Iterator[BrowserContext]:
    made = browser.new_context(base_url=site.address, storage_state=signed_in, viewport=NARROW)
    yield made
    made.close()


def addresses(pk: int) -> list[str]:
    return [
        f"/datasets/{pk}/",
        f"/datasets/{pk}/?split=train&row=2",
        f"/datasets/{pk}/rows/",
        f"/datasets/{pk}/mapping/",
        f"/datasets/{pk}/mapping/?task=",
        f"/datasets/{pk}/rename/",
    ]


def beyond(page: Page) -> int:
    """How many pixels of the page stick out of the window."""
    found: int = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return found


def test_nothing_sticks_out_of_a_small_screen(narrow: BrowserContext, datasets: dict[str, int]) -> None:
    page = narrow.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    for address in [
        "/datasets/",
        "/datasets/upload/",
        *(a for pk in datasets.values() for a in addresses(pk)),
    ]:
        answer = page.goto(address)
        assert answer is not None and answer.status == 200, address
        assert beyond(page) <= 0, f"{address} is {beyond(page)} px too wide"
        assert page.locator("h1").count() == 1, address
        assert not complaints, (address, complaints)


def test_wide_tables_scroll_within_their_region_and_with_the_keyboard(
    narrow: BrowserContext, datasets: dict[str, int]
) -> None:
    page = narrow.new_page()
    page.goto(f"/datasets/{datasets['reviews.csv']}/")
    region = page.locator("[aria-labelledby=rows-title][role=region]")
    assert region.evaluate("box => box.scrollWidth > box.clientWidth")
    region.focus()
    page.keyboard.press("ArrowRight")
    for _ in range(50):  # it glides
        if region.evaluate("box => box.scrollLeft") > 0:
            break
        page.wait_for_timeout(100)
    else:
        pytest.fail("the arrow key does not move the table")
    assert beyond(page) <= 0


def focused(page: Page) -> dict[str, Any]:
    """What the keyboard is on, as it is called, and whether one sees that."""
    found: dict[str, Any] = page.evaluate(
        """() => {
            const here = document.activeElement, style = getComputedStyle(here), box = here.getBoundingClientRect();
            return {
                text: (here.getAttribute("aria-label") || here.innerText || "").trim(), tag: here.tagName, name: here.name || "",
                rel: here.rel || "", visible: here.matches(":focus-visible") && box.width > 0
                    && (style.outlineStyle !== "none" || style.boxShadow !== "none"),
            };
        }"""
    )
    return found


def tab_to(page: Page, **wanted: str) -> None:
    """Press Tab until what is looked for has the focus. Whatever has it on the way has to be seen to have it."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        here = focused(page)
        assert here["visible"], here
        if all(here[key] == value for key, value in wanted.items()):
            return
    pytest.fail(f"Tab never comes to {wanted}")


@pytest.mark.parametrize("width", [360, 1440])
def test_the_data_browser_is_used_with_tab_and_enter_alone(
    site: Site, browser: Browser, signed_in: Any, datasets: dict[str, int], width: int
) -> None:
    context = browser.new_context(
        base_url=site.address, storage_state=signed_in, viewport={"width": width, "height": 900}
    )
    page = context.new_page()
    page.goto(f"/datasets/{datasets['reviews.csv']}/rows/")
    tab_to(page, text="Skip to the content")
    page.keyboard.press("Enter")
    tab_to(page, tag="INPUT", name="q")
    page.keyboard.type("number")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("q=number"))
    tab_to(page, tag="SELECT", name="value")
    page.keyboard.press("ArrowDown")
    page.wait_for_url(re.compile("value="))
    expect(page.locator("tbody .tag-label").first).to_have_text("bad")
    first = page.locator("tbody th").first.inner_text()
    tab_to(page, rel="next")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("start="))
    assert page.locator("tbody th").first.inner_text() != first
    tab_to(page, rel="prev")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("end="))
    assert page.locator("tbody th").first.inner_text() == first
    page.locator("tbody th a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("row="))
    expect(page.get_by_role("heading", name=re.compile("Row .* of the train rows"))).to_be_visible()
    context.close()


def test_a_choice_refreshes_the_rows_and_keeps_the_keyboard_where_it_was(
    page: Page, datasets: dict[str, int]
) -> None:
    page.goto(f"/datasets/{datasets['reviews.csv']}/")
    page.get_by_role("link", name="Change (task and columns)").press("Enter")
    page.wait_for_url(re.compile("/mapping/$"))
    example = page.locator(".example").first
    expect(example).to_contain_text("review number")
    page.get_by_label("Text", exact=True).select_option("second text")
    expect(example).to_contain_text("another text")
    expect(example).not_to_contain_text("review number")
    assert "column-text=second+text" in page.url, "what is shown can be sent to somebody"
    page.get_by_label("Label", exact=True).select_option("stars")
    expect(page.locator("#id_column-label_error")).to_contain_text(
        "“stars” holds numbers. Label takes classes"
    )
    label = page.get_by_label("Label", exact=True)
    label.focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#id_column-label_error")).to_have_count(0)
    assert focused(page)["name"] == "column-label"
    page.reload()
    expect(page.locator(".example").first).to_contain_text("another text")
    page.get_by_label("Task", exact=True).select_option("text-generation")
    expect(page.get_by_label("An example is")).to_be_visible()
    page.get_by_role("link", name="Next three").press("Enter")
    expect(page.locator("#examples-title")).to_contain_text("Rows 4 to 6")


def test_the_mapping_works_without_javascript(
    site: Site, browser: Browser, signed_in: Any, datasets: dict[str, int]
) -> None:
    context = browser.new_context(base_url=site.address, storage_state=signed_in, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"/datasets/{datasets['reviews.csv']}/mapping/")
    page.get_by_label("Text", exact=True).select_option("second text")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".example").first).to_contain_text("another text")
    context.close()


def test_boxes_and_waveforms_are_drawn(page: Page, datasets: dict[str, int]) -> None:
    page.goto(f"/datasets/{datasets['boxes.zip']}/mapping/?task=")
    drawing = page.locator(".example .row-drawn").first
    expect(drawing).to_be_visible()
    assert drawing.locator("image").evaluate(
        "picture => fetch(picture.href.baseVal).then(answer => answer.ok)"
    )
    page.goto(f"/datasets/{datasets['words.zip']}/mapping/?task=")
    box = page.locator(".example .waveform").first.bounding_box()
    assert box and box["width"] > 200 and box["height"] > 40
    sound = page.locator(".example audio").first
    assert sound.evaluate("player => fetch(player.src).then(answer => answer.ok)")


@pytest.mark.parametrize("scripts", [True, False])
def test_what_is_chosen_makes_a_version_on_the_spot(
    site: Site, browser: Browser, signed_in: Any, datasets: dict[str, int], scripts: bool
) -> None:
    """With a click right after the choice, before any answer; then back to the version before it."""
    context = browser.new_context(base_url=site.address, storage_state=signed_in, java_script_enabled=scripts)
    page = context.new_page()
    address = f"/datasets/{datasets['reviews.csv']}/"
    page.goto(f"{address}mapping/")
    page.get_by_label("Text", exact=True).select_option("second text")
    page.get_by_role("button", name="Use these").click()
    page.wait_for_url(re.compile(f"{address}$"))
    back = page.get_by_role("button", name=re.compile("Use it for new runs.*version 1$"))  # where 2 is in use
    deadline = time.monotonic() + 60
    while not back.count():
        assert time.monotonic() < deadline, page.locator("main").inner_text()
        page.wait_for_timeout(500)
        if not scripts:
            page.reload()
    expect(page.locator(".version-says").first).to_contain_text("“second text” as text")
    back.click()
    expect(page.get_by_text("New runs get version 1 from now on.")).to_be_visible()
    context.close()
