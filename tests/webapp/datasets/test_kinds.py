"""Boxes, recordings and tagged words: upload, canonical form, page, API, and the `datasets` library."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from tests.webapp.datasets.conftest import Inspected
from tests.webapp.datasets.packing import picture, recording, zipped
from webapp import storage
from webapp.accounts.models import ApiToken, User, Workspace
from webapp.datasets.canonical import content_hash_of
from webapp.datasets.models import Dataset
from webapp.datasets.problems import Refused

LOAD = """
import json, sys
from datasets import load_dataset
rows = load_dataset("parquet", data_files=sys.argv[1], split="train", cache_dir=sys.argv[2])
print(json.dumps({name: repr(feature) for name, feature in rows.features.items()}))
"""
COCO = {
    "images": [{"id": n, "file_name": f"{n}.png", "width": 100, "height": 80} for n in range(6)],
    "annotations": [
        {"image_id": n, "category_id": 7 + n % 2, "bbox": [10, 10, 20 + n, 30]} for n in range(6)
    ],
    "categories": [{"id": 7, "name": "<b>cat"}, {"id": 8, "name": "dog"}],
}
PHOTOS = {f"{n}.png": picture(n, size=(100, 80)) for n in range(6)}


@pytest.fixture
def client(client: Client, user: User) -> Client:
    client.force_login(user)
    return client


def features(dataset: Dataset, folder: Path) -> dict[str, str]:
    """As the `datasets` library reads them, in a process of its own."""
    assert dataset.version is not None, dataset.findings
    place = storage.local_path(dataset.version.storage_prefix)
    assert place is not None
    assert content_hash_of(place) == dataset.version.content_hash
    command = [sys.executable, "-c", LOAD, str(place / "train-00000-of-00001.parquet"), str(folder)]
    found: dict[str, str] = json.loads(
        subprocess.run(command, capture_output=True, check=True, text=True).stdout
    )
    return found


def page(client: Client, dataset: Dataset, **asked: Any) -> str:
    response = client.get(reverse("datasets:detail", args=[dataset.pk]), asked)
    assert response.status_code == 200
    return response.content.decode()


def boxes(found: Any) -> list[list[dict[str, Any]]]:
    return [row["objects"]["boxes"] for row in found.preview]


def test_blood_cells_of_pascal_voc(
    inspected: Inspected, shared_data: Path, client: Client, tmp_path: Path
) -> None:
    dataset = inspected(shared_data / "bccd-voc.zip")
    version = dataset.version
    assert version is not None
    assert version.splits == {"train": 205, "validation": 87, "test": 72}
    image, objects = version.columns
    assert (image["kind"], objects["kind"]) == ("image", "objects")
    assert objects["names"] == ["Platelets", "RBC", "WBC"] and objects["counts"]["train"]["RBC"] > 2000
    assert [problem["code"] for problem in dataset.findings] == ["boxes_empty"]
    html = page(client, dataset)
    assert (
        html.count("<rect") >= 100
        and 'viewBox="0 0 640 480"' in html
        and "style=" not in html.split("<main")[1]
    )
    assert "<rect" in page(client, dataset, split="test", row=3)
    told = features(dataset, tmp_path)
    assert told["image"].startswith("Image(")
    assert "ClassLabel(names=['Platelets', 'RBC', 'WBC'])" in told["objects"] and "float32" in told["objects"]


def test_spoken_digits_play_on_their_page(
    inspected: Inspected, shared_data: Path, client: Client, tmp_path: Path
) -> None:
    dataset = inspected(shared_data / "spoken-digits.zip")
    html = page(client, dataset)
    address = reverse("datasets:recording", args=[dataset.pk, "train", 1, 0])
    assert f'src="{address}?version=1"' in html and "<audio" in html and "8,000" in html
    whole = client.get(address)
    assert whole["Content-Type"] == "audio/wav" and whole.content.startswith(b"RIFF")
    assert whole["X-Content-Type-Options"] == "nosniff" and "sandbox" in whole["Content-Security-Policy"]
    part = client.get(address, headers={"Range": "bytes=4-9"})
    assert (part.status_code, part.content) == (206, whole.content[4:10])
    assert client.get(address, headers={"Range": "bytes=99999999-"}).status_code == 416
    for wrong in (["train", 641, 0], ["train", 0, 0], ["train", 1, 1], ["train", 1, 9], ["other", 1, 0]):
        assert client.get(reverse("datasets:recording", args=[dataset.pk, *wrong])).status_code == 404
    assert "<audio" in page(client, dataset, split="test", row=2)
    assert features(dataset, tmp_path)["audio"].startswith("Audio(")


def test_entities_of_wikiann_are_marked(
    inspected: Inspected, shared_data: Path, client: Client, tmp_path: Path
) -> None:
    dataset = inspected(shared_data / "ner-wikiann/train.conll", shared_data / "ner-wikiann/dev.conll")
    version = dataset.version
    assert version is not None, dataset.findings
    tokens, tags = version.columns
    assert (tokens["kind"], tags["kind"]) == ("tokens", "tags")
    assert tags["names"] == ["O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER"]
    assert version.splits["validation"] > 1000 and not version.preview[0]["tokens"].startswith("en:")
    assert '<mark class="entity' in page(client, dataset)
    assert '<mark class="entity' in page(client, dataset, split="validation", row=1)
    told = features(dataset, tmp_path)
    assert told["tokens"].startswith("List(Value('string')") and "ClassLabel" in told["tags"]


def test_pictures_in_class_folders_suit_image_classification(
    inspected: Inspected, client: Client, tmp_path: Path
) -> None:
    files = {f"{label}/{n}.png": picture(n) for label in ("cat", "<i>dog") for n in range(8)}
    dataset = inspected(("pets.zip", zipped(files)))
    version = dataset.version
    assert version is not None, dataset.findings
    assert version.suggested["task"] == "image-classification"
    assert version.suggested["columns"] == {"image": "image", "label": "label"}
    html = page(client, dataset)
    assert "<i>dog" not in html and "&lt;i&gt;dog" in html
    form = client.get(reverse("runs:new"), {"dataset": dataset.pk}).content.decode()
    assert "Image classification" in form
    assert "ClassLabel" in features(dataset, tmp_path)["label"]


def test_the_api_tells_kind_and_facts(
    inspected: Inspected, client: Client, user: User, workspace: Workspace
) -> None:
    files = {f"{label}/{n}.wav": recording(n) for label in ("yes", "no") for n in range(4)}
    dataset = inspected(("words.zip", zipped(files)))
    token = ApiToken.issue(user, workspace, "test")[1]
    headers = {"Authorization": f"Bearer {token}"}
    audio, label = client.get(f"/api/v1/datasets/{dataset.pk}", headers=headers).json()["columns"]
    assert (audio["kind"], label["kind"], label["names"]) == ("audio", "label", ["no", "yes"])
    assert audio["seconds"]["total"] == 2.0 and audio["rates"] == {"8000": 8}


@pytest.mark.parametrize("place", ["annotations.json", "labels/instances.json"])
def test_coco_is_read_with_pictures_wherever_they_lie(place: str, convert: Any) -> None:
    photos = {f"images/{name}": data for name, data in PHOTOS.items()}
    found = convert(("a.zip", zipped({place: json.dumps(COCO).encode(), **photos})))
    assert found.rows == 6 and found.columns[1]["names"] == ["<b>cat", "dog"]
    assert boxes(found)[0][0]["x"] == 10.0


def test_yolo_is_read_with_the_names_of_its_yaml(convert: Any) -> None:
    files = {f"{s}/images/{name}": data for s in ("train", "val") for name, data in PHOTOS.items()}
    texts = {f"{s}/labels/{n}.txt": b"1 0.5 0.5 0.2 0.5\n" for s in ("train", "val") for n in range(5)}
    found = convert(("a.zip", zipped({"data.yaml": b"names: [cat, dog]\n", **files, **texts})))
    assert found.splits["validation"] == 6 and found.columns[1]["names"] == ["dog"]
    marked = [box for row in boxes(found) for box in row]
    assert {key: marked[0][key] for key in ("x", "y", "width", "height")} == {
        "x": 40.0, "y": 20.0, "width": 20.0, "height": 40.0,
    }  # fmt: skip


def test_boxes_outside_their_picture_are_cut_and_told(convert: Any) -> None:
    said = json.loads(json.dumps(COCO))
    said["annotations"][0]["bbox"] = [90, 70, 50, 50]
    said["annotations"][1]["bbox"] = [500, 500, 5, 5]
    found = convert(("a.zip", zipped({"a.json": json.dumps(said).encode(), **PHOTOS})))
    told = {problem["code"]: problem for problem in found.problems}
    assert told["boxes_outside"]["file"] == "0.png" and told["boxes_empty"]["file"] == "1.png"
    assert {"x": 90.0, "y": 70.0, "width": 10.0, "height": 10.0}.items() <= max(
        (box for row in boxes(found) for box in row), key=lambda box: float(box["x"])
    ).items()


XML = b"<annotation><object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
BAD = [
    ("entities without end", {"0.xml": b'<!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>'}, "not XML"),
    ("half an XML", {"0.xml": XML[:50]}, "not XML"),
    ("no number", {"0.xml": XML.replace(b">9<", b">nine<")}, "“nine”, not a number"),
    ("no name", {"0.xml": XML.replace(b"cat", b"")}, "no name or no bndbox"),
    ("COCO without categories", {"a.json": b'{"images": [], "annotations": []}'}, "not COCO's form"),
    ("COCO nested without end", {"a.json": b'{"images": [' + b"[" * 10_000}, "no JSON"),
    ("YOLO that runs code", {"data.yaml": b"names: !!python/object/apply:os.system [ls]", "0.txt": b"0 .5 .5 .1 .1"}, "not YAML"),
    ("YOLO with an unknown class", {"data.yaml": b"names: [cat]", "0.txt": b"5 .5 .5 .1 .1"}, "no class 5"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "files", "says"), BAD, ids=[what for what, *_ in BAD])
def test_annotations_that_make_no_sense_are_refused_by_file(
    what: str, files: dict[str, bytes], says: str, convert: Any
) -> None:
    with pytest.raises(Refused) as caught:
        convert(("a.zip", zipped({"0.png": picture(), **files})))
    assert says in caught.value.problem.message and caught.value.problem.file in files


def test_a_line_without_a_tag_is_told(convert: Any) -> None:
    data = b"Ada B-PER\nwrites O\n\n" * 30 + b"Ada\n" + b"writes O\n"
    with pytest.raises(Refused) as caught:
        convert(("a.conll", data))
    assert caught.value.problem.code == "bad_tag" and caught.value.problem.row == 91
