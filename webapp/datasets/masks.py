"""Masks: pictures whose pixels are the numbers of classes.

They are kept as grey PNG of eight bits whose values are 0 to n - 1, by the names of the column; 255 means that a pixel
does not count. Such a file becomes one that a browser lays over a photo by another header and a palette: the pixels are
not touched, so nothing has to be decoded to show it.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from webapp.datasets.pictures import ERRORS, FORMATS, Unreadable

IGNORED = 255
SIGNATURE = b"\x89PNG\r\n\x1a\n"
END = b"\0\0\0\0IEND\xaeB`\x82"
HEAD = 33  # bytes of the signature and the first chunk
GREY, PALETTE = 0, 3  # colour types of PNG
MOST_LOOKED_INTO = 4 << 20  # pixels of a mask whose classes a page names
ALPHA = 150  # of 255
# As `hue-0` to `hue-9` of the style sheet.
HUES = (
    (66, 99, 235), (232, 89, 12), (47, 158, 68), (174, 62, 201), (240, 140, 0),
    (12, 133, 153), (224, 49, 49), (95, 61, 196), (102, 168, 15), (194, 37, 92),
)  # fmt: skip
UNMARKED = frozenset(("background", "_background_", "bg", "0", "unlabeled", "unlabelled", "void", "none"))
Values = NDArray[np.uint8]  # [height, width]
Colour = tuple[int, int, int]
HINT = "Save masks as PNG with one channel, whose values are the numbers of the classes."


class Coloured(Unreadable):
    """A mask of colours, and nothing says what they mean."""


def opened(data: bytes, most: int, colours: dict[Colour, int] | None = None) -> Values:
    """The values of a mask as somebody drew it, by `colours` where they are given; raises Unreadable.

    A colour that is not among them counts as IGNORED.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                if picture.width * picture.height > most:
                    raise Unreadable(f"has more than {most:,} pixels", "Make picture and mask smaller.")
                if picture.format == "JPEG":
                    raise Unreadable("is a JPEG, which blurs the numbers of the classes", HINT)
                picture.load()
                return _values(picture, colours or {})
    except Unreadable:
        raise
    except ERRORS as error:
        raise Unreadable("is not a picture that can be read to its end", HINT) from error


def _values(picture: Image.Image, colours: dict[Colour, int]) -> Values:
    if picture.mode == "P":
        values = np.asarray(picture, np.uint8)
        return _by_palette(picture, values, colours) if colours else values
    if picture.mode in {"1", "L"}:
        grey = np.asarray(picture).astype(np.uint8)
        tones = {red: value for (red, green, blue), value in colours.items() if red == green == blue}
        table = np.array([tones.get(tone, IGNORED) for tone in range(256)], np.uint8)
        return table[grey] if any(tones.get(int(tone)) for tone in np.unique(grey) if tone) else grey
    if picture.mode in {"LA", "PA"}:
        return np.asarray(picture, np.uint8)[:, :, 0]
    if picture.mode.startswith("I"):
        numbers = np.asarray(picture).astype(np.int64)
        if numbers.size and (numbers.min() < 0 or numbers.max() > IGNORED):
            raise Unreadable(
                f"has values above {IGNORED}, and at most {IGNORED} classes can be told apart", HINT
            )
        return numbers.astype(np.uint8)
    channels = np.asarray(picture.convert("RGB"))
    if colours:
        return _by_colour(channels, colours)
    if (channels == channels[:, :, :1]).all():
        return np.ascontiguousarray(channels[:, :, 0])
    raise Coloured("is in colours, and no file says which colour is which class", HINT)


def _by_palette(picture: Image.Image, values: Values, colours: dict[Colour, int]) -> Values:
    """Where the colours of the palette are not those that were told, its numbers count."""
    palette = (picture.getpalette("RGB") or []) + [0] * 768
    told = [colours.get((palette[3 * n], palette[3 * n + 1], palette[3 * n + 2])) for n in range(256)]
    used = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    if not any(told[n] is not None for n in used if any(palette[3 * n : 3 * n + 3])):
        return values
    table = np.array([IGNORED if each is None else each for each in told], np.uint8)
    return table[values]


