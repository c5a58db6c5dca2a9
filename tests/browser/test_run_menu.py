"""The menu of a run: reached with the keyboard, untouched by polls, and there without JavaScript."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from .conftest import Site

MAKE = """
from runs.models import Checkpoint, Run
from webapp.accounts.models import Workspace
from webapp.catalog.models import BaseModel
from webapp.datasets.models import Dataset, DatasetVersion
workspace = Workspace.objects.first()
dataset = Dataset.objects.create(workspace=workspace, name="d", status="ready")
version = DatasetVersion.objects.create(dataset=dataset, content_hash="a" * 64, storage_prefix="x", size_bytes=1,
    rows=9, splits={"train": 9}, columns=[])
run = Run.objects.create(workspace=workspace, name="Menu", base_model=BaseModel.objects.first(),
    dataset_version=version, dataset_name="d", dataset_hash="a" * 64, task="text-classification", method="full", columns={}, status="paused",
    settings={"num_train_epochs": 3.0, "max_steps": -1}, step=9, total_steps=20)
Checkpoint.objects.create(run=run, step=9, storage_prefix="x", size_bytes=1)
print("made", run.pk)
"""


@pytest.fixture
def run(site: Site) -> int:
    return int(site.manage("shell", "-c", MAKE).rsplit("made", 1)[1])


def test_the_menu_opens_with_the_keyboard_and_stays_as_it_is_through_a_poll(
    page: Page, site: Site, run: int
) -> None:
    page.goto(f"/runs/{run}/")
    summary = page.locator("#run-menu > summary")
    summary.focus()
    page.keyboard.press("Enter")
    page.get_by_label("Extend", exact=True).fill("11")
    moved = f"from runs.models import Run; Run.objects.filter(pk={run}).update(step=12, row_version=50)"
    site.manage("shell", "-c", moved)
    expect(page.get_by_text("12 of 20")).to_be_visible(timeout=30_000)
    expect(page.get_by_label("Extend", exact=True)).to_have_value("11")
    expect(page.get_by_role("link", name="Duplicate")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Duplicate")).to_be_hidden()


def test_without_javascript_a_run_is_extended_from_the_menu(
    browser: Browser, signed_in: str, site: Site, run: int
) -> None:
    context = browser.new_context(
        base_url=site.address,
        storage_state=signed_in,
        java_script_enabled=False,
        viewport={"width": 390, "height": 800},
    )
    page = context.new_page()
    page.goto(f"/runs/{run}/")
    page.locator("#run-menu > summary").click()
    page.get_by_label("Extend", exact=True).fill("6")
    page.get_by_role("button", name="Extend").click()
    expect(page.get_by_text("Extended by admin to 6 epochs.")).to_be_visible()
    context.close()
