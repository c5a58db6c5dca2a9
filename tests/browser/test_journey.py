"""The whole way of a newcomer, in a real browser: data in, run, watch, weights out, weights used."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

ROOT = Path(__file__).resolve().parents[2]
MINUTES = 60_000
# What somebody does who has downloaded the zip: plain transformers, nothing of ours.
PREDICT = """
import json, sys
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
folder, rows = sys.argv[1], json.load(open(sys.argv[2]))
classify = pipeline("text-classification", model=folder)
found = classify([text for text, _ in rows], batch_size=32, truncation=True)
print("RIGHT", sum(item["label"] == label for item, (_, label) in zip(found, rows)), len(rows))
"""


@pytest.fixture(scope="session")
def sst2(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1,000 real sentences to train on, and the real dev set, as two files without headers."""
    folder = tmp_path_factory.mktemp("sst2")
    rows = (shared_data / "sst2" / "train.tsv").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "train.tsv").write_text("".join(rows[:1000]), encoding="utf-8")
    dev = (shared_data / "sst2" / "dev.tsv").read_text(encoding="utf-8")
    (folder / "dev.tsv").write_text(dev, encoding="utf-8")
    return folder


def test_from_a_file_to_weights_that_predict(page: Page, sst2: Path, tmp_path: Path) -> None:
    # Upload
    page.goto("/")
    page.get_by_role("link", name="Datasets", exact=True).click()
    page.get_by_role("link", name=re.compile("^Upload")).first.click()
    page.locator("input[type=file]").set_input_files([sst2 / "train.tsv", sst2 / "dev.tsv"])
    page.get_by_label("Name").fill("Film reviews")
    page.get_by_role("button", name="Upload", exact=True).click()
    use = page.get_by_role("link", name="Use in a run").first
    expect(use).to_be_visible(timeout=2 * MINUTES)
    expect(page.locator("main")).to_contain_text("872")  # the dev set came through whole
    # Launch
    use.click()
    page.get_by_role("radio", name=re.compile("MiniLM")).check()
    page.get_by_role("radio", name=re.compile("Head on features")).check()
    launch = page.get_by_role("button", name="Launch")
    expect(launch).to_be_enabled()
    launch.click()
    page.wait_for_url(re.compile(r"/runs/\d+/"))
    # Watch: it moves without a reload
    page.evaluate("window.stillTheSamePage = true")
    expect(page.locator(".status-badge").first).to_have_text("Running", timeout=MINUTES)
    expect(page.locator(".status-badge").first).to_have_text("Succeeded", timeout=5 * MINUTES)
    assert page.evaluate("window.stillTheSamePage") is True
    expect(page.locator("#run-charts canvas").first).to_be_visible()
    expect(page.locator("main")).to_contain_text("Always the most frequent class")
    _keep_picture(page)
    # … and survives one
    page.reload()
    expect(page.locator(".status-badge").first).to_have_text("Succeeded")
    expect(page.locator("#run-charts canvas").first).to_be_visible()
    polls: list[str] = []
    page.on("request", lambda request: polls.append(request.url) if "hx-request" in request.headers else None)
    page.wait_for_timeout(5000)
    assert not polls, "what is over is not polled"
    # Download
    with page.expect_download() as started:
        page.get_by_role("link", name="Download model").click()
    archive = tmp_path / "model.zip"
    started.value.save_as(archive)
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path / "model")
        names = opened.namelist()
    (folder,) = (tmp_path / "model").iterdir()
    for wanted in (
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "labels.json",
        "metrics.json",
        "README.md",
    ):
        assert f"{folder.name}/{wanted}" in names
    # Use
    lines = (sst2 / "dev.tsv").read_text(encoding="utf-8").splitlines()[:300]
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([line.split("\t") for line in lines]))
    said = subprocess.run(
        [sys.executable, "-c", PREDICT, str(folder), str(rows)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1"},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    right, of = map(int, re.findall(r"RIGHT (\d+) (\d+)", said)[0])
    reported = json.loads((folder / "metrics.json").read_text())["metrics"]["validation_accuracy"]
    assert right / of > 0.7, "well over the half that guessing gets"
    assert abs(right / of - reported) < 0.06, "about what the page says of all 872 rows"


def _keep_picture(page: Page) -> None:
    """For the README, where TUNEBOARD_SCREENSHOTS names the folder; else just to look at."""
    folder = Path(os.environ.get("TUNEBOARD_SCREENSHOTS") or ROOT / "tests" / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    page.set_viewport_size({"width": 1440, "height": 1180})
    page.wait_for_timeout(1000)
    page.screenshot(path=folder / "run.png")


def test_a_sample_becomes_a_classifier_well_over_chance(page: Page) -> None:
    page.goto("/datasets/")
    page.locator('form[action$="/samples/which-language/"] button').click()
    page.get_by_role("link", name="Use in a run").first.click(timeout=2 * MINUTES)
    page.get_by_role("radio", name=re.compile("MiniLM")).check()
    launch = page.get_by_role("button", name="Launch")
    expect(launch).to_be_enabled()
    launch.click()
    expect(page.locator(".status-badge").first).to_have_text("Succeeded", timeout=5 * MINUTES)
    result = page.get_by_role("table").filter(has_text="Validation rows").first.inner_text()
    accuracies = [float(found) for found in re.findall(r"(\d+\.\d) %\s+9\.1 %", result)]
    assert accuracies and min(accuracies) > 60, "nine per cent is what the most frequent class gets"


def test_a_file_that_cannot_be_used_says_why(page: Page, tmp_path: Path) -> None:
    bad = tmp_path / "broken.csv"
    bad.write_text('text,label\n"fine",good\n"one","two","three"\n"also fine",bad\n')
    page.goto("/datasets/upload/")
    page.locator("input[type=file]").set_input_files(bad)
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.locator("main")).to_contain_text(re.compile(r"row 3|line 3", re.I), timeout=MINUTES)
    expect(page.locator("main")).to_contain_text("broken.csv")


def test_nothing_is_launched_while_its_settings_are_on_their_way(page: Page, sst2: Path) -> None:
    page.goto("/runs/new/?model=all-minilm-l6-v2")
    page.get_by_role("radio", name=re.compile("Film reviews")).check()
    launch = page.get_by_role("button", name="Launch")
    expect(launch).to_be_enabled()
    held: list[Route] = []
    page.route("**/runs/new/**", lambda route: held.append(route))
    page.get_by_role("radio", name=re.compile("LoRA")).check()
    expect(launch).to_be_disabled()
    expect(page.get_by_label("LoRA rank")).to_have_count(0)
    for route in held:
        route.continue_()
    expect(launch).to_be_enabled()
    expect(page.get_by_label("LoRA rank")).to_have_count(1)


def test_a_run_that_trains_is_cancelled(page: Page, sst2: Path) -> None:
    page.goto("/runs/new/?model=all-minilm-l6-v2")
    page.get_by_role("radio", name=re.compile("Film reviews")).check()
    page.get_by_role("radio", name=re.compile("Whole model")).check()
    launch = page.get_by_role("button", name="Launch")
    expect(launch).to_be_enabled()
    launch.click()
    expect(page.locator(".status-badge").first).to_have_text("Running", timeout=MINUTES)
    page.get_by_role("button", name=re.compile("^Cancel")).first.click()
    page.locator("dialog").get_by_role(
        "button", name=re.compile("Cancel the run|Cancel run|Yes|Cancel")
    ).last.click()
    expect(page.locator(".status-badge").first).to_have_text("Cancelled", timeout=2 * MINUTES)
