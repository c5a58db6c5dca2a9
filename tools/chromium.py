#!/usr/bin/env python3
"""See that a Chromium is here for the browser tests, installing it where that can be done.

`apt-get` as root, else playwright's own download. Where neither works the browser tests are skipped
with the reason, unless TUNEBOARD_REQUIRE_BROWSER is set (CI), where this fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")


def found() -> bool:
    """Whether a system browser, or one that playwright has installed, is here."""
    if any(shutil.which(name) for name in NAMES):
        return True
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        return Path(playwright.chromium.executable_path).exists()


def attempts() -> list[list[list[str]]]:
    """Ways to install one, each a list of commands."""
    ways = []
    if shutil.which("apt-get") and os.geteuid() == 0:
        ways.append([["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "chromium"]])
    ways.append([[sys.executable, "-m", "playwright", "install", "chromium"]])
    return ways


def main() -> int:
    if found():
        return 0
    print("Chromium is not here; installing it for the browser tests.", file=sys.stderr)
    for way in attempts():
        if all(subprocess.run(command, stdout=sys.stderr).returncode == 0 for command in way) and found():
            return 0
    print("Chromium could not be installed: the browser tests will be skipped.", file=sys.stderr)
    return 1 if os.environ.get("TUNEBOARD_REQUIRE_BROWSER") else 0


if __name__ == "__main__":
    sys.exit(main())
