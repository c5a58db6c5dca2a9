"""New lines of a log come onto the page by themselves, and whoever scrolls up is left to read."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Site

# A run that trains, as far as the database goes: what its trainer prints is written by the test.
BEGIN = """
from pathlib import Path
from django.utils import timezone
from runs.models import Attempt, Run, Worker
from webapp.accounts.models import Workspace
from webapp.catalog.models import BaseModel
run = Run.objects.create(
    workspace=Workspace.objects.first(), base_model=BaseModel.objects.first(), name="Prints", dataset_name="d",
    dataset_hash="a" * 64, task="text-classification", method="head", columns={}, settings={}, status="running",
    attempt=1, phase="training",
)
worker = Worker.objects.create(name="far", host="far-away", pid=1)
later = timezone.now() + timezone.timedelta(days=1)
Attempt.objects.create(run=run, number=1, worker=worker, lease_until=later)
print(run.pk)
"""
SAY = """
from pathlib import Path
from django.conf import settings
from runs.execution.log_keeper import LogKeeper
from runs.models import Attempt
path = Path(settings.HOME) / "said-{run}.txt"
keeper = LogKeeper(Attempt.objects.get(run={run}), path)
if path.exists():
    # As one supervisor that never left: it knows what it has kept.
    keeper._file.next()
    keeper._state = keeper._attempt.logs.get(rank=0)
    keeper._begun = True
with path.open("a") as file:
    file.write({text})
while piece := keeper.next():
    keeper.keep(piece)
"""


def say(site: Site, run: int, text: str) -> None:
    site.manage("shell", "-c", SAY.format(run=run, text=json.dumps(text)))


@pytest.fixture(scope="module")
def run(site: Site) -> int:
    number = int(site.manage("shell", "-c", BEGIN).split()[-1])
    say(site, number, "".join(f"line {line}\n" for line in range(1, 121)))
    return number


def test_the_page_of_a_run_shows_what_is_printed_without_a_reload(site: Site, page: Page, run: int) -> None:
    page.goto(f"/runs/{run}/")
    log = page.locator("pre[data-log]")
    expect(log).to_contain_text("line 120")
    log.scroll_into_view_if_needed()
    say(site, run, "a new line <b>of text</b>\n 10%|#         |")
    expect(log).to_contain_text("a new line <b>of text</b>", timeout=30_000)
    expect(log).to_contain_text("10%|#")
    at_end = "element => element.scrollHeight - element.scrollTop - element.clientHeight < 40"
    assert log.evaluate(at_end)
    say(site, run, "\r100%|##########|\n")
    expect(log).to_contain_text("100%|##########|", timeout=30_000)
    expect(log).not_to_contain_text(" 10%|#  ")


def test_the_page_of_the_log_follows_until_somebody_scrolls_up(site: Site, page: Page, run: int) -> None:
    page.goto(f"/runs/{run}/log/")
    log, button = page.locator("ol[data-log]"), page.get_by_role("button", name="Follow")
    expect(button).to_have_attribute("aria-pressed", "true")
    say(site, run, "followed\n")
    expect(log.locator("li[id]").last).to_contain_text("followed", timeout=30_000)
    log.evaluate("element => element.scrollTo(0, 0)")
    expect(button).to_have_attribute("aria-pressed", "false")
    say(site, run, "not followed\n")
    expect(log.locator("li[id]").last).to_contain_text("not followed", timeout=30_000)
    assert log.evaluate("element => element.scrollTop") == 0
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    numbers = log.locator("li[id]").evaluate_all("all => all.map(one => Number(one.id.slice(1)))")
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    log.locator("li[id] a").last.click()
    expect(page.locator(f"#L{numbers[-1]}.log-hit")).to_contain_text("not followed")


def test_a_log_is_read_and_searched_without_javascript(
    site: Site, browser: Browser, signed_in: object, run: int
) -> None:
    context = browser.new_context(
        base_url=site.address, storage_state=str(signed_in), java_script_enabled=False
    )
    page = context.new_page()
    page.goto(f"/runs/{run}/")
    expect(page.locator("pre.log")).to_contain_text("line 120")
    page.goto(f"/runs/{run}/log/")
    page.get_by_role("searchbox", name="Search").fill("line 7")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("11 lines match")
    context.close()
