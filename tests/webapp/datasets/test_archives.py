"""Archives are unpacked, or refused with a sentence; whatever they say, nothing is written beside the scratch folder."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import tracemalloc
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.webapp.datasets.packing import picture, tarred, zipped
from webapp.datasets.archives import is_archive, unpack
from webapp.datasets.limits import Limits
from webapp.datasets.problems import Problem, Problems, Refused

CSV = b"text,label\n" + b"".join(f"sentence number {n},{'ab'[n % 2]}\n".encode() for n in range(30))


def refusal(convert: Any, name: str, data: bytes, **options: Any) -> Problem:
    with pytest.raises(Refused) as caught:
        convert((name, data), **options)
    return caught.value.problem


def link(kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    member = tarfile.TarInfo("train.csv")
    member.type, member.linkname = kind, target
    return member


def symlinked() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        entry = zipfile.ZipInfo("train.csv")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/passwd")
    return target.getvalue()


def patched(data: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    """The bytes at an offset of every record of this signature, changed."""
    found, place = bytearray(data), data.find(signature)
    while place >= 0:
        found[place + offset : place + offset + len(value)] = value
        place = data.find(signature, place + 1)
    return bytes(found)


def encrypted() -> bytes:
    data = patched(zipped({"a.csv": CSV}), b"PK\x01\x02", 8, b"\x01\x00")
    return patched(data, b"PK\x03\x04", 6, b"\x01\x00")


def overlapping() -> bytes:
    """Two entries of the directory that lead to the same bytes, as the better zip bomb has thousands."""
    data = zipped({"a.csv": CSV, "b.csv": CSV})
    end = data.rfind(b"PK\x05\x06")
    second = data.find(b"PK\x01\x02", data.find(b"PK\x01\x02") + 1)
    changed = bytearray(data)
    changed[second + 42 : second + 46] = struct.pack("<L", 0)
    assert second < end
    return bytes(changed)


def lying(size: int) -> bytes:
    """An entry that says it is of this size."""
    data = patched(zipped({"a.csv": CSV}), b"PK\x01\x02", 24, struct.pack("<L", size))
    return patched(data, b"PK\x03\x04", 22, struct.pack("<L", size))


def swollen_header() -> bytes:
    """A tar whose header for one name is of many megabytes."""
    member = tarfile.TarInfo("a.csv")
    member.pax_headers = {"comment": "x" * (8 << 20)}
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member, io.BytesIO())
    return target.getvalue()


@dataclass
class Bad:
    what: str
    name: str
    data: bytes
    code: str
    says: str
    limits: dict[str, int] = field(default_factory=dict)


BOMB = {"a.csv": b"text,label\n" + b"x" * (65 << 20)}
REFUSED = [
    Bad("a path upwards", "a.zip", zipped({"../../evil.csv": CSV}), "unsafe_path", "“../../evil.csv” leads out"),
    Bad("a path upwards in the middle", "a.zip", zipped({"x/../../evil.csv": CSV}), "unsafe_path", "leads out"),
    Bad("an absolute path", "a.zip", zipped({"/etc/cron.d/evil.csv": CSV}), "unsafe_path", "leads out"),
    Bad("a path with backslashes", "a.zip", zipped({"..\\..\\evil.csv": CSV}), "unsafe_path", "leads out"),
    Bad("a drive", "a.zip", zipped({"C:\\evil.csv": CSV}), "unsafe_path", "leads out"),
    Bad("a path upwards in a tar", "a.tar.gz", tarred({"../evil.csv": CSV}), "unsafe_path", "leads out"),
    Bad("an absolute path in a tar", "a.tar", tarred({"/evil.csv": CSV}, "w:"), "unsafe_path", "leads out"),
    Bad("a symbolic link", "a.zip", symlinked(), "not_a_file", "“train.csv” is a link or a device"),
    Bad("a symbolic link in a tar", "a.tgz", tarred({}, "w:gz", link(tarfile.SYMTYPE)), "not_a_file", "a link"),
    Bad("a hard link in a tar", "a.tgz", tarred({}, "w:gz", link(tarfile.LNKTYPE)), "not_a_file", "a link"),
    Bad("a device in a tar", "a.tar", tarred({}, "w:", link(tarfile.CHRTYPE)), "not_a_file", "a device"),
    Bad("a pipe in a tar", "a.tar", tarred({}, "w:", link(tarfile.FIFOTYPE)), "not_a_file", "a device"),
    Bad("a password", "a.zip", encrypted(), "encrypted", "encrypted with a password"),
    Bad("an archive in the archive", "a.zip", zipped({"b.zip": zipped({"a.csv": CSV})}), "nested_archive", "“b.zip”"),
    Bad("a tar in the archive", "a.zip", zipped({"b": tarred({"a.csv": CSV}, "w:")}), "nested_archive", "“b”"),
    Bad("a tar.gz in the archive", "a.tar", tarred({"b.tgz": tarred({"a.csv": CSV})}, "w:"), "nested_archive", "b.tgz"),
    Bad("entries that overlap", "a.zip", overlapping(), "bomb", "overlap"),
    Bad("a size that is too small", "a.zip", lying(5), "damaged", "“a.csv”"),
    Bad("a size that is too large", "a.zip", lying(5_000_000), "damaged", "“a.csv”"),
    Bad("a size beyond the limit", "a.zip", lying(0xF0000000), "too_large", "over the limit", {"archive_bytes": 1 << 30}),
    Bad("a bomb", "a.zip", zipped(BOMB), "bomb", "more than 200 times"),
    Bad("a bomb in a tar", "a.tgz", tarred(BOMB), "bomb", "more than 200 times"),
    Bad("a header of megabytes", "a.tgz", swollen_header(), "bomb", "headers of many megabytes"),
    Bad("too much", "a.zip", zipped({"a.csv": CSV * 9}), "too_large", "over the limit", {"archive_bytes": 5_000}),
    Bad("too much in a tar", "a.tgz", tarred({"a.csv": CSV * 9}), "too_large", "over the limit", {"archive_bytes": 5_000}),
    Bad("200,000 entries", "a.zip", zipped({f"{n}": b"" for n in range(200_001)}, 0), "too_many_files", "more than 200,000"),
    Bad("too many files in a tar", "a.tgz", tarred({f"{n}.csv": CSV for n in range(9)}), "too_many_files", "more than 8", {"archive_files": 8}),
    Bad("folders in folders", "a.zip", zipped({"d/" * 40 + "a.csv": CSV}), "too_deep", "more than 16 folders"),
    Bad("a name of 300 bytes", "a.zip", zipped({"n" * 300 + ".csv": CSV}), "long_name", "more than 255 bytes"),
    Bad("half a zip", "a.zip", zipped({"a.csv": CSV * 50, "b.csv": CSV})[:300], "damaged", "cut off or damaged"),
    Bad("a zip with a broken entry", "a.zip", (lambda d: d[:60] + bytes(40) + d[100:])(zipped({"a.csv": CSV})), "damaged", "“a.csv”"),
    Bad("half a tar.gz", "a.tgz", tarred({"a.csv": bytes(range(256)) * 500})[:-300], "damaged", "cut off or damaged"),
    Bad("half a tar", "a.tar", tarred({"a.csv": CSV * 50}, "w:")[:20_000], "damaged", "cut off or damaged"),
    Bad("a tar with a broken header", "a.tar", (lambda d: d[:1536] + b"?" * 512 + d[2048:])(tarred({"a.csv": CSV, "b.csv": CSV}, "w:")), "damaged", "damaged"),
    Bad("a method that is not read here", "a.zip", zipped({"a.csv": CSV}, zipfile.ZIP_LZMA), "packing", "method (14)"),
    Bad("nothing", "a.zip", zipped({}), "empty", "holds no files"),
    Bad("nothing but hidden files", "a.zip", zipped({"__MACOSX/a.csv": CSV, ".DS_Store": b"x"}), "empty", "no files"),
    Bad("nothing that is known", "a.zip", zipped({"a.exe": b"MZ", "b.dll": b"MZ"}), "unknown_layout", "1 × .exe"),
]  # fmt: skip


@pytest.mark.parametrize("bad", REFUSED, ids=lambda bad: bad.what)
def test_an_archive_that_cannot_be_used_gets_its_sentence(bad: Bad, convert: Any, tmp_path: Path) -> None:
    problem = refusal(convert, bad.name, bad.data, limits=bad.limits)
    assert problem.code == bad.code, problem
    assert bad.says in problem.message, problem
    assert problem.hint and problem.file
    places = {path.relative_to(tmp_path).parts[1] for path in tmp_path.rglob("*") if path.is_file()}
    assert places <= {"in", "scratch"}
    assert not list(tmp_path.rglob("evil*"))


def test_memory_is_bounded_whatever_is_unpacked(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped({"a.csv": bytes(60 << 20)}))
    folder = tmp_path / "tree"
    folder.mkdir()
    tracemalloc.start()
    unpack(archive, "a.zip", folder, Limits(), Problems())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize(
    "pack", [zipped, tarred, lambda files: tarred(files, "w:")], ids=["zip", "tar.gz", "tar"]
)
def test_tables_of_an_archive_are_read_as_several_files(pack: Any, convert: Any) -> None:
    files = {
        "data/README.md": b"# Reviews",
        "data/train/part-1.csv": CSV,
        "data/train/part-2.csv": CSV,
        "data/dev.csv": CSV,
        "data/test.csv": CSV,
        "__MACOSX/data/._dev.csv": b"\0\0",
        "data/.DS_Store": b"\0",
    }
    found = convert(("reviews", pack(files)))
    assert found.splits == {"train": 60, "validation": 30, "test": 30}
    assert [column["kind"] for column in found.columns] == ["text", "label"]
    assert found.problems == []


def test_a_problem_in_a_table_names_the_file_inside(convert: Any) -> None:
    problem = refusal(convert, "a.zip", zipped({"x/train.csv": CSV, "x/test.csv": b"text,label\n"}))
    assert (problem.code, problem.file) == ("header_only", "x/test.csv")


def test_names_in_other_alphabets_and_with_marks_are_read(convert: Any) -> None:
    """Written as UTF-8 without saying so, as CP437, with a direction mark, a newline, quotes, HTML."""
    names = ["Kätzchen", "小猫", "\u202egnp", "new\nline", "qu\"o'te", "<b>bold<b>"]
    data = zipped({f"{name}/{n}.png": picture(n) for name in names for n in range(3)})
    plain = patched(data, b"PK\x01\x02", 8, b"\x00\x00")  # the flag for UTF-8 taken away
    plain = patched(plain, b"PK\x03\x04", 6, b"\x00\x00")
    for each in (data, plain):
        column = convert(("cats.zip", each)).columns[1]
        assert column["names"] == sorted(["Kätzchen", "小猫", "gnp", "newline", "qu\"o'te", "<b>bold<b>"])


def test_a_file_that_is_packed_twice_counts_once(convert: Any) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w") as archive:
            archive.writestr("a.csv", b"text,label\nold,a\n" * 9)
            archive.writestr("a.csv", CSV)
    found = convert(("a.zip", target.getvalue()))
    assert found.rows == 30
    assert [problem["code"] for problem in found.problems] == ["duplicate_file"]


def test_a_table_that_is_packed_by_gzip_alone_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(CSV))
    assert not is_archive(path)
