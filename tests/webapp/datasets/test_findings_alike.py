"""Texts that differ in a few words and pictures that differ in size or compression are found, with both rows of a pair."""

from __future__ import annotations

import io
import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.webapp.datasets.packing import zipped
from webapp.datasets import findings
from webapp.datasets.columns import Column
from webapp.datasets.findings import similar, similar_pictures
from webapp.datasets.findings.plain import plain, spaced
from webapp.datasets.findings.shingles import Shingles
from webapp.datasets.problems import Problem

VOCABULARY = [f"word{n}" for n in range(3_000)]


def sentences(count: int, seed: int = 0, words: int = 25) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(VOCABULARY, k=words)) for _ in range(count)]


def changed(text: str, *places: int) -> str:
    """The text with other words at these places."""
    words = text.split()
    for place in places:
        words[place] = f"another{place}"
    return " ".join(words)


@pytest.fixture
def found(tmp_path: Path) -> Any:
    """Problems of a look at texts by split, by code, and the rows selected for each."""

    def look(kind: str = "text", **splits: list[Any]) -> tuple[dict[str, Problem], dict[str, list[Any]]]:
        files = {}
        for split in ("train", "validation", "test"):
            values: Any = splits.get(split, [])
            files[split] = tmp_path / f"{split}.parquet"
            if kind == "messages":
                values = [[{"role": "user", "content": each}] for each in values]
                array = pa.array(
                    values, pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
                )
            else:
                array = pa.array(values, pa.string())
            pq.write_table(pa.table({"text": array}), files[split])
        problems: dict[str, Problem] = {}
        with findings.opened(files, [Column("text", kind, 0)], {"text": "text"}, tmp_path) as rows:
            similar.find(rows, lambda problem: problems.setdefault(problem.code, problem))
            chosen = {
                code: sorted(rows.ask(findings.rows_of(rows, code, "text", each.split)))
                for code, each in problems.items()
            }
        return problems, chosen

    return look


@pytest.mark.parametrize("kind", ["text", "messages"])
def test_a_text_with_another_word_is_told_with_the_row_that_it_is_like(found: Any, kind: str) -> None:
    texts = sentences(300)
    problems, chosen = found(kind, train=[*texts, changed(texts[40], 3), changed(texts[7], 0, 24)])
    assert set(problems) == {"similar_texts"}
    told = problems["similar_texts"]
    assert (told.split, told.row, told.other_split, told.other_row, told.count) == (
        "train",
        301,
        "train",
        41,
        2,
    )
    assert "row 301 of train and row 41 of train share 85 % of their pairs of words" in told.message
    assert chosen["similar_texts"] == [("train", 301), ("train", 302)]


def test_a_held_out_text_that_is_like_one_to_train_on_is_leakage(found: Any) -> None:
    texts = sentences(300)
    problems, chosen = found(train=texts, test=[*sentences(20, seed=1), changed(texts[99], 12)])
    assert set(problems) == {"similar_leakage"}
    told = problems["similar_leakage"]
    assert (told.severity, told.split, told.row, told.other_split, told.other_row) == (
        "serious",
        "test",
        21,
        "train",
        100,
    )
    assert told.message.startswith("1 row of test (4.8 %) differs in a few words alone from rows to train on")
    assert chosen["similar_leakage"] == [("train", 100)]


@pytest.mark.parametrize(
    "train",
    [
        pytest.param(sentences(500), id="other words"),
        pytest.param(
            [changed(text, *range(0, 25, 4)) for text in [sentences(1)[0]] * 1] + sentences(1),
            id="many words",
        ),
        pytest.param([f"a short one number {n}" for n in range(200)], id="few words"),
        pytest.param([sentences(1)[0], sentences(1)[0].upper() + "!!"], id="case and punctuation"),
        pytest.param([None, "", None], id="nothing"),
        pytest.param([], id="no rows"),
    ],
)
def test_texts_that_are_not_alike_or_alike_in_another_way_are_not_told(found: Any, train: list[Any]) -> None:
    assert found(train=train) == ({}, {})


