"""Parallel text: files of the same name with a language at the end (train.en, train.de), of which line n is
the translation of line n.

Not recognised by what is in a file but by how several files are called: `pairs` finds them among an upload.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path, PurePath

import pyarrow as pa

from webapp.datasets.formats.common import (
    BATCH_BYTES,
    MAX_BATCH_ROWS,
    MAX_ROW_BYTES,
    Format,
    Opened,
    Source,
    check_column_count,
)
from webapp.datasets.formats.compressed import CODECS, unpacked
from webapp.datasets.formats.text import looks_like_text, plain_text
from webapp.datasets.problems import Problems, Refused

# ISO 639-1, and what follows it in a tag.
CODES = (
    "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de "
    "dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id "
    "ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu "
    "lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu "
    "rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr "
    "ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu"
)
LANGUAGES = frozenset(CODES.split())
TAG = re.compile(r"(?P<language>[a-z]{2})([-_]([a-z]{2}|[a-z]{4}))?", re.IGNORECASE)


class Parallel(Format):
    slug = "parallel"
    title = "parallel text files"
    extensions = ()

    def recognises(self, head: bytes, extension: str) -> float:
        return 0.0

    def open(self, source: Source, problems: Problems) -> Opened:
        files = [source, *source.companions]
        languages = [str(language_of(each.name)) for each in files]
        check_column_count(len(files), source)
        texts = [_plain(each, problems) for each in files]
        schema = pa.schema([(language, pa.string()) for language in languages])
        return Opened(
            schema, _batches(files, texts, schema), details={"format": self.slug, "languages": languages}
        )


def language_of(name: str) -> str | None:
    """en of train.en, train.en.txt and train.en.gz; None where a name ends in no language."""
    return _parts(name)[1]


def _parts(name: str) -> tuple[str, str | None]:
    """(name without its language, the language)"""
    path = PurePath(name)
    while path.suffix.lower() in {".gz", ".zst", ".txt"}:
        path = path.with_suffix("")
    tag = path.suffix.removeprefix(".")
    found = TAG.fullmatch(tag)
    known = found is not None and found["language"].lower() in LANGUAGES
    return (path.stem, tag) if known else (name, None)


def pairs(names: list[str]) -> list[list[int]]:
    """The files in groups, by place: those that are translations of each other together, all others alone."""
    groups: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        stem, language = _parts(name)
        groups.setdefault(f"{stem}\n" if language else f"\n{place}", []).append(place)
    return [
        part
        for places in groups.values()
        for part in (
            [places] if len({language_of(names[p]) for p in places}) == len(places) else [[p] for p in places]
        )
    ]


def _plain(source: Source, problems: Problems) -> Path:
    with source.path.open("rb") as opened:
        head = opened.read(1 << 16)
    if head.startswith(tuple(CODECS)):
        return _plain(replace(source, path=unpacked(source)), problems)
    if not looks_like_text(head):
        raise Refused(
            "not_a_table",
            "By its name the file is the text of a language, but it is no text.",
            "Upload two text files of the same length, such as train.en and train.de.",
            file=source.name,
        )
    return plain_text(source, problems).path


def _lines(source: Source, path: Path) -> Iterator[str]:
    with path.open("rb") as opened:
        number = 0
        while line := opened.readline(MAX_ROW_BYTES + 1):
            number += 1
            if len(line) > MAX_ROW_BYTES:
                raise Refused(
                    "huge_value",
                    f"Line {number:,} is longer than {MAX_ROW_BYTES >> 20} MB, more than any example needs.",
                    "Put line breaks between the sentences.",
                    file=source.name,
                    row=number,
                )
            yield line.removeprefix(b"\xef\xbb\xbf").decode().strip()


def _batches(files: list[Source], texts: list[Path], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    source, size = files[0], sum(path.stat().st_size for path in texts)
    held: list[tuple[str, ...]] = []
    weight = done = number = 0
    for number, row in enumerate(zip_longest(*(map(_lines, files, texts))), start=1):
        if None in row and any(row):  # blank lines at the end of one are no matter
            raise _uneven(files, texts, row.index(None), number)
        if any(row):  # a blank line in all of them is no example
            held.append(row)
        weight += sum(len(text) for text in row if text)
        if weight > BATCH_BYTES or len(held) >= MAX_BATCH_ROWS:
            yield _batch(held, schema)
            done += weight
            source.progress(min(done, size), size)
            held, weight = [], 0
    if held:
        yield _batch(held, schema)


def _batch(rows: list[tuple[str, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    arrays = [pa.array([text or None for text in column], pa.string()) for column in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _uneven(files: list[Source], texts: list[Path], ended: int, number: int) -> Refused:
    counts = [sum(1 for _ in _lines(source, path)) for source, path in zip(files, texts, strict=True)]
    said = ", ".join(f"“{source.name}” {count:,}" for source, count in zip(files, counts, strict=True))
    return Refused(
        "uneven_lines",
        f"The files are translations of each other line by line, but have different numbers of lines: {said}.",
        "Look where they part, or upload other files under names that end in no language.",
        file=files[ended].name,
        row=number,
    )


FORMAT = Parallel()
