"""Files of an archive are looked into by several threads: in their order, a few ahead, large ones alone."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from webapp.datasets.archives import Tree
from webapp.datasets.layouts import media
from webapp.datasets.layouts.common import Place
from webapp.datasets.layouts.media import MediaReader
from webapp.datasets.problems import Problems


def picture(shade: int) -> bytes:
    target = io.BytesIO()
    Image.new("L", (8, 8), shade).save(target, "PNG")
    return target.getvalue()


@pytest.fixture
def reader(tmp_path: Path) -> MediaReader:
    """Of forty pictures; every tenth is none."""
    files = {}
    for number in range(40):
        path = tmp_path / str(number)
        path.write_bytes(b"no picture" if number % 10 == 9 else picture(number))
        files[f"{number}.png"] = path
    return MediaReader(Tree("photos.zip", files), Place(Problems(), tmp_path), "image")


@pytest.mark.parametrize("large", [1 << 20, 0], ids=["side by side", "each by itself"])
def test_they_come_in_their_order_with_what_they_were_wanted_for(
    reader: MediaReader, large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "LARGE_FILE", large)
    found = list(reader.each((number, f"{number}.png", None) for number in range(40)))
    assert [number for number, _ in found] == list(range(40))
    for number, row in found:
        assert (row is None) == (number % 10 == 9)
        if row is not None:
            assert row == {"bytes": picture(number), "path": f"{number}.png", "size": (8, 8)}
    reader.close()
    told = [each["file"] for each in reader.place.problems.as_json()]
    assert told == ["9.png", "19.png", "29.png", "39.png"]
    assert (reader.kept, reader.left_out.count) == (36, 4)


def test_no_more_than_a_few_are_read_ahead(reader: MediaReader) -> None:
    asked = 0

    def wanted() -> Iterator[tuple[int, str, None]]:
        nonlocal asked
        for number in range(40):
            asked += 1
            yield number, f"{number}.png", None

    ahead = 2 * min(media.MOST_THREADS, os.cpu_count() or 1) + 1
    for number, _ in reader.each(wanted()):
        assert asked - number <= ahead


def test_one_who_stops_in_the_middle_leaves_no_thread(reader: MediaReader) -> None:
    rows = reader.each((number, f"{number}.png", None) for number in range(40))
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    assert not [each for each in threading.enumerate() if each.name.startswith("media")]
