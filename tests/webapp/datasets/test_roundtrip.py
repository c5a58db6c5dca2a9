"""A version's own Parquet files, read again, are that version: its columns, kinds, classes and content hash."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.webapp.datasets.conftest import refusal
from tests.webapp.datasets.packing import picture, recording, zipped

Files = list[tuple[str, bytes]]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(json.dumps(row) for row in rows).encode()


def chat(n: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"Hi {n}"}, {"role": "assistant", "content": "そう"}]


def coco() -> bytes:
    said = {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in range(9)],
        "annotations": [
            {"image_id": n, "category_id": n % 2, "bbox": [1, 1, 2 + n / 3, 5]} for n in range(8)
        ],
        "categories": [{"id": 0, "name": "zebra"}, {"id": 1, "name": "ape"}],
    }
    photos = {f"{n}.png": picture(n) for n in range(9)}
    return zipped({"a.json": json.dumps(said).encode(), **photos})


CONLL = b"Ada B-PER\nLovelace I-PER\nwrites O\n\nin O\nRome B-LOC\n\n" * 8
UPLOADS: dict[str, tuple[str, bytes, dict[str, str]]] = {
    "text, number, boolean, label": (
        "a.csv",
        b"text,n,x,flag,kind\n" + b"".join(b"row %d,%d,%d.5,%s,%s\n" % (n, n, n, (b"true", b"false")[n % 2], (b"z", b"a", b"b")[n % 3]) for n in range(60)),
        {"text": "text", "n": "integer", "x": "float", "flag": "boolean", "kind": "label"},
    ),
    "nothing in some cells": (
        "a.jsonl",
        lines([{"text": f"row {n}" if n % 5 else None, "n": n if n % 3 else None, "flag": None if n % 4 else True, "kind": ("", "good", None)[n % 3], "more": {"n": n} if n % 2 else None} for n in range(60)]),
        {"text": "text", "n": "integer", "flag": "boolean", "kind": "label", "more": "json"},
    ),
    "conversations and nested values": (
        "a.jsonl",
        lines([{"messages": chat(n), "more": [n, {"ä": None}]} for n in range(30)]),
        {"messages": "messages", "more": "json"},
    ),
    "words and tags": ("a.conll", CONLL, {"tokens": "tokens", "tags": "tags"}),
    "pictures": (
        "a.zip",
        zipped({f"{c}/{n}.png": picture(n) for c in "ba" for n in range(9)}),
        {"image": "image", "label": "label"},
    ),
    "recordings": (
        "a.zip",
        zipped({f"{c}/{n}.wav": recording(n) for c in "ba" for n in range(9)}),
        {"audio": "audio", "label": "label"},
    ),
    "boxes": ("a.zip", coco(), {"image": "image", "objects": "objects"}),
}  # fmt: skip


def stored(convert: Any) -> Files:
    """The files of the version that was made last."""
    return [(path.name, path.read_bytes()) for path in sorted(convert.output.glob("*.parquet"))]


def told(made: Any) -> list[tuple[Any, ...]]:
    return [(column["name"], column["kind"], column.get("names")) for column in made.columns]


def changed(files: Files, change: Callable[[pa.Table], pa.Table]) -> Files:
    """The files with their tables made anew."""
    found = []
    for name, data in files:
        target = io.BytesIO()
        pq.write_table(change(pq.read_table(io.BytesIO(data))), target)
        found.append((name, target.getvalue()))
    return found


@pytest.mark.parametrize("what", UPLOADS)
def test_stored_files_are_read_as_the_version_that_they_are(what: str, convert: Any) -> None:
    name, data, kinds = UPLOADS[what]
    first = convert((name, data))
    assert {column["name"]: column["kind"] for column in first.columns} == kinds
    again = convert(*stored(convert))
    assert told(again) == told(first)
    assert (again.splits, again.content_hash) == (first.splits, first.content_hash)


def test_text_stays_text_whatever_its_values_look_like(convert: Any) -> None:
    """Numbers, dates and few different values: what a version calls text was text to its maker."""
    rows = [
        {"number": str(n), "day": f"2024-01-{n % 9 + 1:02}", "json": '{"a": 1}', "few": "ab"[n % 2]}
        for n in range(60)
    ]
    table = pa.Table.from_pylist(rows)
    kinds = dict.fromkeys(rows[0], "text")
    first = convert(("a.parquet", noted(table, kinds)))
    assert {column["name"]: column["kind"] for column in first.columns} == kinds
    again = convert(*stored(convert))
    assert told(again) == told(first) and again.content_hash == first.content_hash
    unnoted = convert(("a.parquet", noted(table, {})))
    assert {column["name"]: column["kind"] for column in unnoted.columns}["few"] == "label"


def test_classes_that_no_row_has_stay_in_their_order(convert: Any) -> None:
    convert((UPLOADS["boxes"][0], UPLOADS["boxes"][1]))
    boxes = convert(*changed(stored(convert), lambda table: table.slice(0, 1)))
    assert boxes.columns[1]["names"] == ["ape", "zebra"]
    convert(("a.conll", CONLL))
    one_tag = convert(*changed(stored(convert), lambda table: table.filter(pa.compute.equal(pa.compute.list_value_length(table["tags"]), 2))))  # fmt: skip
    assert one_tag.columns[1]["names"] == ["O", "B-LOC", "B-PER", "I-PER"]
    rows = [{"text": f"row {n}", "kind": "zab"[n % 3]} for n in range(60)]
    convert(("a.jsonl", lines(rows)))
    labels = convert(*changed(stored(convert), lambda table: table.filter(pa.compute.equal(table["kind"], 2))))  # fmt: skip
    assert labels.columns[1]["names"] == ["a", "b", "z"]
    assert labels.columns[1]["counts"]["train"]["a"] == 0


def test_files_from_before_kinds_were_noted_are_read_with_those_of_their_version(convert: Any) -> None:
    first = convert(
        (UPLOADS["conversations and nested values"][0], UPLOADS["conversations and nested values"][1])
    )

    def unnoted(table: pa.Table) -> pa.Table:
        metadata = table.schema.metadata
        return table.replace_schema_metadata({b"huggingface": metadata[b"huggingface"]})

    files = changed(stored(convert), unnoted)
    kinds = {column["name"]: column["kind"] for column in first.columns}
    again = convert(*files, kinds=kinds)
    assert told(again) == told(first) and again.content_hash == first.content_hash


def test_files_can_be_added_to_those_of_a_version(convert: Any) -> None:
    """Their classes are the same by name, and new ones stand behind those that there are."""

    def added(stored_as: str, name: str, data: bytes) -> Any:
        upload = UPLOADS[stored_as]
        convert((upload[0], upload[1]))
        return convert(*stored(convert), (name, data))

    tags = added("words and tags", "train-more.conll", b"Bonn B-LOC\nor O\nUno B-ORG\n\n" * 5)
    assert tags.columns[1]["names"] == ["O", "B-LOC", "B-PER", "I-PER", "B-ORG"]
    photos = {f"x{n}.png": picture(n) for n in range(4)}
    said = {
        "images": [{"id": n, "file_name": f"x{n}.png"} for n in range(4)],
        "annotations": [{"image_id": n, "category_id": 5, "bbox": [1, 1, 2, 5]} for n in range(4)],
        "categories": [{"id": 5, "name": "bee"}],
    }
    boxes = added("boxes", "train.zip", zipped({"a.json": json.dumps(said).encode(), **photos}))
    assert boxes.columns[1]["names"] == ["ape", "zebra", "bee"] and boxes.rows == 13
    assert not [each for each in boxes.problems if each["code"] == "mixed_types"]


def noted(table: pa.Table, kinds: dict[str, str], features: Any = None) -> bytes:
    target = io.BytesIO()
    metadata = {"tuneboard": json.dumps({"kinds": kinds})}
    if features is not None:
        metadata["huggingface"] = json.dumps({"info": {"features": features}})
    pq.write_table(table.replace_schema_metadata(metadata), target)
    return target.getvalue()


CLASSES = {"names": ["cat", "dog"], "_type": "ClassLabel"}
TAGS = {"feature": CLASSES, "_type": "List"}
BOXES = {"bbox": {}, "category": TAGS}


def boxes_of(bbox: Any, category: Any) -> pa.Table:
    kind = pa.struct([("bbox", pa.list_(pa.list_(pa.float32()))), ("category", pa.list_(pa.int64()))])
    return pa.table({"o": pa.array([None, {"bbox": bbox, "category": category}] * 20, kind)})


@pytest.mark.parametrize(
    ("table", "kind", "features", "says"),
    [
        (pa.table({"o": ['{"a": 1}', "{"] * 20}), "json", None, "is not JSON"),
        (pa.table({"o": ["1", "[" * 200_000] * 20}), "json", None, "is not JSON"),
        (pa.table({"o": [[0], [2]] * 20}), "tags", TAGS, "has the class 2, and the schema names 2"),
        (pa.table({"o": [[0], [-1]] * 20}), "tags", TAGS, "has the class -1"),
        (pa.table({"o": [[0], [None]] * 20}), "tags", TAGS, "has the class None"),
        (boxes_of([[1, 2, 3, 4]], [0, 1]), "objects", BOXES, "has not as many categories as boxes"),
        (boxes_of([[1, 2, 3]], [0]), "objects", BOXES, "has a box that is not four numbers"),
        (boxes_of([[1, 2, 3, float("nan")]], [0]), "objects", BOXES, "has a box that is not four numbers"),
        (boxes_of([[1, 2, 3, 4]], [9]), "objects", BOXES, "has the class 9"),
    ],
)
def test_what_a_schema_says_wrongly_is_told_by_row(
    table: pa.Table, kind: str, features: Any, says: str, convert: Any
) -> None:
    said = refusal(convert, ("a.parquet", noted(table, {"o": kind}, {"o": features or {}})))
    assert says in said.message and (said.code, said.row, said.column) == (f"bad_{kind}", 2, "o")


@pytest.mark.parametrize(
    "kind", ["image", "audio", "tags", "objects", "tokens", "messages", "mask", "<b>", "json"]
)
def test_a_kind_that_cannot_be_is_passed_over(kind: str, convert: Any) -> None:
    rows = pa.table({"n": list(range(60)), "text": [f"row {n}" for n in range(60)]})
    found = convert(("a.parquet", noted(rows, {"n": kind, "text": "image"})))
    assert [column["kind"] for column in found.columns] == ["integer", "text"]


@pytest.mark.parametrize(
    "note", [b"[]", b'{"kinds": []}', b'{"kinds": {"n": []}}', b"{", b"\xff", b"[" * 100_000]
)
def test_notes_that_make_no_sense_are_none(note: bytes, convert: Any) -> None:
    target = io.BytesIO()
    rows = pa.table({"n": list(range(60))})
    pq.write_table(rows.replace_schema_metadata({b"tuneboard": note, b"huggingface": note}), target)
    assert convert(("a.parquet", target.getvalue())).columns[0]["kind"] == "integer"


def test_words_of_strangers_hold_nothing_that_no_database_keeps(convert: Any) -> None:
    table = pa.table({"tokens": [["a\0b", None, "c"]] * 40, "tags": [[0, 1, 0]] * 40})
    found = convert(("a.parquet", noted(table, {}, {"tokens": {}, "tags": TAGS})))
    assert [column["kind"] for column in found.columns] == ["tokens", "tags"]
    assert "\0" not in json.dumps(found.preview) and found.preview[0]["tokens"] == "ab  c"


def test_the_datasets_library_gives_recordings_and_tags_that_are_known(convert: Any, tmp_path: Path) -> None:
    media = {"bytes": recording(1), "path": "a/b/1.wav"}
    table = pa.table({"sound": [media] * 40})
    found = convert(("a.parquet", noted(table, {}, {"sound": {"_type": "Audio", "sampling_rate": 8000}})))
    assert found.columns[0]["kind"] == "audio" and found.columns[0]["rates"] == {"8000": 40}
