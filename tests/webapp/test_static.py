"""What the browser is given: nothing inline, nothing of another host, each library as it was published."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.contrib.staticfiles import finders
from django.test import Client
from django.urls import reverse

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
OUR_FILES = sorted(path for kind in ("js", "css", "img") for path in (ROOT / "static" / kind).iterdir())
SPRITE = (ROOT / "static" / "vendor" / "tabler-icons" / "sprite.svg").read_text()


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def without_comments(text: str) -> str:
    text = re.sub(r"\{#.*?#\}|\{% comment %\}.*?\{% endcomment %\}", "", text, flags=re.DOTALL)
    return re.sub(r"/\*.*?\*/|<!--.*?-->", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("path", TEMPLATES, ids=named)
def test_a_page_carries_no_script_style_or_handler_of_its_own(path: Path) -> None:
    text = without_comments(path.read_text(encoding="utf-8"))
    for tag in re.findall(r"<script\b[^>]*>", text):
        assert " src=" in tag or 'type="application/json"' in tag, tag
    assert not re.search(r"<style\b", text)
    assert not re.search(r"<[^>]*\sstyle=", text)
    assert not re.search(r"<[^>]*\son[a-z]+=", text)
    assert not re.search(r"\shx-on", text)
    assert "javascript:" not in text


@pytest.mark.parametrize("path", [*TEMPLATES, *OUR_FILES], ids=named)
def test_nothing_is_loaded_from_another_host(path: Path) -> None:
    text = without_comments(path.read_text(encoding="utf-8"))
    assert not re.search(r"""(?:src|action)=["']\s*(?:https?:)?//""", text)
    assert not re.search(r"""<link[^>]*href=["'](?:https?:)?//""", text)
    assert not re.search(r"""url\(\s*["']?(?:https?:)?//|@import""", text)
    assert not re.search(r"""(?:fetch|import|Worker|EventSource|WebSocket)\(\s*["'`](?:https?|wss?):""", text)


def test_every_static_file_that_a_page_names_is_there() -> None:
    names = {
        name
        for path in TEMPLATES
        for name in re.findall(r"\{% static ['\"]([^'\"]+)['\"] %\}", path.read_text(encoding="utf-8"))
    }
    assert {"vendor/tabler/tabler.min.css", "css/tuneboard.css", "js/theme.js"} <= names
    assert [name for name in sorted(names) if finders.find(name) is None] == []


def test_every_icon_that_is_named_is_drawn() -> None:
    drawn = set(re.findall(r'<symbol id="([a-z0-9-]+)"', SPRITE))
    pattern = r"""\b(?:icon|symbol)(?::\s?(?:ClassVar\[)?str\]?)?\s?=?\s?["']([a-z0-9-]+)["']"""
    sources = [*TEMPLATES, *(path for top in ("runs", "webapp") for path in (ROOT / top).rglob("*.py"))]
    found = {name for path in sources for name in re.findall(pattern, path.read_text(encoding="utf-8"))}
    assert {"rocket", "layout-dashboard"} <= found
    assert sorted(found - drawn) == []


def test_each_vendored_library_says_what_it_is_and_under_which_licence() -> None:
    from tools.vendor import LIBRARIES

    folders = {path.name for path in (ROOT / "static" / "vendor").iterdir()}
    assert folders == {library.folder for library in LIBRARIES}
    for library in LIBRARIES:
        folder = ROOT / "static" / "vendor" / library.folder
        assert (folder / "VERSION").read_text().strip() == f"{library.package} {library.version}"
        assert "Permission is hereby granted" in (folder / "LICENSE").read_text()
        for name in library.files.values():
            assert (folder / name).stat().st_size > 1000
            assert "sourceMappingURL" not in (folder / name).read_text(encoding="utf-8")


@pytest.mark.django_db
def test_a_page_forbids_what_is_not_ours(client: Client) -> None:
    response = client.get(reverse("accounts:sign_in"))
    assert response.status_code == 200
    policy = dict(
        part.strip().partition(" ")[::2] for part in response["Content-Security-Policy"].split(";") if part
    )
    assert policy["default-src"] == "'self'" and policy["object-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert not any(
        unsafe in response["Content-Security-Policy"] for unsafe in ("unsafe-inline", "unsafe-eval", "*")
    )
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Referrer-Policy"] == "same-origin"
