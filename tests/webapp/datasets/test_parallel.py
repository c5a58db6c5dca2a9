"""Parallel text: two files line by line, and translation memories."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from tests.webapp.datasets.conftest import refusal
from webapp.datasets.formats.common import Source
from webapp.datasets.formats.parallel import pairs
from webapp.datasets.formats.tmx import _units

EN = [f"House number {n}, & so on." for n in range(300)]
DE = [f"Haus Nummer {n} & so weiter: „größer“." for n in range(300)]
CSV = "en,de\n" + "".join(f'"{en}","{de}"\n' for en, de in zip(EN, DE, strict=True))
DOCTYPE = '<!DOCTYPE tmx SYSTEM "tmx14.dtd">'


def text(sentences: list[str]) -> bytes:
    return "\n".join(sentences).encode()


def unit(**texts: str) -> str:
    variants = "".join(
        f'<tuv xml:lang="{language.replace("_", "-")}"><seg>{said.replace("&", "&amp;")}</seg></tuv>'
        for language, said in texts.items()
    )
    return f'<tu tuid="1"><prop type="x">note</prop>{variants}</tu>\n'


def tmx(units: str, doctype: str = DOCTYPE, encoding: str = "utf-8") -> bytes:
    head = f'<?xml version="1.0" encoding="{encoding}"?>\n{doctype}\n<tmx version="1.4"><header srclang="en"/><body>\n'
    return (head + units + "</body></tmx>\n").encode(encoding)


UNITS = "".join(unit(en=en, de=de) for en, de in zip(EN, DE, strict=True))


@pytest.mark.parametrize(
    "files",
    [
        [("train.en", text(EN)), ("train.de", text(DE))],
        [("corpus.en.txt", text(EN)), ("corpus.de.txt", "\r\n".join(DE).encode("utf-16"))],
        [("Europarl.de-en.en.gz", gzip.compress(text(EN))), ("Europarl.de-en.de.gz", gzip.compress(text(DE)))],
        [("memory.tmx", tmx(UNITS))],
        [("memory.tmx", tmx(UNITS, encoding="utf-16"))],
        [("memory.tmx.gz", gzip.compress(tmx(UNITS)))],
        [("memory.tmx", tmx("".join(unit(en_US=e, de_DE=d) for e, d in zip(EN, DE, strict=True)), doctype=""))],
        [("rows.jsonl", "".join(json.dumps({"translation": {"en": e, "de": d}}) + "\n" for e, d in zip(EN, DE, strict=True)).encode())],
    ],
    ids=["two files", "two encodings", "compressed", "TMX", "TMX in UTF-16", "TMX compressed", "TMX with countries", "JSON"],
)  # fmt: skip
def test_every_way_of_writing_gives_the_same_two_columns(files: Any, convert: Any) -> None:
    made = convert(*files)
    assert made.content_hash == convert(("a.csv", CSV.encode())).content_hash
    assert [(column["name"], column["kind"]) for column in made.columns] == [("en", "text"), ("de", "text")]
    assert made.problems == []


def test_pairs_of_files_keep_their_splits(convert: Any) -> None:
    files = [
        (f"{split}.{language}", text(rows))
        for split in ("train", "test")
        for language, rows in (("en", EN), ("de", DE))
    ]
    made = convert(*files)
    assert (made.splits["test"], made.rows, made.details["split"]["drawn"]) == (300, 600, ["validation"])


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["a.en", "a.de", "b.txt"], [[0, 1], [2]]),
        (["a.en", "b.txt", "a.pt-BR"], [[0, 2], [1]]),
        (["a.en", "b.de"], [[0], [1]]),
        (["a.en", "a.en"], [[0], [1]]),
        (["train.csv", "test.csv"], [[0], [1]]),
        (["a.en.csv", "a.de.csv"], [[0], [1]]),
    ],
)
def test_files_belong_together_by_name_and_language(names: list[str], groups: list[list[int]]) -> None:
    assert pairs(names) == groups


def test_lines_that_are_blank_in_both_files_are_no_rows(convert: Any) -> None:
    made = convert(("a.en", text([*EN, "", "last"])), ("a.de", text([*DE, "", "", ""])))
    assert made.rows == 301
    assert made.columns[1]["nulls"] == 1


@pytest.mark.parametrize(
    ("files", "code", "says", "row"),
    [
        ([("a.en", text(EN)), ("a.de", text(DE[:-2]))], "uneven_lines", "“a.en” 300, “a.de” 298", 299),
        ([("a.en", text(EN)), ("a.de", b"\x7fELF" + bytes(300))], "not_a_table", "no text", None),
        ([("a.en", text(EN)), ("a.de", text(DE) + b"\n\xff\xfe\xfd")], "encoding", "Line 301", 301),
        ([("a.en", text(EN)), ("a.de", b"x" * (17 << 20))], "huge_value", "Line 1", 1),
        ([("a.en", b""), ("a.de", b"")], "no_rows", "no rows", None),
        ([("a.tmx", tmx(UNITS)[:-30])], "bad_xml", "is not XML", 303),
        ([("a.tmx", tmx(UNITS[:-20] + "<x>"))], "bad_xml", "is not XML", 303),
        ([("a.tmx", tmx(UNITS, '<!DOCTYPE tmx [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'))], "forbidden_xml", "entities", 1),
        ([("a.tmx", tmx(UNITS, '<!DOCTYPE tmx [<!ENTITY a SYSTEM "file:///etc/passwd">]>'))], "forbidden_xml", "other files", 1),
        ([("a.tmx", tmx(unit(en="one") * 9))], "one_language", "only “en”", None),
        ([("a.tmx", tmx(""))], "no_rows", "no translation units", None),
        ([("a.tmx", tmx(UNITS + "<tu>" + "<seg>" * 100_000))], "bad_xml", "Translation unit 301 is nested too deeply", 301),
        ([("a.tmx", tmx(UNITS + unit(en="x" * (40 << 20), de="y")))], "huge_value", "unit 301", 301),
        ([("a.tmx", tmx("".join(unit(**{f"l{n}": "x"}) for n in range(1500))))], "too_many_columns", "at most 1,000", None),
    ],
)  # fmt: skip
def test_parallel_text_that_cannot_be_used_gets_its_sentence(
    files: Any, code: str, says: str, row: int | None, convert: Any
) -> None:
    problem = refusal(convert, *files)
    assert (problem.code, problem.row, bool(problem.hint)) == (code, row, True), problem
    assert says in problem.message
    assert problem.file


def test_codes_in_segments_are_no_text_and_marked_words_are(convert: Any) -> None:
    seg = 'Press <bpt i="1">&lt;b&gt;</bpt><hi>here</hi><ept i="1">&lt;/b&gt;</ept> <ph/>now'
    units = "".join(
        f'<tu><tuv xml:lang="en"><seg>{seg} {n}</seg></tuv><tuv lang="de"><seg>Hier {n}</seg></tuv></tu>'
        for n in range(9)
    )
    made = convert(("a.tmx", tmx(units)))
    assert {row["en"] for row in made.preview} <= {f"Press here now {n}" for n in range(9)}


def test_two_kinds_of_one_language_keep_their_countries(convert: Any) -> None:
    made = convert(
        (
            "a.tmx",
            tmx("".join(unit(en_US=f"color {n}", en_GB=f"colour {n}", fr=f"couleur {n}") for n in range(9))),
        )
    )
    assert [column["name"] for column in made.columns] == ["en-US", "en-GB", "fr"]


def test_memory_does_not_grow_with_a_translation_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.tmx"
    path.write_bytes(tmx(unit(en="word " * 50, de="Wort " * 50) * 20_000))
    tracemalloc.start()
    try:
        assert sum(1 for _ in _units(Source(path, "a.tmx"))) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 3 << 20
    finally:
        tracemalloc.stop()