def test_texts_without_blanks_between_words_are_compared_by_their_letters(found: Any) -> None:
    text = "今天天气很好所以我们决定一起去公园里散步然后再回家吃晚饭"
    problems, _ = found(
        train=[text, text.replace("晚", "早"), "完全不同的句子说的是另外一件事情与天气毫无关系"]
    )
    assert problems["similar_texts"].count == 1


def test_where_there_are_too_many_texts_some_are_compared_and_it_is_said(
    found: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similar, "MOST_ROWS", 40)
    texts = sentences(100)
    problems, _ = found(train=[*texts, *(changed(text, 20) for text in texts)])
    told = problems["similar_texts"]
    assert "40 rows were compared, not all." in told.message
    assert told.count and 15 <= told.count <= 20  # those that begin alike are compared with each other


def test_every_pair_that_is_told_shares_what_it_says() -> None:
    """Against sets of pairs of words, for texts with one to eight words changed."""
    texts = sentences(200)
    draw = random.Random(5)
    texts += [changed(texts[n], *draw.sample(range(25), 1 + n % 8)) for n in range(200)]
    shingles = Shingles()
    assert shingles.add(pa.array(texts)).all()
    later, earlier, share = shingles.alike(np.arange(400), np.zeros(400, np.int64))

    def pairs(text: str) -> set[tuple[str, str]]:
        words = text.split()
        return set(itertools.pairwise(words))

    def true_share(one: int, other: int) -> float:
        a, b = pairs(texts[one]), pairs(texts[other])
        return len(a & b) / len(a | b)

    for one, other, said in zip(later, earlier, share, strict=True):
        assert said == pytest.approx(true_share(one, other))
        assert said >= 0.8 and one > other
    expected = {(200 + n, n) for n in range(200) if true_share(200 + n, n) >= 0.8}
    assert len(expected) >= 25
    assert expected <= set(zip(later.tolist(), earlier.tolist(), strict=True))


@pytest.mark.parametrize(
    ("text", "left", "apart"),
    [
        ("Hello, World!", "helloworld", "hello  world "),
        ("", "", ""),
        (None, "", ""),
        ("…“Ähm”—ß", "ähmß", None),
        ("日本、語。ＡＢ！", "日本語ａｂ", None),
        ("नमस्ते", "नमस्ते", "नमस्ते"),
        ("😀 Great!", "😀great", "😀 great "),
    ],
)
def test_plain_texts_keep_letters_numbers_and_their_marks(
    text: str | None, left: str, apart: str | None
) -> None:
    around = pa.array(["before", text, "!", "", "after"], pa.string())
    assert plain(around).to_pylist() == ["before", left, "", "", "after"]
    assert plain(around.slice(1, 2)).to_pylist() == [left, ""]
    if apart is not None:
        assert spaced(around.slice(1)).to_pylist() == [apart, " ", "", "after"]


