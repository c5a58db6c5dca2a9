"""Archives, pictures, recordings and annotations that are hostile or broken; test_archives.py has more of the archives."""

from __future__ import annotations

import gzip
import io
import json
import struct
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.webapp.datasets.bad_inputs import Case, check
from tests.webapp.datasets.packing import picture, recording, tarred, zipped
from tests.webapp.datasets.test_archives import CSV, patched
from tests.webapp.datasets.test_bad_tables import HUGE

ROOT = Path(__file__).resolve().parents[3]
MEDIA = ("bad_media",)
SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)


def beside(data: bytes, name: str) -> bytes:
    """An archive of six good pictures, or recordings, in two folders, and this file."""
    kind = "wav" if name.endswith((".wav", ".flac", ".ogg", ".mp3")) else "png"
    make = recording if kind == "wav" else picture
    return zipped({**{f"{'ab'[n % 2]}/{n}.{kind}": make(n) for n in range(6)}, f"a/{name}": data})


def noise(width: int = 40, height: int = 30) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def cut(data: bytes) -> bytes:
    return data[: len(data) * 6 // 10]


def several(kind: str) -> bytes:
    return saved(noise(), kind, save_all=True, append_images=[noise().rotate(90)] * 3)


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(noise(), "JPEG", exif=exif)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_of(width: int, height: int) -> bytes:
    """A head that says so, and next to nothing behind it."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", bytes(20))


def png_with_text() -> bytes:
    """80 MB of text, packed beside the pixels."""
    data = saved(noise(), "PNG")
    return data[:33] + chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(80 << 20))) + data[33:]


def wav(
    *,
    kind: int = 1,
    channels: int = 1,
    rate: int = 8_000,
    bits: int = 16,
    data: bytes = bytes(1600),
    says: int | None = None,
) -> bytes:
    """A recording whose head says what it is told to."""
    size = len(data) if says is None else says
    pace = (rate * channels * bits // 8) & 0xFFFFFFFF, (channels * bits // 8) & 0xFFFF
    body = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, kind, channels, rate, *pace, bits)
    body += b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(body) if says is None else 0xFFFFFFFF) + body


def with_header(headers: dict[str, str]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a.csv")
        member.size, member.pax_headers = len(CSV), headers
        archive.addfile(member, io.BytesIO(CSV))
    return target.getvalue()


def voc(xmin: object = 1, xmax: object = 8, before: str = "", text: str = "") -> bytes:
    """Five marked pictures, the last one by this."""

    def said(number: int, low: object, high: object) -> str:
        box = f"<xmin>{low}</xmin><ymin>1</ymin><xmax>{high}</xmax><ymax>9</ymax>"
        return (
            f"<annotation>{text if number == 4 else ''}<filename>{number}.jpg</filename><size><width>12</width>"
            f"<height>10</height></size><object><name>cat</name><bndbox>{box}</bndbox></object></annotation>"
        )

    files = {f"JPEGImages/{n}.jpg": picture(n, "JPEG") for n in range(5)}
    files |= {f"Annotations/{n}.xml": said(n, 1, 8).encode() for n in range(4)}
    return zipped({**files, "Annotations/4.xml": (before + said(4, xmin, xmax)).encode()})


def coco(**changes: Any) -> bytes:
    said: dict[str, Any] = {
        "images": [{"id": n, "file_name": f"{n}.jpg", "width": 12, "height": 10} for n in range(5)],
        "annotations": [{"image_id": n, "category_id": 1, "bbox": [1, 1, 5, 5]} for n in range(5)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    pictures = {f"images/{n}.jpg": picture(n, "JPEG") for n in range(5)}
    return zipped({**pictures, "annotations.json": json.dumps(said | changes).encode()})


def boxed(*box: Any, image: int = 1, category: int = 1) -> bytes:
    return coco(annotations=[{"image_id": image, "category_id": category, "bbox": list(box)}])


def yolo(last: bytes = b"0 .5 .5 .2 .2\n", data: bytes = b"names: [cat, dog]\n") -> bytes:
    pictures = {f"images/{n}.jpg": picture(n, "JPEG") for n in range(5)}
    labels = {f"labels/{n}.txt": b"0 .5 .5 .2 .2\n" for n in range(4)}
    return zipped({**pictures, **labels, "labels/4.txt": last, "data.yaml": data})


def yaml_bomb() -> bytes:
    """Lists of lists that are written once and mean billions."""
    lists = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    for one, other in zip("abcdefghi", "bcdefghij", strict=True):
        lists.append(f"{other}: &{other} [{','.join([f'*{one}'] * 9)}]")
    return "\n".join([*lists, "names: *j\n"]).encode()


def alone(
    what: str, make: Any, warned: tuple[str, ...] = MEDIA, *, name: str = "bad.png", rows: int = 6
) -> Case:
    """A file among good ones: left out by its name, or taken in with a word."""
    says = name if warned else ""
    return Case(what, "a.zip", lambda: beside(make(), name), says=says, warned=warned, rows=rows)


PICTURES = [
    alone("50,000 × 50,000 pixels", lambda: png_of(50_000, 50_000)),
    alone("4 billion pixels a side", lambda: png_of(2**31 - 1, 2**31 - 1)),
    alone("no pixel wide", lambda: png_of(0, 10)),
    alone("240 megapixels that pack to nothing", lambda: saved(Image.new("1", (20_000, 12_000)), "PNG")),
    alone("80 MB of text in a picture", png_with_text),
    alone("65,535 pixels in a GIF of 40 bytes", lambda: b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x44\x01\0;", name="bad.gif"),
    alone("a negative height in BMP", lambda: b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, -5, -(2**31), 1, 24, *[0] * 6) + bytes(50), name="bad.bmp"),
    *[alone(f"half a {kind}", lambda kind=kind: cut(saved(noise(), kind)), name=f"bad.{kind.lower()}") for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")],
    alone("noise inside a JPEG", lambda: (lambda data: data[:300] + bytes(range(256)) + data[556:])(saved(noise(80, 60), "JPEG")), name="bad.jpg"),
    alone("a PNG without pixels", lambda: saved(noise(), "PNG").replace(b"IDAT", b"IDAX", 1)),
    *[alone(f"turned as EXIF's {number} says", lambda number=number: turned(number), ("turned",), name="bad.jpg", rows=7) for number in (2, 3, 6, 8)],
    *[alone(f"turned as no camera says ({number})", lambda number=number: turned(number), (), name="bad.jpg", rows=7) for number in (0, 99, 65_535)],
    alone("EXIF that points out of itself", lambda: (lambda data: data[:2] + b"\xff\xe1\x00\x10Exif\0\0II*\0\xff\xff\xff\xff" + data[2:])(saved(noise(), "JPEG")), (), name="bad.jpg", rows=7),
    alone("for printing (CMYK)", lambda: saved(noise().convert("CMYK"), "JPEG"), ("converted",), name="bad.jpg", rows=7),
    alone("16 bits", lambda: saved(Image.fromarray((np.arange(1200).reshape(30, 40) * 50).astype(np.uint16)), "PNG"), ("converted",), rows=7),
    alone("fractions", lambda: saved(Image.fromarray(np.linspace(-1, 1, 1200).reshape(30, 40).astype(np.float32)), "TIFF"), ("converted", "rewritten"), name="bad.tif", rows=7),
    alone("no numbers at all", lambda: saved(Image.fromarray(np.full((30, 40), np.nan, np.float32)), "TIFF"), ("converted", "rewritten"), name="bad.tif", rows=7),
    alone("1 bit", lambda: saved(noise().convert("1"), "PNG"), (), rows=7),
    alone("a palette with a hole", lambda: saved(noise().convert("P"), "PNG", transparency=0), (), rows=7),
    *[alone(f"moving ({kind})", lambda kind=kind: several(kind), ("animated",), name=f"bad.{kind.lower()}", rows=7) for kind in ("GIF", "WEBP", "PNG")],
    alone("moving (TIFF)", lambda: several("TIFF"), ("animated", "rewritten"), name="bad.tiff", rows=7),
    alone("HEIC called JPEG", lambda: HEIC, name="bad.jpg"),
    alone("AVIF called JPEG", lambda: HEIC.replace(b"heic", b"avif"), name="bad.jpg"),
    alone("a drawing with a script called PNG", lambda: SVG),
    alone("a page called JPEG", lambda: b"<html><script>alert(1)</script>", name="bad.jpg"),
    alone("PostScript called JPEG", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EndComments\n(/etc/passwd) run", name="bad.jpg"),
    alone("a program called JPEG", lambda: b"MZ" + bytes(300), name="bad.jpg"),
    alone("nothing called JPEG", lambda: b"", name="bad.jpg"),
    alone("a program in the comment of a JPEG", lambda: saved(noise(), "JPEG", comment=b"<?php system($_GET[1]); ?>"), (), name="bad.jpg", rows=7),
    alone("a profile of colours that is none", lambda: saved(noise(), "JPEG", icc_profile=b"x" * 100_000), (), name="bad.jpg", rows=7),
    alone("a JPEG that is a zip as well", lambda: saved(noise(), "JPEG") + zipped({"x": b"y"}), (), name="bad.jpg", rows=7),
    Case("HEIC", "a.zip", lambda: beside(HEIC, "bad.heic"), "unreadable_picture", "a HEIC picture, as iPhones take them"),
    Case("SVG with a script", "a.zip", lambda: beside(SVG, "bad.svg"), "unreadable_picture", "an SVG drawing"),
]  # fmt: skip
RECORDINGS = [
    alone("a head that says 4 GB", lambda: wav(says=0xFFFFFFFF), (), name="bad.wav", rows=7),
    alone("a head that says twice as much", lambda: wav(says=3_200), name="bad.wav"),
    alone("no samples a second", lambda: wav(rate=0), name="bad.wav"),
    alone("4 billion samples a second", lambda: wav(rate=4_000_000_000), name="bad.wav"),
    alone("no channel", lambda: wav(channels=0), name="bad.wav"),
    alone("65,535 channels", lambda: wav(channels=65_535), name="bad.wav"),
    alone("samples of no bits", lambda: wav(bits=0), name="bad.wav"),
    alone("samples of 999 bits", lambda: wav(bits=999), name="bad.wav"),
    alone("a way of packing that nobody knows", lambda: wav(kind=0x1234), name="bad.wav"),
    alone("no sound", lambda: wav(data=b""), name="bad.wav"),
    alone("values that are no numbers", lambda: wav(kind=3, bits=32, data=struct.pack("<400f", *[float("nan")] * 400)), name="bad.wav"),
    alone("a head alone", lambda: recording(3)[:20], name="bad.wav"),
    alone("half a WAV", lambda: cut(recording(3)), name="bad.wav"),
    *[alone(f"half a {kind}", lambda kind=kind: cut(recording(3, kind)), name=f"bad.{kind.lower()}") for kind in ("FLAC", "OGG")],
    alone("half an MP3", lambda: (lambda data: data[: len(data) // 2])(recording(3, "MP3", seconds=4)), name="bad.mp3"),
    *[alone(f"noise inside {kind}", lambda kind=kind: (lambda data: data[:60] + bytes(range(256)) * 2 + data[572:])(recording(3, kind, seconds=1)), name=f"bad.{kind.lower()}") for kind in ("FLAC", "OGG")],
    alone("zeros called MP3", lambda: bytes(5_000), name="bad.mp3"),
    alone("words called WAV", lambda: b"hello " * 100, name="bad.wav"),
    alone("a picture called WAV", lambda: picture(1, "JPEG"), name="bad.wav"),
]  # fmt: skip
ARCHIVES = [
    Case("names that Windows keeps for itself", "a.zip", lambda: zipped({"a/CON.png": picture(1), "a/nul.png": picture(2), "b/aux.png": picture(3), "b/x .png": picture(4)}), warned=("rare_classes",), rows=4),
    Case("files that differ in capitals", "a.zip", lambda: zipped({"a/X.png": picture(1), "a/x.png": picture(2), "b/y.png": picture(3), "b/Y.png": picture(4)}), warned=("rare_classes",), rows=4),
    Case("a name of 255 bytes", "a.zip", lambda: beside(picture(9), "n" * 251 + ".png"), rows=7),
    Case("a name of blanks", "a.zip", lambda: beside(picture(9), "   .png"), rows=7),
    Case("folders called dot", "a.zip", lambda: zipped({"./a/./1.png": picture(1), "./a/2.png": picture(2), "./b/3.png": picture(3), "b//4.png": picture(4)}), warned=("rare_classes",), rows=4),
    Case("a comment of 64 KB", "a.zip", lambda: beside(picture(9), "9.png")[:-2] + struct.pack("<H", 65_535) + b"c" * 65_535, rows=7),
    Case("a zip behind a program", "a.zip", lambda: b"#!/bin/sh\nexit\n" + bytes(5_000) + zipped({"a.csv": CSV}), "not_a_table", "no format that can be read"),
    Case("a directory that stands nowhere", "a.zip", lambda: (lambda data: data[:-6] + struct.pack("<I", 0x7FFFFFFF) + data[-2:])(zipped({"a.csv": CSV})), "damaged", "cut off or damaged"),
    Case("two names for one file", "a.zip", lambda: zipped({"a.csv": CSV}).replace(b"a.csv", b"b.csv", 1), "damaged", "“a.csv”"),
    Case("a wrong sum", "a.zip", lambda: patched(patched(zipped({"a.csv": CSV}), b"PK\x01\x02", 16, bytes(4)), b"PK\x03\x04", 14, bytes(4)), "damaged", "“a.csv”"),
    Case("archives in archives in archives", "a.zip", lambda: zipped({"a.zip": zipped({"b.zip": zipped({"c.csv": CSV})})}), "nested_archive", "“a.zip”"),
    Case("nothing but folders", "a.zip", lambda: zipped({"a/": b"", "b/": b""}), "empty", "no files"),
    Case("NUL in a name", "a.zip", lambda: patched(patched(zipped({"aXcsv": CSV, "b.csv": CSV}), b"PK\x01\x02", 47, b"\0"), b"PK\x03\x04", 31, b"\0"), "unknown_layout", "no extension"),
    Case("a negative size in a tar", "a.tar", lambda: (lambda data: data[:124] + b"\x80" + b"\xff" * 11 + data[136:])(tarred({"a.csv": CSV}, "w:")), "damaged", "cut off or damaged"),
    Case("a path upwards in the header of a tar", "a.tar", lambda: with_header({"path": "../../evil.csv"}), "unsafe_path", "leads out"),
    Case("something behind a tar", "a.tar", lambda: tarred({"train.csv": CSV}, "w:") + b"x" * 2_000, rows=30),
    Case("a tar in two pieces of gzip", "a.tgz", lambda: (lambda data: gzip.compress(data[:700]) + gzip.compress(data[700:]))(tarred({"train.csv": CSV}, "w:")), rows=30),
    Case("a table that points out of the archive", "a.zip", lambda: zipped({**{f"{n}.png": picture(n) for n in range(6)}, "metadata.csv": b"file_name,label\n../../etc/passwd,a\n" + b"".join(b"%d.png,%s\n" % (n, b"ab"[n % 2 : n % 2 + 1]) for n in range(6))}), warned=("missing_media",), rows=6),
]  # fmt: skip
FORM = "not COCO's form"
ANNOTATIONS = [
    Case("entities that grow", "a.zip", lambda: voc(before='<!DOCTYPE a [<!ENTITY l "lol"><!ENTITY m "&l;&l;&l;&l;&l;&l;">]>', text="&m;"), "bad_annotation", "not XML"),
    Case("an entity that is a file of ours", "a.zip", lambda: voc(before='<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>', text="&x;"), "bad_annotation", "not XML"),
    Case("a box from no number", "a.zip", lambda: voc("nan"), warned=("boxes_empty",), rows=5),
    Case("a box without end", "a.zip", lambda: voc(1, "1e999"), warned=("boxes_empty",), rows=5),
    Case("a box from a word", "a.zip", lambda: voc("one"), "bad_annotation", "“one”, not a number"),
    Case("a box turned round", "a.zip", lambda: voc(9, 2), warned=("boxes_empty",), rows=5),
    Case("a box beside the picture", "a.zip", lambda: voc(100, 200), warned=("boxes_empty",), rows=5),
    Case("20,000 tags deep", "a.zip", lambda: voc(text="<a>" * 20_000 + "</a>" * 20_000), rows=5),
    Case("a box of three numbers", "a.zip", lambda: boxed(1, 2, 3), "bad_annotation", FORM),
    Case("a box of no number", "a.zip", lambda: boxed(float("nan"), 2, 3, 4), warned=("boxes_empty",), rows=5),
    Case("a box of a letter", "a.zip", lambda: boxed("a", 2, 3, 4), "bad_annotation", FORM),
    Case("a box of negative width", "a.zip", lambda: boxed(1, 2, -3, 4), warned=("boxes_empty",), rows=5),
    Case("a box of a picture that is not there", "a.zip", lambda: boxed(1, 2, 3, 4, image=99), rows=5),
    Case("a box of a class that is not there", "a.zip", lambda: boxed(1, 2, 3, 4, category=9), "bad_annotation", FORM),
    Case("boxes that are nothing", "a.zip", lambda: coco(annotations=None), "bad_annotation", FORM),
    Case("pictures that are a number", "a.zip", lambda: coco(images=5), "bad_annotation", FORM),
    Case("a class beyond the names", "a.zip", lambda: yolo(b"99 .5 .5 .2 .2\n"), "bad_annotation", "no class 99", row=1),
    Case("a box far beyond the picture", "a.zip", lambda: yolo(b"0 5 5 2 2\n"), warned=("boxes_empty",), rows=5),
    Case("YAML that runs a program", "a.zip", lambda: yolo(data=b"names: !!python/object/apply:os.system ['touch /tmp/evil']\n"), "bad_annotation", "not YAML"),
    Case("YAML that means billions", "a.zip", lambda: yolo(data=yaml_bomb()), "bad_annotation", "no texts"),
]  # fmt: skip


@pytest.mark.parametrize("case", [*PICTURES, *RECORDINGS, *ARCHIVES, *ANNOTATIONS], ids=str)
def test_what_is_broken_or_hostile_is_left_out_by_name_or_refused(
    case: Case, convert: Any, tmp_path: Path
) -> None:
    check(case, convert)
    assert not list(tmp_path.rglob("evil*")) and not list(tmp_path.rglob("passwd"))


@pytest.mark.parametrize(
    ("make", "size"),
    [
        pytest.param(lambda: turned(6), (30, 40), id="on its side"),
        pytest.param(lambda: turned(3), (40, 30), id="on its head"),
        pytest.param(lambda: turned(99), (40, 30), id="as no camera says"),
        pytest.param(lambda: saved(noise().convert("CMYK"), "JPEG"), (40, 30), id="for printing"),
        pytest.param(lambda: several("GIF"), (40, 30), id="moving"),
    ],
)
def test_what_is_odd_is_kept_as_every_reader_shows_it(make: Any, size: tuple[int, int], convert: Any) -> None:
    convert(
        ("a.zip", zipped({**{f"train/a/{n}.png": picture(n) for n in range(3)}, "train/b/odd.jpg": make()}))
    )
    rows = [
        row["image"]
        for path in convert.output.glob("*.parquet")
        for row in pq.read_table(path).to_pylist()
        if row["image"]["path"].startswith("odd")
    ]
    with Image.open(io.BytesIO(rows[0]["bytes"])) as kept:
        assert kept.size == size
        assert kept.mode in {"RGB", "RGBA", "P"}
        assert not getattr(kept, "is_animated", False)
        assert kept.getexif().get(0x0112, 1) in (1, 99)


GROWS = [
    case
    for case in [*HUGE, *PICTURES, *ANNOTATIONS]
    if any(word in case.what for word in ("100 MB", "80 MB", "megapixels", "billions", "50,000", "that grow"))
]
LIMITED = """
import resource, sys
from pathlib import Path
from webapp.datasets.conversion import Order, convert_files
from webapp.datasets.problems import Refused
resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))
folder = Path(sys.argv[1])
try:
    convert_files(Order([(str(folder / "file"), sys.argv[2])]), folder / "output", folder / "scratch", lambda *_: None)
except Refused as refused:
    sys.stdout.write(refused.problem.code)
"""


@pytest.mark.parametrize("case", GROWS, ids=str)
def test_what_is_made_to_fill_the_memory_does_not(case: Case, tmp_path: Path) -> None:
    """In 3 GB of addresses, of which the libraries and DuckDB's own limit take 2."""
    for name in ("output", "scratch"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_bytes(case.make())
    program = LIMITED.format(limit=3 << 30)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), case.name], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == case.code
