"""docs/configuration.md and the code name the same settings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
READ = re.compile(r"(?:environ(?:\.get)?[\[(]|flag\(|listed\()\s*f?\"([A-Z][A-Z0-9_]+)\"")
# Read by libraries, of which the page tells.
BY_LIBRARIES = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "HF_HUB_OFFLINE"}
# Not ours to explain.
CONVENTIONS = {"NO_COLOR", "DJANGO_SETTINGS_MODULE"}


def documented() -> set[str]:
    rows = re.findall(r"^\| (`[^|]+) \|", (ROOT / "docs/configuration.md").read_text(), re.M)
    names = {name for row in rows for name in re.findall(r"`([A-Z][A-Z0-9_]+)`", row)}
    return names


def read_by_the_code() -> set[str]:
    sources = [
        ROOT / "manage.py",
        *(p for top in ("webapp", "runs", "tools") for p in (ROOT / top).rglob("*.py")),
    ]
    return {name for source in sources for name in READ.findall(source.read_text())}


def test_every_setting_is_on_the_page_and_nothing_else_is() -> None:
    read = read_by_the_code() - CONVENTIONS
    assert len(read) > 20
    explained = read | BY_LIBRARIES
    mentioned = (ROOT / "docs/configuration.md").read_text()
    assert {name for name in explained if f"`{name}`" not in mentioned} == set()
    assert documented() - explained == set()


def test_containers_are_given_settings_that_exist() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    for service in ("prepare", "web", "worker", "dispatcher"):
        assert set(compose["services"][service]["environment"]) <= documented()


def settings_with(tmp_path: Path, expression: str, **environment: str) -> str:
    """What `webapp.settings` makes of an environment."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-c", f"import webapp.settings as s; print({expression})"],
        cwd=ROOT,
        env={**kept, "TUNEBOARD_HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
    )
    return (done.stdout + done.stderr).strip()


def test_an_address_with_tls_makes_cookies_secure(tmp_path: Path) -> None:
    asked = "s.SESSION_COOKIE_SECURE, s.CSRF_TRUSTED_ORIGINS, 'tune.example' in s.ALLOWED_HOSTS"
    found = settings_with(tmp_path, asked, TUNEBOARD_URL="https://tune.example/")
    assert found == "True ['https://tune.example'] True"
    assert settings_with(tmp_path, "s.SESSION_COOKIE_SECURE") == "False"


def test_the_signing_key_is_made_once_and_private(tmp_path: Path) -> None:
    first = settings_with(tmp_path, "s.SECRET_KEY")
    assert len(first) > 40 and settings_with(tmp_path, "s.SECRET_KEY") == first
    assert (tmp_path / "secret_key").stat().st_mode & 0o077 == 0
    assert settings_with(tmp_path, "s.SECRET_KEY", SECRET_KEY="given") == "given"


@pytest.mark.parametrize(
    ("url", "backend"),
    [("s3://bucket/some/prefix", "S3Storage"), ("/srv/files", "FileSystemStorage")],
)
def test_storage_is_a_folder_or_a_bucket(tmp_path: Path, url: str, backend: str) -> None:
    assert backend in settings_with(tmp_path, "s.STORAGES['default']", STORAGE_URL=url)


def test_storage_of_another_kind_says_what_is_possible(tmp_path: Path) -> None:
    said = settings_with(tmp_path, "0", STORAGE_URL="ftp://host/x")
    assert "STORAGE_URL is a folder or s3://bucket/prefix" in said
