"""Unpacks archives that strangers made: zip, tar and tar.gz.

Files are written under numbers of ours into one folder; what they are called inside the archive is kept beside them
and never used as a path. So no name can lead out of the folder, however it is written. Names that try to, links,
devices, archives in archives and entries that overlap are refused all the same: nobody makes them by accident.
What counts against the limits is what is really inflated, not what the archive says.
"""

from __future__ import annotations

import gzip
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from webapp.datasets.limits import Limits
from webapp.datasets.problems import Problems, Refused, shown

EXTENSIONS = (".zip", ".tar", ".tgz", ".tar.gz")
CHUNK = 1 << 20
FREE_OF_RATIO = 64 << 20  # inflated bytes that harm nobody, however small the archive is
HEADER_BYTES = 4 << 20  # of a tar, between two files; more is made to fill the memory
A_FOLDER = 1000  # files of ours in one folder
IGNORED_FOLDERS = {"__macosx"}
IGNORED_FILES = {"thumbs.db", "desktop.ini"}
WORKBOOK = b"[Content_Types].xml"  # in every .xlsx: a zip, but no archive to the one who made it
ENCRYPTED, UTF8 = 0x1, 0x800  # flags of a zip's entry
PACKED = (
    (b"PK\x03\x04", (".xlsx", ".xlsm")),
    (b"7z\xbc\xaf\x27\x1c", ()),
    (b"Rar!\x1a\x07", ()),
)


DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError, struct.error)


@dataclass
class Tree:
    """The files of an archive: {path inside, with slashes: where it stands on our disk}."""

    name: str  # of the archive, as its owner calls it
    files: dict[str, Path] = field(default_factory=dict)


def is_archive(path: Path) -> bool:
    """Whether a file is one of those that `unpack` reads: by its bytes, not its name."""
    with path.open("rb") as opened:
        head = opened.read(512)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return not _is_workbook(path)
    if head.startswith(b"\x1f\x8b"):
        try:
            with gzip.open(path) as unpacked:
                return _is_tar(unpacked.read(512))
        except (OSError, EOFError, zlib.error):
            return False
    return _is_tar(head)


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"


def _is_workbook(path: Path) -> bool:
    """Its list of contents is the first entry or the last, and its name stands in the directory at the end."""
    with path.open("rb") as opened:
        head = opened.read(1 << 12)
        opened.seek(max(0, opened.seek(0, 2) - (1 << 16)))
        return WORKBOOK in head or WORKBOOK in opened.read()


def unpack(path: Path, name: str, folder: Path, limits: Limits, problems: Problems) -> Tree:
    """Write the files of an archive below `folder`; raises Refused, with the entry where there is one."""
    tree = Tree(name)
    keeper = _Keeper(tree, folder, path.stat().st_size, limits, problems)
    try:
        with path.open("rb") as opened:
            zipped = opened.read(2) == b"PK"
        (_unpack_zip if zipped else _unpack_tar)(path, keeper)
    except DAMAGE as error:
        raise Refused(
            "damaged",
            "The archive cannot be unpacked: it is cut off or damaged.",
            "Pack it again, or upload it once more: it may have been sent while it was still being written.",
            file=name,
        ) from error
    if not tree.files:
        raise Refused("empty", "The archive holds no files.", "Pack the files of your examples.", file=name)
    tree.files = dict(sorted(tree.files.items()))
    return tree


