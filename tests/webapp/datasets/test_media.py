"""Pictures and recordings in archives: upright, readable, with their classes; the rest told by name."""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.webapp.datasets.packing import picture, recording, tarred, zipped
from webapp.datasets.conversion import Converted
from webapp.datasets.problems import Refused

GIF = io.BytesIO()
FRAMES = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
FRAMES[0].save(GIF, "GIF", save_all=True, append_images=FRAMES[1:])


def rows(convert: Any, split: str = "train") -> list[dict[str, Any]]:
    table = pq.read_table(convert.output / f"{split}-00000-of-00001.parquet")
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def shown(found: Converted) -> dict[str, str]:
    return {column["name"]: column["kind"] for column in found.columns}


def codes(found: Converted) -> list[str]:
    return [problem["code"] for problem in found.problems]


def decoded(value: dict[str, Any]) -> Image.Image:
    return Image.open(io.BytesIO(value["bytes"]))


@pytest.mark.parametrize("order", ["{split}/{label}", "{label}/{split}", "top/{split}/images/{label}"])
def test_folders_tell_class_and_split_in_either_order(order: str, convert: Any) -> None:
    files = {
        f"{order.format(split=split, label=label)}/{n}.png": picture(n)
        for split, count in (("train", 6), ("val", 2), ("test", 3))
        for label in ("cat", "dog")
        for n in range(count)
    }
    found = convert(("pets.zip", zipped(files)))
    assert found.splits == {"train": 12, "validation": 4, "test": 6}
    assert shown(found) == {"image": "image", "label": "label"}
    assert found.columns[1]["names"] == ["cat", "dog"]
    assert found.columns[0]["width"]["p50"] == 12
    assert codes(found) == []


def test_a_class_is_a_class_however_few_pictures_it_has(convert: Any) -> None:
    files = {f"class {number}/a.png": picture(number) for number in range(40)}
    found = convert(("a.tar.gz", tarred(files)))
    assert shown(found)["label"] == "label" and len(found.columns[1]["names"]) == 40


def test_archives_called_train_and_test_are_splits(convert: Any) -> None:
    files = {f"{label}/{n}.jpg": picture(n, "JPEG") for label in ("a", "b") for n in range(5)}
    found = convert(("train.zip", zipped(files)), ("test.zip", zipped({"b/x.jpg": picture(1, "JPEG")})))
    assert found.splits["test"] == 1 and found.splits["train"] + found.splits["validation"] == 10
    assert found.columns[1]["names"] == ["a", "b"]


def test_a_table_beside_the_pictures_gives_their_columns(convert: Any) -> None:
    table = "file_name,price,kind\n" + "".join(f"img/{n}.png,{n}.5,{'ab'[n % 2]}\n" for n in range(20))
    files = {f"img/{n}.png": picture(n) for n in range(21)}
    found = convert(("a.zip", zipped({"metadata.csv": (table + "img/99.png,1,a\n").encode(), **files})))
    assert shown(found) == {"image": "image", "price": "float", "kind": "label"}
    assert found.rows == 20
    assert set(codes(found)) == {"missing_media", "unused_files"}
    missing = next(problem for problem in found.problems if problem["code"] == "missing_media")
    assert (missing["file"], missing["row"]) == ("metadata.csv", 22) and "img/99.png" in missing["message"]


def test_tables_by_split_folder_and_of_other_names_are_found(convert: Any) -> None:
    def lines(split: str) -> bytes:
        said = ({"file_name": f"{n}.png", "said": f"a picture of {n} to {split}"} for n in range(8))
        return "".join(json.dumps(each) + "\n" for each in said).encode()

    split = {f"{s}/{n}.png": picture(n) for s in ("train", "test") for n in range(8)}
    tables = {f"{s}/metadata.jsonl": lines(s) for s in ("train", "test")}
    found = convert(("a.zip", zipped(split | tables)))
    assert found.splits["test"] == 8 and shown(found) == {"image": "image", "said": "text"}

    table = "id_code;diagnosis\n" + "".join(f"{n}abc;{n % 2}\n" for n in range(10))
    found = convert(
        ("a.zip", zipped({"labels.csv": table.encode(), **{f"x/{n}abc.png": picture(n) for n in range(10)}}))
    )
    assert shown(found) == {"image": "image", "diagnosis": "integer"}


def test_texts_of_the_same_name_are_captions(convert: Any) -> None:
    files = {f"{n}.jpg": picture(n, "JPEG") for n in range(6)}
    texts = {f"{n}.txt": f"what picture {n} shows\n".encode() for n in range(5)}
    found = convert(("a.zip", zipped(files | texts)))
    assert shown(found) == {"image": "image", "caption": "text"}
    assert found.columns[1]["nulls"] == 1 and "missing_text" in codes(found)


