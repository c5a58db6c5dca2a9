"""Pictures with masks: found by their folders, checked, with names for their values, and laid over their pictures."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.test import Client
from django.urls import reverse
from PIL import Image

from tests.webapp.datasets.conftest import Inspected, refusal
from tests.webapp.datasets.packing import picture, zipped
from tests.webapp.datasets.test_changes import changed as changed_to
from tests.webapp.datasets.test_roundtrip import changed, stored
from webapp.accounts.models import ApiToken, User, Workspace
from webapp.datasets import masks, tallies
from webapp.datasets.changing import request_change, run_change
from webapp.datasets.edits import Wrong
from webapp.datasets.fixes import fixes_of
from webapp.datasets.limits import Limits
from webapp.datasets.pictures import Unreadable

SIZE = (12, 10)


@pytest.fixture
def client(client: Client, user: User) -> Client:
    client.force_login(user)
    return client


def mask(*values: int, mode: str = "L", size: tuple[int, int] = SIZE, kind: str = "PNG") -> bytes:
    """A mask whose pixels are these values in turn."""
    pixels = np.resize(np.array(values, np.uint8), (size[1], size[0]))
    image = Image.fromarray(pixels, "L")
    if mode == "P":
        image.putpalette([n * 7 % 256 for n in range(768)])
        image = Image.frombytes("P", image.size, image.tobytes())
        image.putpalette([n * 7 % 256 for n in range(768)])
    elif mode != "L":
        image = image.convert(mode)
    target = io.BytesIO()
    image.save(target, kind)
    return target.getvalue()


def coloured(*colours: tuple[int, int, int]) -> bytes:
    pixels = np.resize(np.array(colours, np.uint8), (SIZE[1], SIZE[0], 3))
    target = io.BytesIO()
    Image.fromarray(pixels, "RGB").save(target, "PNG")
    return target.getvalue()


def photos(count: int = 8, folder: str = "images") -> dict[str, bytes]:
    return {f"{folder}/{n}.jpg": picture(n, "JPEG", SIZE) for n in range(count)}


def archive(
    *masks: bytes, folder: str = "masks", pictures: str = "images", **others: bytes
) -> tuple[str, bytes]:
    """Eight photos, their masks in turn, and other files by name (`_` for `.`)."""
    of_masks = {f"{folder}/{n}.png": masks[n % len(masks)] for n in range(8)}
    rest = {name.replace("__", "."): data for name, data in others.items()}
    return "a.zip", zipped({**photos(folder=pictures), **of_masks, **rest})


def kinds(found: Any) -> dict[str, str]:
    return {column["name"]: column["kind"] for column in found.columns}


def codes(found: Any) -> list[str]:
    return [problem["code"] for problem in found.problems]


def values(convert: Any) -> set[int]:
    """Every value of the kept masks."""
    found: set[int] = set()
    for path in convert.output.glob("*.parquet"):
        for row in pq.read_table(path).to_pylist():
            kept = Image.open(io.BytesIO(row["mask"]["bytes"]))
            assert (kept.format, kept.mode, kept.size) == ("PNG", "L", SIZE)
            found |= set(np.unique(np.asarray(kept)).tolist())
    return found


@pytest.mark.parametrize(
    ("pictures", "folder"),
    [
        ("images", "masks"),
        ("images", "labels"),
        ("JPEGImages", "SegmentationClass"),
        ("train/images", "train/masks"),
        ("images/train", "annotations/train"),
        ("x", "masks"),
    ],
)
def test_folders_tell_pictures_from_masks(pictures: str, folder: str, convert: Any) -> None:
    found = convert(
        archive(mask(0, 1, 2, 255), folder=folder, pictures=pictures, classes__txt=b"sky\ncat\ndog\n")
    )
    assert kinds(found) == {"image": "image", "mask": "mask"}
    assert found.columns[1]["names"] == ["sky", "cat", "dog"] and found.rows == 8
    assert values(convert) == {0, 1, 2, 255} and codes(found) == []
    assert found.columns[1]["counts"]["train"] == dict.fromkeys(
        ("sky", "cat", "dog"), 30 * found.splits["train"]
    )
    assert found.suggested == {}


def test_masks_may_lie_beside_their_pictures(convert: Any) -> None:
    files = {f"train/{n}.jpg": picture(n, "JPEG", SIZE) for n in range(6)}
    of_masks = {f"train/{n}_mask.png": mask(0, 1) for n in range(6)}
    table = b"Pixel Value, Class\n0, background\n1, road\n"
    found = convert(("a.zip", zipped({**files, **of_masks, "train/_classes.csv": table})))
    assert kinds(found)["mask"] == "mask" and found.columns[1]["names"] == ["background", "road"]


def test_splits_come_from_folders_and_lists(convert: Any) -> None:
    files = {
        f"{split}/{kind}/{n}.png": picture(n, size=SIZE) if kind == "images" else mask(0, 1)
        for split, count in (("train", 6), ("val", 2), ("test", 3))
        for kind in ("images", "masks")
        for n in range(count)
    }
    assert convert(("a.zip", zipped(files))).splits == {"train": 6, "validation": 2, "test": 3}
    lists = {
        "VOC2012/ImageSets/Segmentation/train.txt": b"0\n1\n2\n3\n4\n5\n",
        "VOC2012/ImageSets/Segmentation/val.txt": b"6\n7\n",
    }
    found = convert(("a.zip", zipped({**photos(folder="VOC2012/JPEGImages"), **lists, **{f"VOC2012/SegmentationClass/{n}.png": mask(0, 15, 255, mode="P") for n in range(8)}})))  # fmt: skip
    assert found.splits["validation"] == 2 and found.columns[1]["names"][15] == "person"
    assert len(found.columns[1]["names"]) == 21 and values(convert) == {0, 15, 255}


NAMED: list[tuple[str, bytes, bytes, list[str], set[int]]] = [
    ("classes.txt", b"# no class\nsky\ncat\n", mask(0, 1), ["sky", "cat"], {0, 1}),
    ("labels.txt", b"0: sky\n7: cat\n", mask(0, 7), ["sky", "cat"], {0, 1}),
    ("labels.txt", b"sky 0\ncat 7\n", mask(0, 7), ["sky", "cat"], {0, 1}),
    ("class_names.txt", b"__ignore__\n_background_\ncat\n", mask(0, 1, 255), ["_background_", "cat"], {0, 1, 255}),
    ("classes.json", b'{"0": "sky", "9": "cat", "255": "ignore"}', mask(0, 9, 255), ["sky", "cat"], {0, 1, 255}),
    ("label2id.json", b'{"sky": 0, "cat": 100}', mask(0, 100), ["sky", "cat"], {0, 1}),
    ("classes.json", b'["sky", "cat"]', mask(0, 1, mode="P"), ["sky", "cat"], {0, 1}),
    ("classes.json", b'{"classes": [{"id": 3, "name": "sky"}, {"id": 5, "name": "cat"}]}', mask(3, 5), ["sky", "cat"], {0, 1}),
    ("classes.csv", b"value;name\n0;sky\n2;cat\n", mask(0, 2), ["sky", "cat"], {0, 1}),
    ("class_dict.csv", b"name,r,g,b\nsky,0,0,0\ncat,64,128,64\n", coloured((0, 0, 0), (64, 128, 64)), ["sky", "cat"], {0, 1}),
    ("label_colors.txt", b"64 128 64\tcat\n192 0 128\tsky over trees\n", coloured((64, 128, 64), (192, 0, 128)), ["cat", "sky over trees"], {0, 1}),
    ("labelmap.txt", b"# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0::\n", coloured((0, 0, 0), (128, 0, 0)), ["background", "cat"], {0, 1}),
    ("classes.json", b'{"0": "sky", "255": "cat"}', mask(0, 255), ["sky", "cat"], {0, 1}),
    ("classes.json", b'{"0": "sky", "1": "cat", "2": "cat"}', mask(0, 1, 2), ["sky", "cat"], {0, 1}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "said", "drawn", "names", "kept"), NAMED)
def test_a_file_names_the_values_or_colours(
    name: str, said: bytes, drawn: bytes, names: list[str], kept: set[int], convert: Any
) -> None:
    found = convert(archive(drawn, **{name.replace(".", "__"): said}))
    assert found.columns[1]["names"] == names and values(convert) == kept and codes(found) == []


def test_values_without_names_are_called_by_themselves(convert: Any) -> None:
    found = convert(archive(mask(0, 3, 7, 255)))
    assert found.columns[1]["names"] == ["0", "3", "7"] and values(convert) == {0, 1, 2, 255}
    assert codes(found) == ["no_class_names"]


def test_masks_of_two_values_mark_something(convert: Any) -> None:
    for drawn in (mask(0, 255), mask(0, 255, mode="1"), mask(0, 255, mode="RGB")):
        found = convert(archive(drawn))
        assert found.columns[1]["names"] in (["background", "marked"], ["0", "1"]) and values(convert) == {
            0,
            1,
        }
        assert codes(found) in (["two_values"], ["no_class_names"])


def test_values_that_no_class_has_do_not_count_and_are_told(inspected: Inspected) -> None:
    name, data = archive(mask(0, 1), mask(0, 1), mask(0, 1, 9, 9), mask(0, 1), classes__txt=b"sky\ncat\n")
    dataset = inspected((name, data))
    assert dataset.version is not None, dataset.findings
    told = next(problem for problem in dataset.findings if problem["code"] == "mask_values")
    assert (told["severity"], told["count"], told["file"]) == ("serious", 2, "masks/2.png")
    assert told["split"] in dataset.version.splits and told["row"] >= 1 and "(9)" in told["message"]
    (fix,) = fixes_of(told, dataset.version)
    assert fix.label == "Drop these rows"
    change = request_change(dataset.version, fix.change, None)
    run_change(change.pk, "test")
    change.refresh_from_db()
    assert change.result is not None, change.problems
    assert change.result.rows == dataset.version.rows - 2
    assert change.result.change["says"] == "Dropped 2 rows whose “mask” has values that no class has."
    assert "mask_values" not in [problem["code"] for problem in change.result.problems]


def test_where_too_many_masks_have_such_values_to_name_them_there_is_no_button(inspected: Inspected) -> None:
    tally = tallies.MaskTally(Limits())
    for number in range(tallies.MOST_NAMED):
        tally.note_unknown(f"{number}.png", f"{number:064x}", [9])
    whole = tally.facts()["unknown"]
    assert (whole["more"], len(whole["masks"]), whole["count"]) == (False, 1000, 1000)
    other = tallies.MaskTally(Limits())
    other.note_unknown("late.png", "f" * 64, [11])
    other.join(tally)
    joined = other.facts()["unknown"]
    assert (joined["more"], len(joined["masks"]), joined["count"]) == (True, 1000, 1001)
    assert (joined["file"], joined["masks"][0], joined["values"]) == ("late.png", "f" * 64, [9, 11])

    name, data = archive(mask(0, 1), mask(0, 1, 9, 9), classes__txt=b"sky\ncat\n")
    dataset = inspected((name, data))
    version = dataset.version
    assert version is not None
    told = next(problem for problem in version.problems if problem["code"] == "mask_values")
    next(each for each in version.columns if each["name"] == "mask")["unknown"]["more"] = True
    assert fixes_of(told, version) == []


def test_rows_of_such_masks_cannot_be_dropped_where_none_is_known(inspected: Inspected) -> None:
    dataset = inspected(archive(mask(0, 1), mask(0, 1, 1), classes__txt=b"sky\ncat\n"))
    assert dataset.version is not None
    with pytest.raises(Wrong, match="known to have such values"):
        request_change(dataset.version, {"op": "drop_found", "code": "mask_values", "column": "mask"}, None)


def test_what_is_no_mask_is_left_out_by_name(convert: Any) -> None:
    files = {f"masks/{n}.png": mask(0, 1) for n in range(5)}
    wide = np.full((SIZE[1], SIZE[0]), 300, np.uint16)
    deep = io.BytesIO()
    Image.fromarray(wide).save(deep, "PNG")
    files |= {
        "masks/5.png": mask(0, 1, size=(4, 4)),
        "masks/6.png": deep.getvalue(),
        "masks/7.png": mask(0, 1)[:45],
    }
    files |= {"masks/8.png": mask(0, 1), "images/9.jpg": picture(9, "JPEG", SIZE)}
    found = convert(("a.zip", zipped({**photos(), **files, "classes.txt": b"a\nb\n"})))
    assert found.rows == 5
    told = {problem["file"]: problem["message"] for problem in found.problems}
    assert "4 × 4 pixels large and its picture 12 × 10" in told["masks/5.png"]
    assert "values above 255" in told["masks/6.png"] and "read to its end" in told["masks/7.png"]
    assert "no picture of the same name" in told["masks/8.png"] and "have no mask" in told["a.zip"]


def test_masks_as_jpeg_or_in_unknown_colours_are_refused_with_what_to_do(convert: Any) -> None:
    jpegs = {f"masks/{n}.jpg": mask(0, 1, kind="JPEG") for n in range(8)}
    said = refusal(convert, ("a.zip", zipped({**photos(), **jpegs})))
    assert said.code == "bad_media" and "None of the 8 masks" in said.message
    said = refusal(convert, archive(coloured((0, 0, 0), (9, 200, 9))))
    assert said.code == "coloured_masks" and "no file says which colour" in said.message
    assert "classes.csv" in said.hint and said.file == "masks/0.png"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("classes.json", b"{"),
        ("classes.json", b"[" * 100_000),
        ("classes.json", b"[[1]"),
        ("classes.json", b'[{"nothing": 1}]'),
        ("classes.json", b'{"a": "b"}'),
        ("classes.csv", b"name,r,g,b\na,900,0,0\n"),
        ("classes.csv", b"name,value\na\n"),
        ("classes.txt", b"\n"),
    ],
)
def test_a_file_of_classes_that_makes_no_sense_is_refused(name: str, said: bytes, convert: Any) -> None:
    problem = refusal(convert, archive(mask(0, 1), **{name.replace(".", "__"): said}))
    assert (problem.code, problem.file) == ("bad_annotation", name)


def test_masks_come_back_from_their_own_parquet(convert: Any) -> None:
    first = convert(archive(mask(0, 1, 2, 255), classes__txt=b"sky\n<b>cat\ndog\nbird\n"))
    again = convert(*stored(convert))
    assert again.content_hash == first.content_hash
    assert again.columns[1]["names"] == ["sky", "<b>cat", "dog", "bird"] and kinds(again) == kinds(first)


@pytest.mark.django_db(transaction=True)
def test_a_change_keeps_masks_and_their_names(inspected: Inspected) -> None:
    dataset = inspected(archive(mask(0, 1, 2, 255), classes__txt=b"sky\ncat\ndog\nbird\n"))
    version = changed_to(dataset, op="drop_rows", split="train", rows=[1, 3])
    assert version.rows == 6 and version.columns[1]["kind"] == "mask"
    assert version.columns[1]["names"] == ["sky", "cat", "dog", "bird"]


def test_other_names_are_another_content(convert: Any) -> None:
    """Names of masks stand in no feature, and yet make a version."""
    first, second = (convert(archive(mask(0, 1), classes__txt=names)) for names in (b"a\nb\n", b"a\nc\n"))
    assert first.content_hash != second.content_hash


def test_a_strangers_parquet_with_masks_that_are_none_is_refused(convert: Any) -> None:
    convert(archive(mask(0, 1), classes__txt=b"a\nb\n"))
    files = stored(convert)
    for data, says in (
        (picture(1), "is no mask"),
        (mask(0, 1)[:-30], "read to its end"),
        (b"", "is no mask"),
    ):

        def replaced(table: pa.Table, data: bytes = data) -> pa.Table:
            values = pa.array([{"bytes": data, "path": "x"}] * len(table), table.schema.field("mask").type)
            return table.set_column(1, table.schema.field("mask"), values)

        said = refusal(convert, *changed(files, replaced))
        assert said.code == "bad_mask" and says in said.message and said.row == 1


def test_pages_lay_masks_over_their_pictures(
    inspected: Inspected, client: Client, user: User, workspace: Workspace
) -> None:
    dataset = inspected(archive(mask(0, 1, 2, 255), classes__txt=b"background\n<b>cat\ndog\n"))
    assert dataset.version is not None, dataset.findings
    html = client.get(reverse("datasets:detail", args=[dataset.pk])).content.decode()
    shown = html.split("<main")[1]
    assert 'viewBox="0 0 12 10"' in shown and "row-mask" in shown and "style=" not in shown
    assert "<b>cat" not in shown and "&lt;b&gt;cat 25.0 %" in shown and "ignored 25.0 %" in shown
    assert "Pixels of each class" in shown and "Pixels of classes" in shown
    row = client.get(
        reverse("datasets:detail", args=[dataset.pk]), {"split": "train", "row": 1}
    ).content.decode()
    assert row.count("data:image/png;base64,") >= 1 and "background 25.0 %" in row
    browse = client.get(reverse("datasets:browse", args=[dataset.pk])).content.decode()
    address = reverse("datasets:row_picture", args=[dataset.pk, "train", 1, 1])
    assert f'src="{address}"' in browse and "&lt;b&gt;cat" in browse
    answer = client.get(address)
    assert answer["Content-Type"] == "image/png" and "sandbox" in answer["Content-Security-Policy"]
    over = Image.open(io.BytesIO(answer.content))
    assert over.mode == "P" and over.size == SIZE
    seen = over.convert("RGBA")
    assert seen.getpixel((0, 0))[3] == 0, "the background does not cover the picture"  # type: ignore[index]
    assert seen.getpixel((1, 0))[:3] == masks.HUES[1]  # type: ignore[index]
    for name in ("0-0", "0-1"):
        assert client.get(reverse("datasets:picture", args=[dataset.pk, name])).status_code == 200
    headers = {"Authorization": f"Bearer {ApiToken.issue(user, workspace, 'script')[1]}"}
    api = client.get(f"/api/v1/datasets/{dataset.pk}/rows", {"limit": 1}, headers=headers).json()
    told = api["items"][0]["values"]["mask"]["picture"]
    assert client.get(told, headers=headers).content == answer.content
    assert client.get(f"/datasets/{dataset.pk}/download/csv/").status_code == 302, "masks fit into no text"


def test_what_is_laid_over_is_the_mask_by_another_header() -> None:
    drawn = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16), "L")
    target = io.BytesIO()
    drawn.save(target, "PNG")
    over = Image.open(io.BytesIO(masks.laid_over(target.getvalue(), ["background", "cat"])))
    over.load()
    assert over.mode == "P" and (np.asarray(over) == np.asarray(drawn)).all()
    assert masks.laid_over(b"\x89PNG", []) == masks.laid_over(picture(1), []) == b""
    with pytest.raises(Unreadable):
        masks.opened(b"GIF89a", 1 << 20)


def test_a_mask_too_large_is_told(convert: Any) -> None:
    said = refusal(convert, archive(mask(0, 1)), limits={"image_pixels": 50})
    assert said.code == "bad_media"
    assert json.dumps(said.as_json())