class _Keeper:
    """Counts what comes out of an archive, checks names, and writes files."""

    def __init__(self, tree: Tree, folder: Path, packed: int, limits: Limits, problems: Problems) -> None:
        self.tree, self.folder, self.packed = tree, folder, packed
        self.limits, self.problems = limits, problems
        self.entries = self.inflated = 0

    def refuse(self, code: str, message: str, hint: str) -> Refused:
        return Refused(code, message, hint, file=self.tree.name)

    def count_entry(self) -> None:
        self.entries += 1
        if self.entries > self.limits.archive_files:
            raise self.too_many()

    def too_many(self) -> Refused:
        return self.refuse(
            "too_many_files",
            f"The archive holds more than {self.limits.archive_files:,} files and folders.",
            "Upload fewer at a time, or write them into Parquet files.",
        )

    def count_bytes(self, count: int) -> None:
        self.inflated += count
        if self.inflated > self.limits.archive_bytes:
            raise self.too_large()
        if self.inflated > FREE_OF_RATIO and self.inflated > self.packed * self.limits.archive_ratio:
            raise self.refuse(
                "bomb",
                f"Unpacked, the archive is more than {self.limits.archive_ratio} times as large as it is packed; "
                "no examples pack that well.",
                "If it is what you mean, upload the files without packing them.",
            )

    def too_large(self) -> Refused:
        gigabytes = self.limits.archive_bytes / (1 << 30)
        return self.refuse(
            "too_large",
            f"Unpacked, the archive is over the limit of {gigabytes:,.3g} GB.",
            "Upload less at a time.",
        )

    def path_of(self, raw: str) -> str:
        """The path inside, cleaned; empty for what is passed over. Raises Refused for one that leads elsewhere."""
        path = raw.replace("\\", "/")
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if path.startswith("/") or path[1:2] == ":" or ".." in parts:
            raise self.refuse(
                "unsafe_path",
                f"{shown(raw)} leads out of the archive's folder.",
                "Pack the files by paths below one folder, without “..” and without a drive.",
            )
        if len(parts) > self.limits.archive_depth + 1:
            raise self.refuse(
                "too_deep",
                f"{shown(raw)} lies in more than {self.limits.archive_depth} folders.",
                "Pack a folder that lies nearer to the files.",
            )
        if any(len(part.encode(errors="replace")) > self.limits.archive_name_bytes for part in parts):
            raise self.refuse(
                "long_name",
                f"{shown(raw)} has a name of more than {self.limits.archive_name_bytes} bytes.",
                "Rename it and pack again.",
            )
        if any(part.startswith(".") or part.lower() in IGNORED_FOLDERS for part in parts):
            return ""
        if not parts or parts[-1].lower() in IGNORED_FILES:
            return ""
        # Control characters and direction marks would make a name look like another one.
        clean = ("".join(c for c in part if c.isprintable()).strip() for part in parts)
        return "/".join(part or "unnamed" for part in clean)

    def keep(self, path: str, source: IO[bytes], size: int) -> None:
        """Write one file; `size` is what the archive says of it."""
        target = self.folder / str(len(self.tree.files) // A_FOLDER) / str(len(self.tree.files))
        if path in self.tree.files:
            self.problems.warn(
                "duplicate_file",
                f"{shown(path)} is in the archive more than once; the last one counts.",
                file=self.tree.name,
            )
            target = self.tree.files[path]
        target.parent.mkdir(parents=True, exist_ok=True)
        written = 0
        with target.open("wb") as file:
            while chunk := source.read(CHUNK):
                if not written:
                    self._refuse_archive(path, chunk)
                written += len(chunk)
                self.count_bytes(len(chunk))
                file.write(chunk)
        if written != size:
            raise self.refuse(
                "damaged",
                f"{shown(path)} has {written:,} bytes, and {size:,} by what the archive says.",
                "Pack it again.",
            )
        self.tree.files[path] = target

    def _refuse_archive(self, path: str, head: bytes) -> None:
        suffix = Path(path).suffix.lower()
        nested = any(head.startswith(magic) and suffix not in fine for magic, fine in PACKED)
        if nested or _is_tar(head[:512]) or path.lower().endswith((".tar.gz", ".tgz")):
            raise self.refuse(
                "nested_archive",
                f"{shown(path)} is an archive in the archive.",
                "Unpack it, and pack all files into one archive.",
            )


# -- zip ---------------------------------------------------------------------------------------------


def _unpack_zip(path: Path, keeper: _Keeper) -> None:
    for number, _ in enumerate(_zip_entries(path), start=1):  # before zipfile holds all of them in memory
        if number > keeper.limits.archive_files:
            raise keeper.too_many()
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.header_offset < 0 for entry in entries):
            raise zipfile.BadZipFile("An entry is said to stand before the file.")
        _refuse_overlaps(entries, archive.start_dir, keeper)
        declared = sum(entry.file_size for entry in entries)
        if declared > keeper.limits.archive_bytes:
            raise keeper.too_large()
        _check_disk(declared, keeper)
        for entry in entries:
            keeper.count_entry()
            mode = entry.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _not_a_file(entry.filename, keeper)
            inside = keeper.path_of(_zip_name(entry))
            if not inside or entry.is_dir():
                continue
            _check_packing(entry, inside, keeper)
            try:
                with archive.open(entry) as source:
                    keeper.keep(inside, source, entry.file_size)
            except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                raise keeper.refuse(
                    "damaged", f"{shown(inside)} cannot be unpacked: it is damaged.", "Pack it again."
                ) from error


