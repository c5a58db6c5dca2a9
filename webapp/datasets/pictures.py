"""Pictures that strangers send: looked into, and made into what every reader shows in the same way.

A picture that is upright, of eight bits, of one frame and in a form that browsers show is kept byte for byte.
"""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageOps

from webapp.datasets import likeness

# What is too large is refused here in words. For all threads, as `catch_warnings` is for one alone.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
KEPT_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}
LARGE = 25_000_000  # pixels of a picture that is not decoded beside another one
QUALITY = 95  # of JPEG that has to be written anew
# What Pillow's readers raise for bytes that make no sense.
ERRORS = (
    OSError, ValueError, SyntaxError, TypeError, IndexError, KeyError, AttributeError, OverflowError, EOFError,
    struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
_alone = threading.Lock()
TURNED, ANIMATED, CONVERTED, REWRITTEN = "turned", "animated", "converted", "rewritten"
HIDDEN_FORMATS = frozenset(("BMP", "TIFF"))  # that no browser, or not every one, shows
NOTES = {
    TURNED: "were taken with the camera on its side; they were turned upright.",
    ANIMATED: "are animated or of several pages; the first picture of each was kept.",
    CONVERTED: "were in 16 bits, CMYK or another form that models do not read; they were written anew in 8 bits.",
    REWRITTEN: "were BMP or TIFF, which browsers do not show; they were written anew as PNG, with the same pixels.",
}


class Unreadable(Exception):
    """A picture or a recording that cannot be used: `why` as the end of a sentence, and what to do."""

    def __init__(self, why: str, hint: str) -> None:
        super().__init__(why)
        self.why, self.hint = why, hint


@dataclass(frozen=True)
class Clean:
    """A picture as it is kept. `notes`: what had to be done to it."""

    data: bytes
    width: int
    height: int
    notes: tuple[str, ...] = ()


def allow_pixels(most: int) -> None:
    """Have Pillow refuse what is larger: it does so at twice of what it is told."""
    Image.MAX_IMAGE_PIXELS = max(1, most // 2)


def size_of(data: bytes, most: int) -> tuple[int, int]:
    """Width and height by the head of a picture; raises Unreadable."""
    with _open(data, most) as picture:
        return picture.size


def _open(data: bytes, most: int) -> Image.Image:
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _too_large(most) from error
    except ERRORS as error:
        raise Unreadable(
            "is not a picture that can be read", f"Use {', '.join(FORMATS)}, or take the file out."
        ) from error
    if picture.width * picture.height > most:
        raise _too_large(most)
    return picture


def _too_large(most: int) -> Unreadable:
    return Unreadable(f"has more than {most:,} pixels", "Make it smaller: models look at far fewer pixels.")


def is_usual(data: bytes, most: int) -> bool:
    """Whether the head of a picture tells of nothing that would have it written anew; raises Unreadable."""
    with _open(data, most) as picture:
        try:
            animated = picture.format != "MPO" and bool(getattr(picture, "is_animated", False))
        except ERRORS:
            return False
        return picture.mode in KEPT_MODES and picture.format not in HIDDEN_FORMATS and not animated


def cleaned(data: bytes, most: int, annotated: tuple[int, int] | None = None) -> Clean:
    """A picture read to its end; raises Unreadable.

    `annotated` is the size that its boxes were drawn on: where that is the size of the pixels as they are
    stored, the picture is not turned, since what was drawn would no longer lie where it belongs.
    """
    with _open(data, most) as picture:
        try:
            with _alone if picture.width * picture.height > LARGE else nullcontext():
                return _cleaned(picture, data, annotated)
        except ERRORS as error:
            raise Unreadable(
                "is cut off or damaged", "Copy it again from where it comes from, or take it out."
            ) from error


def _cleaned(picture: Image.Image, data: bytes, annotated: tuple[int, int] | None) -> Clean:
    size, kind = picture.size, picture.format
    orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    marked = orientation in range(2, 9)
    swapped = orientation in range(5, 9)
    turned = marked and not (swapped and annotated == size)
    animated = kind != "MPO" and bool(getattr(picture, "is_animated", False))
    notes = [note for note, so in ((ANIMATED, animated), (TURNED, turned)) if so]
    if picture.mode not in KEPT_MODES:
        notes.append(CONVERTED)
    if kind in HIDDEN_FORMATS:
        notes.append(REWRITTEN)
    if not notes and not marked:
        likeness.draft(picture)
        picture.load()
        likeness.remember(data, picture)
        return Clean(data, *size)
    picture.seek(0)
    picture.load()
    upright = ImageOps.exif_transpose(picture) if turned else picture
    if upright.mode not in KEPT_MODES:
        upright = eight_bits(upright)
    elif animated and upright.mode != "RGBA":
        upright = upright.convert("RGBA" if "transparency" in upright.info else "RGB")
    made = written(upright, "JPEG" if kind in ("JPEG", "MPO") else "PNG")
    likeness.remember(made, upright)
    return Clean(made, *upright.size, tuple(notes))


def eight_bits(picture: Image.Image) -> Image.Image:
    """Of a picture in another depth or for printing; numbers above 255 are scaled, not cut."""
    if picture.mode not in ("I", "F", "I;16", "I;16B", "I;16L", "I;16N"):
        return picture.convert("RGB")
    values = np.nan_to_num(np.asarray(picture).astype(np.float64))
    low, high = float(values.min()), float(values.max())
    if picture.mode == "F" or low < 0 or high > 65_535:
        values = (values - low) * (255 / (high - low or 1))
    elif high > 255 or picture.mode.startswith("I;16"):
        values = values / 257
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8), "L")


def written(picture: Image.Image, kind: str) -> bytes:
    """Without what cameras write beside the pixels, such as the place; colour profiles stay."""
    target = io.BytesIO()
    if kind == "JPEG" and picture.mode not in ("L", "RGB"):
        picture = picture.convert("RGB")
    profile = picture.info.get("icc_profile") if picture.mode != "L" else None
    picture.info.clear()
    options = {"quality": QUALITY, "subsampling": 0} if kind == "JPEG" else {}
    if profile:
        options["icc_profile"] = profile
    picture.save(target, kind, **options)
    return target.getvalue()
