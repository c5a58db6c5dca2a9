"""A whole Tuneboard (`manage.py up`) on throw-away data, and a real Chromium to use it with."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(str(item.fspath)).is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)


@dataclass
class Site:
    """A running Tuneboard."""

    process: subprocess.Popen[str]
    home: Path
    address: str
    sign_in_link: str
    output: list[str]

    def manage(self, *arguments: str) -> str:
        """Standard output of a `manage.py` command on the same home."""
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=environment(self.home),
            check=True,
            capture_output=True,
            text=True,
        ).stdout


def environment(home: Path) -> dict[str, str]:
    """That of a person who has set nothing but the home."""
    kept = {k: v for k, v in os.environ.items() if k not in {"DATABASE_URL", "REDIS_URL", "STORAGE_URL"}}
    kept.pop("DJANGO_SETTINGS_MODULE", None)
    return {**kept, "TUNEBOARD_HOME": str(home), "TUNEBOARD_LOG_LEVEL": "INFO", "PYTHONUNBUFFERED": "1"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(home: Path, port: int) -> Site:
    """Run `manage.py up` and wait for the sign-in link that it prints."""
    process = subprocess.Popen(
        [sys.executable, "manage.py", "up"],
        cwd=ROOT,
        env={**environment(home), "TUNEBOARD_PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output: list[str] = []
    link: list[str] = []
    ready = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line)
            if not ready.is_set() and (
                found := re.search(rf"http://[^\s]*:{port}/accounts/[^\s\x1b]+", line)
            ):
                link.append(found.group())
                ready.set()
        ready.set()

    threading.Thread(target=read, daemon=True).start()
    ready.wait(120)
    if not link:
        process.kill()
        pytest.fail("`manage.py up` printed no sign-in link:\n" + "".join(output[-60:]))
    return Site(process, home, f"http://localhost:{port}", link[0], output)


def stop(site: Site) -> None:
    """Ctrl-C, as a person would."""
    site.process.send_signal(signal.SIGINT)
    site.process.wait(120)


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    # Not pytest's own folder: it is closed to the user that Postgres runs as, when another pytest starts.
    with tempfile.TemporaryDirectory(prefix="tuneboard-site-", ignore_cleanup_errors=True) as home:
        running = start(Path(home), free_port())
        yield running
        stop(running)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        executable = CHROMIUM or playwright.chromium.executable_path
        if not Path(executable).exists():
            reason = "Chromium is not installed (apt-get install chromium, or playwright install chromium)"
            if os.environ.get("TUNEBOARD_REQUIRE_BROWSER"):
                pytest.fail(reason)
            pytest.skip(reason)
        running = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def signed_in(site: Site, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cookies of `admin`, who came by the link that `up` printed."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(site.sign_in_link)
    if page.url.rstrip("/") != site.address:
        page.get_by_role("button", name=re.compile("sign in|continue", re.I)).click()
    page.wait_for_url(f"{site.address}/")
    kept = tmp_path_factory.mktemp("browser") / "state.json"
    context.storage_state(path=kept)
    context.close()
    return kept


@pytest.fixture
def page(site: Site, browser: Browser, signed_in: Path) -> Iterator[Page]:
    """A signed-in page. The test fails if the browser complained: script errors, refused by the CSP."""
    context = browser.new_context(
        base_url=site.address, storage_state=signed_in, viewport={"width": 1440, "height": 900}
    )
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    yield opened
    context.close()
    assert not complaints, complaints
