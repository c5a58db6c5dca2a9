"""*Which language?*: sentences of Django's user interface in twelve languages."""

from __future__ import annotations

import json
import random
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import django

from webapp.datasets.problems import Refused
from webapp.datasets.samples.common import Sample

# Latin script only: telling Greek from Korean needs no model.
LANGUAGES = {
    "cs": "Czech",
    "de": "German",
    "es": "Spanish",
    "fi": "Finnish",
    "fr": "French",
    "hu": "Hungarian",
    "it": "Italian",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "sv": "Swedish",
    "tr": "Turkish",
}
PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%[a-z]|\{[\w.]*\}|\$\{?\w+\}?")
MARKUP = re.compile(r"<[^<>]*>|&[a-z]+;")
SPACES = re.compile(r"\s+")
LETTERS = re.compile(r"[^\W\d_]")
SHORTEST = 7  # characters: less is often right in several languages


class WhichLanguage(Sample):
    slug = "which-language"
    title = "Which language?"
    summary = (
        "Short sentences of a web site's interface with the language they are in. Good for a first "
        "text classification: a model learns it in about a minute, and you can check its answers yourself."
    )
    facts = "about 7,500 sentences in 12 languages"
    origin = "The translations that come with Django (BSD licence)"
    icon = "language"
    order = 10

    def make(self, folder: Path) -> list[Path]:
        languages: dict[str, set[str]] = {}
        for code, language in LANGUAGES.items():
            for sentence in _sentences(code):
                languages.setdefault(sentence, set()).add(language)
        rows = sorted((text, found.pop()) for text, found in languages.items() if len(found) == 1)
        random.Random(0).shuffle(rows)  # noqa: S311 - the same order every time, languages mixed
        if not rows:
            raise Refused(
                "sample_unavailable",
                "Django is installed here without its translations, of which this sample is made.",
                "Install Django from its ordinary package on the worker's host and try again.",
            )
        path = folder / "which-language.jsonl"
        with path.open("w", encoding="utf-8") as target:
            for text, language in rows:
                target.write(json.dumps({"text": text, "language": language}, ensure_ascii=False) + "\n")
        return [path]


def _sentences(code: str) -> Iterator[str]:
    root = Path(django.__file__).parent
    for catalogue in sorted(root.glob(f"**/locale/{code}/LC_MESSAGES/*.mo")):
        for original, translations in read_mo(catalogue.read_bytes()):
            for translation in translations:
                text = clean(translation)
                if len(text) >= SHORTEST and translation != original:
                    yield text


def clean(text: str) -> str:
    """A sentence without markup; a placeholder becomes the number or the ellipsis that may stand there."""
    plain = MARKUP.sub("", text.replace("%%", "%").replace("\N{SOFT HYPHEN}", ""))
    plain = PLACEHOLDER.sub("…", plain)
    plain = SPACES.sub(" ", plain).strip(" …:;,.-–\"'“”„«»()")
    return plain if len(LETTERS.findall(plain)) > 0.7 * len(plain) else ""


def read_mo(data: bytes) -> Iterator[tuple[str, list[str]]]:
    """(original, its translations by number) of a compiled GNU gettext catalogue.

    Layout: https://www.gnu.org/software/gettext/manual/html_node/MO-Files.html
    """
    magic = struct.unpack_from("<I", data)[0]
    order = "<" if magic == 0x950412DE else ">"
    count, originals, translations = struct.unpack_from(f"{order}3I", data, 8)
    for number in range(count):
        size, start = struct.unpack_from(f"{order}2I", data, originals + 8 * number)
        original = data[start : start + size].decode()
        size, start = struct.unpack_from(f"{order}2I", data, translations + 8 * number)
        if original:  # the empty one is the catalogue's header
            plain = original.rsplit("\x04", 1)[-1].split("\0")[0]
            yield plain, data[start : start + size].decode().split("\0")


SAMPLE = WhichLanguage()