def scene(number: int) -> Image.Image:
    """A picture of a few blobs, another for each number."""
    draw = np.random.default_rng(number)
    small = Image.fromarray(draw.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return small.resize((320, 240), Image.Resampling.BICUBIC)


def written(picture: Image.Image, kind: str, **options: Any) -> bytes:
    target = io.BytesIO()
    picture.save(target, kind, **options)
    return target.getvalue()


def classes(pictures: dict[str, bytes]) -> dict[str, bytes]:
    return {
        f"{name.partition('/')[0]}/{'ab'[n % 2]}/{name}": data
        for n, (name, data) in enumerate(pictures.items())
    }


def problems_of(made: Any) -> dict[str, dict[str, Any]]:
    return {problem["code"]: problem for problem in made.problems}


COPIES = {
    "smaller": lambda: written(scene(3).resize((200, 150)), "JPEG", quality=80),
    "compressed": lambda: written(scene(3), "JPEG", quality=30),
    "another format": lambda: written(scene(3), "PNG"),
    "brighter": lambda: written(scene(3).point(lambda value: min(255, int(value * 1.1))), "JPEG", quality=90),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=list(COPIES))
def test_a_copy_of_a_picture_in_the_test_rows_is_leakage(convert_all: Any, copy: Any) -> None:
    train = {f"train/{n}.jpg": written(scene(n), "JPEG", quality=95) for n in range(12)}
    test = {f"test/{n}.jpg": written(scene(n), "JPEG") for n in range(20, 26)} | {"test/copy.jpg": copy()}
    made = convert_all(("pictures.zip", zipped(classes(train) | classes(test))))
    told = problems_of(made)["picture_leakage"]
    assert (told["severity"], told["count"], told["split"], told["other_split"]) == (
        "serious",
        1,
        "test",
        "train",
    )
    assert "“copy.jpg”" in told["message"] and "“3.jpg”" in told["message"]


def test_pictures_of_one_split_that_show_the_same_are_told(convert_all: Any) -> None:
    train = {f"train/{n}.jpg": written(scene(n), "JPEG", quality=95) for n in range(12)}
    train |= {f"train/again-{n}.png": written(scene(n).resize((160, 120)), "PNG") for n in (2, 5)}
    told = problems_of(convert_all(("pictures.zip", zipped(classes(train)), {"seed": 1})))
    assert told["similar_pictures"]["count"] + told.get("picture_leakage", {"count": 0})["count"] >= 1
    assert "similar_texts" not in told


def test_pictures_that_show_something_else_or_nothing_are_not_told(convert_all: Any) -> None:
    pictures = {f"train/{n}.jpg": written(scene(n), "JPEG") for n in range(40)}
    pictures |= {
        f"train/flat-{n}.png": written(Image.new("RGB", (64, 64), (n, n, n)), "PNG") for n in range(20)
    }
    told = problems_of(convert_all(("pictures.zip", zipped(classes(pictures)))))
    assert not {"similar_pictures", "picture_leakage", "duplicates", "leakage"} & set(told)


def test_pictures_out_of_a_table_are_decoded_for_it(
    convert_all: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Parquet they were not decoded while they were read; at most MOST_DECODED are here."""
    rows = [{"bytes": written(scene(n), "JPEG", quality=77), "path": f"{n}.jpg"} for n in range(30)]
    rows[29] = {"bytes": written(scene(0).resize((200, 150)), "PNG"), "path": "copy.png"}
    target = io.BytesIO()
    pq.write_table(pa.table({"image": rows, "label": ["a", "b"] * 15}), target)
    codes = {"similar_pictures", "picture_leakage"}
    told = [each for each in convert_all(("p.parquet", target.getvalue())).problems if each["code"] in codes]
    assert len(told) == 1 and "“copy.png”" in told[0]["message"]
    monkeypatch.setattr(similar_pictures, "MOST_DECODED", 10)
    told = [each for each in convert_all(("p.parquet", target.getvalue())).problems if each["code"] in codes]
    assert told == []  # the copy was not among them


@pytest.fixture
def convert_all(tmp_path: Path) -> Any:
    """Files straight through the conversion, with all problems."""
    from webapp.datasets.conversion import Order, convert_files

    count = 0

    def run(*given: Any) -> Any:
        nonlocal count
        count += 1
        folder = tmp_path / f"all-{count}"
        request = given[0][2] if len(given[0]) > 2 else {}
        name, data = given[0][:2]
        for part in ("in", "output", "scratch"):
            (folder / part).mkdir(parents=True)
        (folder / "in" / "0").write_bytes(data)
        order = Order([(str(folder / "in" / "0"), name)], request)
        return convert_files(order, folder / "output", folder / "scratch", lambda *_: None)

    return run