def _by_colour(channels: NDArray[np.uint8], colours: dict[Colour, int]) -> Values:
    def packed(red: Any, green: Any, blue: Any) -> Any:
        return (red << 16) | (green << 8) | blue

    known = sorted((packed(*colour), value) for colour, value in colours.items())
    keys = np.array([key for key, _ in known], np.uint32)
    values = np.array([value for _, value in known], np.uint8)
    wide = channels.astype(np.uint32)
    pixels = packed(wide[:, :, 0], wide[:, :, 1], wide[:, :, 2])
    places = np.searchsorted(keys, pixels).clip(0, len(keys) - 1)
    return np.where(keys[places] == pixels, values[places], np.uint8(IGNORED)).astype(np.uint8)


def written(values: Values) -> bytes:
    """A mask in the form that is kept."""
    target = io.BytesIO()
    Image.fromarray(values, "L").save(target, "PNG")
    return target.getvalue()


def size_of(data: bytes) -> tuple[int, int] | None:
    """Width and height of a mask in the form that is kept; None for anything else."""
    if len(data) < HEAD or not data.startswith(SIGNATURE) or data[12:16] != b"IHDR":
        return None
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    return (width, height) if (depth, colour) == (8, GREY) and width and height else None


def kept_values(data: bytes, most: int) -> Values:
    """The values of a mask in the form that is kept; raises Unreadable."""
    if size_of(data) is None:
        raise Unreadable("is no mask: a PNG with one channel of eight bits", HINT)
    return opened(data, most)


def counts(data: bytes, most: int) -> NDArray[np.int64]:
    """Pixels of each value, [256]."""
    return np.bincount(kept_values(data, most).ravel(), minlength=256)


# -- as pages show them -----------------------------------------------------------------------------------
def laid_over(data: bytes, names: list[str]) -> bytes:
    """The mask as a PNG of see-through colours, a hue a class; empty where it is not in the form that is kept."""
    if size_of(data) is None:
        return b""
    head = bytearray(data[16:29])
    head[9] = PALETTE
    colours, alphas = bytearray(), bytearray()
    for value in range(256):
        hue = HUES[value % len(HUES)] if value < len(names) else (128, 128, 128)
        colours += bytes(hue)
        alphas.append(0 if is_unmarked(value, names) else ALPHA)
    chunks = [_chunk(b"IHDR", bytes(head)), _chunk(b"PLTE", bytes(colours)), _chunk(b"tRNS", bytes(alphas))]
    return SIGNATURE + b"".join(chunks) + _pixels(data)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _pixels(data: bytes) -> bytes:
    """The chunks that hold the pixels, and the end; what else a grey PNG says makes no sense with a palette."""
    found, place = [], HEAD
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        if data[place + 4 : place + 8] in (b"IDAT", b"IEND"):
            found.append(data[place : place + 12 + length])
        place += 12 + length
    return b"".join(found)


def is_unmarked(value: int, names: list[str]) -> bool:
    """Whether a class is what is left when nothing is marked."""
    return value == 0 and (not names or names[0].strip().lower() in UNMARKED)


def all_classes(names: list[str], most: int = 6) -> dict[str, Any]:
    """As `legend`, of every class that there is, but for what is not marked."""
    return _legend([(value, "") for value in range(len(names)) if not is_unmarked(value, names)], names, most)


def legend(data: bytes, names: list[str], most: int = 12) -> dict[str, Any]:
    """{"classes": [{"name", "hue", "share", "unmarked"}], "hidden": how many more}; share of the pixels as a text.

    Largest first; of a mask that is too large to look into, all names without shares.
    """
    size = size_of(data)
    if size is None or size[0] * size[1] > MOST_LOOKED_INTO:
        found = [(value, "") for value in range(len(names))]
    else:
        try:
            pixels = counts(data, MOST_LOOKED_INTO)
        except Unreadable:
            pixels = np.zeros(256, np.int64)
        total = max(1, int(pixels.sum()))
        order = sorted(np.flatnonzero(pixels).tolist(), key=lambda value: -int(pixels[value]))
        found = [(value, _percent(int(pixels[value]) / total)) for value in order]
    return _legend(found, names, most)


def _legend(found: list[tuple[int, str]], names: list[str], most: int) -> dict[str, Any]:
    classes = [
        {
            "name": names[value] if value < len(names) else "ignored" if value == IGNORED else str(value),
            "hue": value % len(HUES),
            "share": share,
            "unmarked": is_unmarked(value, names) or value >= len(names),
        }
        for value, share in found[:most]
    ]
    return {"classes": classes, "hidden": max(0, len(found) - most)}


def _percent(share: float) -> str:
    return "under 0.1 %" if share < 0.001 else f"{share:.1%}".replace("%", " %")
