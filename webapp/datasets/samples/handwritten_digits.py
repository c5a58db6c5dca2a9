"""*Handwritten digits*: scikit-learn's 1,797 small pictures of digits."""

from __future__ import annotations

import gzip
import importlib.util
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

from webapp.datasets.formats.common import IMAGE
from webapp.datasets.problems import Refused
from webapp.datasets.samples.common import Sample

SIDE = 8
MARGIN = 2  # of paper around the ink: image models look at the middle of a picture
DARKEST = 16  # values go from 0 to 16


class HandwrittenDigits(Sample):
    slug = "handwritten-digits"
    title = "Handwritten digits"
    summary = (
        "Tiny pictures of the digits 0 to 9 as forty-three people wrote them. Good for a first image "
        "classification: a pretrained image model gets nearly all of them right after a minute."
    )
    facts = "1,797 pictures of 8 × 8 pixels and a margin, 10 classes"
    origin = "Optical recognition of handwritten digits (UCI; CC BY 4.0), as it comes with scikit-learn"
    icon = "photo"
    order = 20

    def make(self, folder: Path) -> list[Path]:
        # The package is located, not imported: importing scikit-learn takes a second and is not needed.
        found = importlib.util.find_spec("sklearn")
        places = list(found.submodule_search_locations or []) if found else []
        data = next(
            (p for place in places if (p := Path(place, "datasets/data/digits.csv.gz")).is_file()), None
        )
        if data is None:
            raise Refused(
                "sample_unavailable",
                "scikit-learn, of which this sample is made, is not installed where the worker runs.",
                "Install Tuneboard with its extra [training] there and try again.",
            )
        pictures, digits = [], []
        with gzip.open(data, "rt") as lines:
            for number, line in enumerate(lines):
                *pixels, digit = (int(float(value)) for value in line.split(","))
                pictures.append({"bytes": png(pixels), "path": f"{number:04}.png"})
                digits.append(str(digit))
        path = folder / "handwritten-digits.parquet"
        table = pa.table({"image": pa.array(pictures, IMAGE), "digit": pa.array(digits, pa.string())})
        pq.write_table(table, path)
        return [path]


def png(pixels: list[int]) -> bytes:
    """Ink on paper: dark on white, as people write and as photographs look."""
    picture = Image.frombytes("L", (SIDE, SIDE), bytes(255 - value * 255 // DARKEST for value in pixels))
    picture = ImageOps.expand(picture, MARGIN, fill=255)
    target = io.BytesIO()
    picture.save(target, "PNG")
    return target.getvalue()


SAMPLE = HandwrittenDigits()