def _zip_entries(path: Path) -> Iterator[None]:
    """One for each entry of the central directory (APPNOTE.TXT 4.3.12), read piece by piece."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        tail_at = max(0, size - (1 << 16) - 22)
        file.seek(tail_at)
        tail = file.read()
        found = tail.rfind(b"PK\x05\x06")
        if found < 0:
            raise zipfile.BadZipFile
        end = tail_at + found
        length = struct.unpack_from("<L", tail, found + 12)[0]
        if end >= 76:
            file.seek(end - 76)
            record = file.read(76)  # of zip64, with its locator: where zipfile looks for it
            if record[56:60] == b"PK\x06\x07" and record[:4] == b"PK\x06\x06":
                end, length = end - 76, struct.unpack_from("<Q", record, 40)[0]
        if length > end:
            raise zipfile.BadZipFile
        file.seek(end - length)
        left = length
        while left >= 46:
            header = file.read(46)
            if header[:4] != b"PK\x01\x02":
                raise zipfile.BadZipFile
            more = sum(struct.unpack_from("<3H", header, 28))
            file.seek(more, 1)
            left -= 46 + more
            yield


def _refuse_overlaps(entries: list[zipfile.ZipInfo], directory: int, keeper: _Keeper) -> None:
    """Entries that share bytes: how a few megabytes become terabytes (bamsoftware.com/hacks/zipbomb)."""
    places = sorted((entry.header_offset, 30 + entry.compress_size) for entry in entries)
    ends = [*(start for start, _ in places[1:]), directory][: len(places)]
    if any(start + length > end for (start, length), end in zip(places, ends, strict=True)):
        raise keeper.refuse(
            "bomb", "Entries of the archive overlap, as they do in zip bombs.", "Pack the files again."
        )


def _zip_name(entry: zipfile.ZipInfo) -> str:
    """zipfile reads names without the flag for UTF-8 as CP437; many programs write UTF-8 without it."""
    if entry.flag_bits & UTF8:
        return entry.orig_filename
    try:
        return entry.orig_filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return entry.orig_filename


def _check_packing(entry: zipfile.ZipInfo, inside: str, keeper: _Keeper) -> None:
    if entry.flag_bits & ENCRYPTED:
        raise keeper.refuse(
            "encrypted", f"{shown(inside)} is encrypted with a password.", "Pack it without a password."
        )
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise keeper.refuse(
            "packing",
            f"{shown(inside)} is packed by a method ({entry.compress_type}) that cannot be read here.",
            "Pack it with the ordinary method (Deflate), as `zip -r` does.",
        )


def _not_a_file(name: str, keeper: _Keeper) -> Refused:
    return keeper.refuse(
        "not_a_file",
        f"{shown(name)} is a link or a device, not a file.",
        "Pack the files themselves (for links: `zip -r` without -y, `tar -h`).",
    )


def _check_disk(size: int, keeper: _Keeper) -> None:
    if shutil.disk_usage(keeper.folder).free < size:
        raise keeper.refuse(
            "disk_full",
            "The server has not enough free disk space to unpack this archive.",
            "Ask its operator.",
        )


# -- tar ---------------------------------------------------------------------------------------------


class _Metered:
    """What tarfile reads from: counts, and bounds what it takes for the headers between two files."""

    def __init__(self, source: IO[bytes], keeper: _Keeper) -> None:
        self.source, self.keeper, self.header_left = source, keeper, HEADER_BYTES

    def read(self, size: int) -> bytes:
        data = self.source.read(min(size, CHUNK))
        self.header_left -= len(data)
        if self.header_left < 0:
            raise self.keeper.refuse(
                "bomb", "The archive has headers of many megabytes, which no archive needs.", "Pack it again."
            )
        return data


class _Member(tarfile.TarInfo):
    """tarfile takes a damaged header in the middle for the end, and goes round in circles for a negative size."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except (tarfile.InvalidHeaderError, tarfile.TruncatedHeaderError) as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError(str(error)) from error

    def _block(self, count: int) -> int:
        if count < 0:
            raise tarfile.ReadError("negative size")
        blocks: int = super()._block(count)  # type: ignore[misc]
        return blocks


def _unpack_tar(path: Path, keeper: _Keeper) -> None:
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        source: IO[bytes] = gzip.GzipFile(fileobj=file) if zipped else file  # type: ignore[assignment]
        meter = _Metered(source, keeper)
        # As a stream: nothing is looked for further back or ahead, and memory holds one header.
        with tarfile.open(fileobj=meter, mode="r|", tarinfo=_Member, errors="surrogateescape") as archive:  # type: ignore[call-overload]
            while (member := archive.next()) is not None:
                archive.members.clear()  # it would remember each
                keeper.count_entry()
                _keep_member(archive, member, meter, keeper)
                meter.header_left = HEADER_BYTES


def _keep_member(archive: tarfile.TarFile, member: tarfile.TarInfo, meter: _Metered, keeper: _Keeper) -> None:
    name = member.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if not (member.isreg() or member.isdir()) or member.issparse():
        raise _not_a_file(name, keeper)
    inside = keeper.path_of(name)
    if member.isdir():
        return
    meter.header_left = member.size + HEADER_BYTES
    if keeper.inflated + member.size > keeper.limits.archive_bytes:
        raise keeper.too_large()
    _check_disk(member.size, keeper)
    source = archive.extractfile(member)
    assert source is not None
    with source:
        if inside:
            keeper.keep(inside, source, member.size)
        else:
            while chunk := source.read(CHUNK):
                keeper.count_bytes(len(chunk))