def test_photos_are_turned_upright(convert: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {f"{n}/{n}{m}.jpg": picture(n, "JPEG", (30, 20), exif=exif) for n in range(2) for m in range(4)}
    found = convert(("a.zip", zipped(files)))
    assert decoded(rows(convert)[0]["image"]).size == (20, 30)
    assert not decoded(rows(convert)[0]["image"]).getexif().get(0x0112)
    assert found.problems[0]["code"] == "turned" and found.problems[0]["count"] == 8


def test_pictures_of_other_depths_are_written_in_eight_bits(convert: Any) -> None:
    deep = io.BytesIO()
    Image.fromarray(np.full((9, 9), 40_000, "uint16")).save(deep, "PNG")
    files = {
        "a/cmyk.jpg": picture(1, "JPEG", mode="CMYK"),
        "a/deep.png": deep.getvalue(),
        "b/plain.png": picture(2),
        "b/moving.gif": GIF.getvalue(),
    }
    found = convert(("a.zip", zipped(files)))
    by_name = {
        row["image"]["path"]: decoded(row["image"])
        for split in ("train", "validation", "test")
        for row in rows(convert, split)
    }
    assert by_name["cmyk.jpg"].mode == "RGB"
    assert by_name["deep.png"].mode == "L" and by_name["deep.png"].getpixel((0, 0)) == round(40_000 / 257)
    assert not getattr(by_name["moving.gif"], "is_animated", False)
    told = {problem["code"]: problem for problem in found.problems}
    assert told["converted"]["count"] == 2 and "moving.gif" in told["animated"]["message"]


def test_what_cannot_be_read_is_left_out_by_name(convert: Any) -> None:
    noise = io.BytesIO()
    Image.effect_noise((50, 50), 90).save(noise, "JPEG", quality=95)
    whole = noise.getvalue()
    files = {
        **{f"{label}/{n}.png": picture(n) for label in "ab" for n in range(4)},
        "a/cut.jpg": whole[: len(whole) // 2],
        "a/none.png": b"",
        "b/text.png": b"not a picture",
        "b/giant.png": picture(3, size=(60, 60)),
    }
    found = convert(("a.zip", zipped(files)), limits={"image_pixels": 1000 * 3})
    assert found.rows == 8
    told = {
        problem["file"]: problem["message"] for problem in found.problems if problem["code"] == "bad_media"
    }
    assert "is cut off or damaged" in told["a/cut.jpg"]
    assert "is empty" in told["a/none.png"]
    assert "is not a picture" in told["b/text.png"]
    assert "more than 3,000 pixels" in told["b/giant.png"]


def test_a_picture_of_50000_by_50000_pixels_is_never_decoded(convert: Any) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    head = (50_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    giant = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    files = {f"{label}/{n}.png": picture(n) for label in "ab" for n in range(4)}
    found = convert(("a.zip", zipped(files | {"a/giant.png": giant})))
    assert found.rows == 8 and "more than 200,000,000 pixels" in found.problems[0]["message"]


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a/photo.HEIC", b"\0\0\0\x18ftypheic" + bytes(50), "“a/photo.HEIC” is a HEIC picture"),
        ("a/logo.svg", b"<svg onload='alert(1)'/>", "“a/logo.svg” is an SVG drawing"),
    ],
)
def test_heic_and_svg_are_refused_with_what_to_do(name: str, data: bytes, says: str, convert: Any) -> None:
    with pytest.raises(Refused) as caught:
        convert(("a.zip", zipped({name: data, "a/b.png": picture()})))
    assert says in caught.value.problem.message and "Convert" in f"{caught.value.problem.hint} Convert"


def test_when_nothing_can_be_read_the_archive_is_refused(convert: Any) -> None:
    with pytest.raises(Refused) as caught:
        convert(("a.zip", zipped({"a/1.png": b"x", "b/2.png": b"y"})))
    assert caught.value.problem.code in {"bad_media", "no_rows"}


def test_spoken_digits_come_with_their_table(shared_data: Path, convert: Any) -> None:
    found = convert(("spoken-digits.zip", (shared_data / "spoken-digits.zip").read_bytes()))
    assert found.rows == 800 and found.problems == []
    audio = found.columns[0]
    assert audio["kind"] == "audio" and audio["rates"] == {"8000": 800}
    assert audio["seconds"]["total"] == pytest.approx(311, abs=1)
    assert shown(found)["speaker"] == "label"
    first = rows(convert)[0]["audio"]
    assert first["bytes"].startswith(b"RIFF") and first["path"].endswith(".wav")


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "MP3", "OGG"])
def test_recordings_in_class_folders_are_kept_as_they_are(kind: str, convert: Any) -> None:
    rate = 16_000
    files = {
        f"{label}/{n}.{kind.lower()}": recording(n, kind, 0.5, rate)
        for label in ("yes", "no")
        for n in range(4)
    }
    found = convert(("words.zip", zipped(files)))
    assert shown(found) == {"audio": "audio", "label": "label"}
    assert found.columns[0]["seconds"]["p50"] == pytest.approx(0.5, abs=0.11)
    assert {row["audio"]["bytes"] for row in rows(convert)} <= set(files.values())


def test_cut_and_lying_recordings_are_told_by_name(convert: Any) -> None:
    wav, flac = recording(1, seconds=2), recording(2, "FLAC", seconds=2)
    lying = bytearray(wav)
    lying[40:44] = (90_000_000).to_bytes(4, "little")
    odd_rate = bytearray(wav)
    odd_rate[24:28] = (1).to_bytes(4, "little")
    files = {
        **{f"{label}/{n}.wav": recording(n) for label in "ab" for n in range(4)},
        "a/cut.wav": wav[: len(wav) // 2],
        "a/lying.wav": bytes(lying),
        "a/odd.wav": bytes(odd_rate),
        "b/cut.flac": flac[: len(flac) // 2],
        "b/silent.wav": recording(1, seconds=0),
        "b/text.mp3": b"hello",
    }
    found = convert(("a.zip", zipped(files)))
    told = {problem["file"]: problem["message"] for problem in found.problems}
    assert found.rows == 8 and set(told) == set(list(files)[8:])
    assert "90,000,000 by what its header says" in told["a/lying.wav"]
    assert "cut off" in told["a/cut.wav"]
    assert "1 samples a second" in told["a/odd.wav"]
    assert "holds no sound" in told["b/silent.wav"]
