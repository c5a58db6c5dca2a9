"""Sentences with a tag a word (CoNLL): a word a line, its tag in the last column, a blank line between sentences."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from webapp.datasets.formats.common import (
    BATCH_BYTES,
    MAX_ROW_BYTES,
    Format,
    Opened,
    Source,
    field_of,
)
from webapp.datasets.formats.text import Plain, head_as_text, looks_like_text, plain_text
from webapp.datasets.problems import Problems, Refused, shown

TAG = re.compile(r"O|[BIESLU]-\S+")
LANGUAGE = re.compile(r"[a-z]{2,3}:")  # in front of each word of WikiANN
SURE_SHARE = 0.9  # of the first lines that end in a tag
MOST_WORDS = 10_000  # of one sentence
TOKEN_BYTES = 80  # of a word in memory, about
SCHEMA = pa.schema([field_of("tokens", "tokens"), field_of("tags", "tags")])


class Conll(Format):
    slug = "conll"
    title = "CoNLL (a word and its tag a line)"
    extensions = (".conll", ".bio", ".iob", ".iob2")

    def recognises(self, head: bytes, extension: str) -> float:
        if not looks_like_text(head):
            return 0.0
        lines = head_as_text(head).splitlines()[:-1] or head_as_text(head).splitlines()
        words = [line.split() for line in lines if line.strip() and not _is_comment(line)]
        tagged = [word for word in words if len(word) > 1 and TAG.fullmatch(word[-1])]
        if not words or len(tagged) < SURE_SHARE * len(words):
            return 0.0
        # A table of words and classes may have an O, too: one B- at the least makes it certain.
        return 0.95 if any(word[-1].startswith(("B-", "I-")) for word in tagged) else 0.0

    def open(self, source: Source, problems: Problems) -> Opened:
        plain = plain_text(source, problems)
        prefixed = all(LANGUAGE.match(word) for words, _ in _some(source, plain) for word in words)
        return Opened(
            SCHEMA,
            _batches(source, plain, prefixed),
            details={"format": self.slug, "encoding": plain.encoding},
        )


def _is_comment(line: str) -> bool:
    return line.startswith(("-DOCSTART-", "# "))


def _some(source: Source, plain: Plain) -> list[tuple[list[str], list[str]]]:
    return [sentence for sentence, _ in zip(_sentences(source, plain), range(100), strict=False)]


def _sentences(source: Source, plain: Plain) -> Iterator[tuple[list[str], list[str]]]:
    words: list[str] = []
    tags: list[str] = []
    with plain.path.open(encoding="utf-8") as opened:
        number = 0
        while line := opened.readline(MAX_ROW_BYTES):
            number += 1
            if not line.strip() or _is_comment(line):
                if words:
                    yield words, tags
                words, tags = [], []
                continue
            word, *rest = line.split()
            if not rest or not TAG.fullmatch(rest[-1]):
                raise Refused(
                    "bad_tag",
                    f"Line {number:,} reads {shown(line)}; it does not end in a tag such as O, B-PER or I-PER.",
                    "Write a word and its tag into each line, and a blank line between sentences.",
                    file=source.name,
                    row=number,
                )
            words.append(word)
            tags.append(rest[-1])
            if len(words) > MOST_WORDS:
                raise Refused(
                    "huge_value",
                    f"The sentence up to line {number:,} has more than {MOST_WORDS:,} words.",
                    "Put a blank line between sentences.",
                    file=source.name,
                    row=number,
                )
    if words:
        yield words, tags


def _batches(source: Source, plain: Plain, prefixed: bool) -> Iterator[pa.RecordBatch]:
    held: list[dict[str, Any]] = []
    weight = lines = 0
    for words, tags in _sentences(source, plain):
        tokens = [LANGUAGE.sub("", word, count=1) for word in words] if prefixed else words
        held.append({"tokens": tokens, "tags": tags})
        weight += TOKEN_BYTES * len(words)
        lines += len(words) + 1
        if weight >= BATCH_BYTES:
            yield pa.RecordBatch.from_pylist(held, schema=SCHEMA)
            held, weight = [], 0
            source.progress(min(lines, plain.lines), plain.lines)
    if held:
        yield pa.RecordBatch.from_pylist(held, schema=SCHEMA)


FORMAT = Conll()
