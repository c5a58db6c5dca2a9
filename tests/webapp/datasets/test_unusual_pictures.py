"""Pictures that no browser shows, or no model reads: each becomes one that both do, wherever it comes from."""

from __future__ import annotations

import io
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
from tests.webapp.datasets.test_roundtrip import stored
from webapp.accounts.models import User

SIZE = (12, 10)
RGB = (40, 90, 199)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def deep(kind: str) -> bytes:
    return saved(Image.fromarray(np.full((SIZE[1], SIZE[0]), 40_000, "uint16")), kind)


def frames(kind: str, **options: Any) -> bytes:
    images = [Image.new("RGB", SIZE, colour) for colour in (RGB, (0, 255, 0))]
    return saved(images[0], kind, save_all=True, append_images=images[1:], **options)


UNUSUAL: dict[str, tuple[bytes, set[str], Any]] = {  # (picture, notes, a pixel of what is kept)
    "rgb.bmp": (picture(1, "BMP"), {"rewritten"}, RGB),
    "palette.bmp": (picture(1, "BMP", mode="P"), {"rewritten"}, None),
    "one.bmp": (picture(1, "BMP", mode="1"), {"rewritten"}, None),
    "plain.tif": (picture(1, "TIFF"), {"rewritten"}, RGB),
    "lzw.tiff": (picture(1, "TIFF", compression="tiff_lzw"), {"rewritten"}, RGB),
    "alpha.tif": (picture(1, "TIFF", mode="RGBA"), {"rewritten"}, (*RGB, 255)),
    "cmyk.tif": (picture(1, "TIFF", mode="CMYK"), {"rewritten", "converted"}, RGB),
    "cmyk.jpg": (picture(1, "JPEG", mode="CMYK"), {"converted"}, None),
    "deep.tif": (deep("TIFF"), {"rewritten", "converted"}, round(40_000 / 257)),
    "deep.png": (deep("PNG"), {"converted"}, round(40_000 / 257)),
    "float.tif": (saved(Image.new("F", SIZE, 0.5), "TIFF"), {"rewritten", "converted"}, 0),
    "pages.tif": (frames("TIFF"), {"rewritten", "animated"}, RGB),
    "moving.gif": (frames("GIF"), {"animated"}, RGB),
    "moving.png": (frames("PNG"), {"animated"}, RGB),
    "moving.webp": (frames("WEBP", lossless=True), {"animated"}, RGB),
}  # fmt: skip


def kept(convert: Any) -> dict[str, Image.Image]:
    """Every picture of the version that was made last, by name."""
    rows = [row for path in convert.output.glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    return {row["image"]["path"]: Image.open(io.BytesIO(row["image"]["bytes"])) for row in rows}


def parquet(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    values = [{"bytes": data, "path": name} for name, data in files.items()]
    pq.write_table(pa.table({"image": values, "n": list(range(len(values)))}), target)
    return target.getvalue()


@pytest.mark.parametrize("how", ["archive", "parquet"])
@pytest.mark.parametrize("name", UNUSUAL)
def test_it_becomes_what_browsers_show_and_models_read(name: str, how: str, convert: Any) -> None:
    data, notes, pixel = UNUSUAL[name]
    files = {**{f"{n}.png": picture(n) for n in range(8)}, name: data}
    upload = ("a.zip", zipped(files)) if how == "archive" else ("a.parquet", parquet(files))
    found = convert(upload)
    assert {problem["code"] for problem in found.problems} - {"no_classes"} == notes
    made = kept(convert)[name]
    assert made.format in {"PNG", "JPEG"} and made.mode in {"1", "L", "P", "RGB", "RGBA"}
    assert not getattr(made, "is_animated", False) and made.size == SIZE
    assert pixel is None or made.getpixel((3, 3)) == pixel
    assert all(image.format == "PNG" for other, image in kept(convert).items() if other != name)


def test_pages_show_them(inspected: Inspected, client: Client, user: User) -> None:
    client.force_login(user)
    dataset = inspected(("a.parquet", parquet({name: data for name, (data, *_) in UNUSUAL.items()})))
    version = dataset.version
    assert version is not None, dataset.problems
    assert all(row["image"]["picture"] for row in version.preview)
    for row in range(1, version.splits["train"] + 1):
        address = reverse("datasets:row_picture", args=[dataset.pk, "train", row, 0])
        answer = client.get(address)
        assert answer.status_code == 200 and answer["Content-Type"] in {"image/png", "image/jpeg"}


def test_what_was_written_anew_stays_as_it_is_from_then_on(convert: Any) -> None:
    first = convert(("a.parquet", parquet({name: data for name, (data, *_) in UNUSUAL.items()})))
    again = convert(*stored(convert))
    assert again.content_hash == first.content_hash and again.problems == []


def test_one_that_is_cut_off_is_told_by_row(convert: Any) -> None:
    noise = saved(Image.effect_noise((60, 60), 90), "TIFF")
    files = {**{f"{n}.png": picture(n) for n in range(8)}, "cut.tif": noise[: len(noise) // 2]}
    said = refusal(convert, ("a.parquet", parquet(files)))
    assert (said.code, said.row, said.column) == ("bad_image", 9, "image")
