"""A large upload leaves the page cache to others: what is on the disk is dropped as more comes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.webapp.uploads.conftest import Tus
from webapp import storage
from webapp.uploads import digests, pages
from webapp.uploads import folder as folders
from webapp.uploads.digests import Following
from webapp.uploads.folder import Folder
from webapp.uploads.models import Upload

PIECE = os.urandom(1 << 16)
KEPT, BEHIND, COUNT = 4 * len(PIECE), 2 * len(PIECE), 20


class Disk:
    """What the kernel was told, in its order: how much is on the disk, what was dropped."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.synced = 0
        self.dropped: list[tuple[int, int]] = []  # (begin, end)
        sync = os.fdatasync

        def fdatasync(descriptor: int) -> None:
            size = os.fstat(descriptor).st_size
            sync(descriptor)
            self.synced = size

        def posix_fadvise(descriptor: int, offset: int, size: int, advice: int) -> None:
            assert advice == os.POSIX_FADV_DONTNEED
            self.dropped.append((offset, offset + size))

        monkeypatch.setattr(os, "fdatasync", fdatasync)
        monkeypatch.setattr(os, "posix_fadvise", posix_fadvise)
        monkeypatch.setattr(pages, "KEPT_BYTES", KEPT)
        monkeypatch.setattr(pages, "EACH", 1)
        monkeypatch.setattr(folders, "SYNC_BYTES", 1)
        monkeypatch.setattr(folders, "MOST_BEHIND", BEHIND)

    def is_one_stretch(self) -> bool:
        ends = [KEPT, *(end for _, end in self.dropped)]
        return [begin for begin, _ in self.dropped] == ends[:-1] and ends == sorted(ends)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def write(upload: Upload, disk: Disk, start: int, count: int) -> None:
    writer = Folder().writer(upload, start)
    for _ in range(count):
        writer.append(PIECE)
        writer._syncing.join()  # type: ignore[attr-defined]
        assert not disk.dropped or disk.dropped[-1][1] <= disk.synced - BEHIND
    assert writer.close() == start + count * len(PIECE)


def test_all_but_the_beginning_and_what_its_digest_may_want_is_dropped_once_on_the_disk(
    folder: Path, tus: Tus, disk: Disk
) -> None:
    tus.announce(COUNT * len(PIECE))
    upload = Upload.objects.get()
    write(upload, disk, 0, COUNT // 2)
    assert disk.is_one_stretch() and disk.dropped[-1][1] == COUNT // 2 * len(PIECE) - BEHIND
    disk.dropped.clear()
    write(upload, disk, COUNT // 2 * len(PIECE), COUNT // 2)  # the next request
    assert disk.dropped[0][0] == COUNT // 2 * len(PIECE)
    assert disk.dropped[-1][1] == COUNT * len(PIECE) - BEHIND
    assert storage.existing_path(upload.key).read_bytes() == COUNT * PIECE


def test_a_small_one_stays(folder: Path, tus: Tus, disk: Disk) -> None:
    tus.announce(KEPT)
    write(Upload.objects.get(), disk, 0, 4)
    assert not disk.dropped


def test_what_is_read_again_to_be_counted_is_dropped_behind(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digests, "PIECE", len(PIECE))
    path = tmp_path / "data"
    path.write_bytes(COUNT * PIECE)
    following = Following(path, COUNT * len(PIECE))
    assert following.end(COUNT * len(PIECE))
    following.hexdigest()
    assert disk.is_one_stretch() and disk.dropped[-1][1] == COUNT * len(PIECE)
    assert len(disk.dropped) == COUNT - 4


def test_a_kernel_that_takes_no_advice_is_no_reason_to_fail(
    folder: Path, tus: Tus, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: int) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    tus.announce(COUNT * len(PIECE))
    write(Upload.objects.get(), disk, 0, COUNT)
