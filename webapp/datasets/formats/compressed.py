"""One compressed file (gzip, zstd): unpacked into the scratch folder within limits, and read as what is inside.

`reviews.csv.gz` is a CSV to everything that looks at its name. What is really inflated counts against the limits,
not what the file says about itself.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePath

import pyarrow as pa

from webapp.datasets import formats
from webapp.datasets.formats.common import Format, Opened, Source
from webapp.datasets.problems import Problems, Refused

CODECS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
PACKED = (*CODECS, b"BZh", b"\xfd7zXZ")
CHUNK = 1 << 20
FREE_OF_RATIO = 64 << 20  # inflated bytes that harm nobody, however small the file is


class Compressed(Format):
    slug = "compressed"
    title = "one of these as gz or zst"
    extensions = (".gz", ".zst")

    def recognises(self, head: bytes, extension: str) -> float:
        return 1.0 if head.startswith(tuple(CODECS)) else 0.0

    def open(self, source: Source, problems: Problems) -> Opened:
        path = unpacked(source)
        with path.open("rb") as opened:
            head = opened.read(512)
        if head.startswith(PACKED):
            raise Refused(
                "nested_archive",
                "What is inside is compressed once more.",
                "Compress the file once, or upload it as it is.",
                file=source.name,
            )
        if head[257:262] == b"ustar":
            raise Refused(
                "not_a_table",
                "This is a tar archive, not a table.",
                "Unpack it and upload the file that is inside.",
                file=source.name,
            )
        name = PurePath(source.name)
        known = name.suffix.lower() in self.extensions
        inside = replace(source, path=path, unpacked_name=name.stem if known else source.name)
        inner = formats.recognise(inside, problems)
        opened_file = inner.open(inside, problems)
        opened_file.details["compression"] = _codec(source.path)
        return opened_file


def _codec(path: Path) -> str:
    with path.open("rb") as opened:
        head = opened.read(4)
    return next(codec for magic, codec in CODECS.items() if head.startswith(magic))


def unpacked(source: Source) -> Path:
    """The file without its compression; raises Refused where it is damaged or grows beyond the limits."""
    packed, limit = source.path.stat().st_size, inflation_limit(source)
    path = source.scratch / "unpacked"
    done = 0
    try:
        with (
            pa.OSFile(str(source.path)) as raw,
            pa.CompressedInputStream(raw, _codec(source.path)) as stream,
            path.open("wb") as target,
        ):
            while chunk := stream.read(CHUNK):
                done += len(chunk)
                if done > limit:
                    raise unpacks_too_large(source)
                target.write(chunk)
                source.progress(min(raw.tell(), packed), packed)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno == 28:
            raise
        raise Refused(
            "damaged",
            f"The file begins as {_codec(source.path)} but cannot be unpacked: it is cut off or damaged.",
            "Compress it again, or upload it as it is.",
            file=source.name,
        ) from error
    return path


def inflation_limit(source: Source) -> int:
    """Bytes that what is in a file may be once it is inflated."""
    packed = source.path.stat().st_size
    return min(max(FREE_OF_RATIO, packed * source.limits.archive_ratio), source.limits.archive_bytes)


def unpacks_too_large(source: Source) -> Refused:
    """What is said of a file that is more than that."""
    limits = source.limits
    if inflation_limit(source) < limits.archive_bytes:
        return Refused(
            "unpacks_too_large",
            f"Unpacked, the file grows to more than {limits.archive_ratio:,} times its size, as no table of examples does.",
            "Upload it as plain text, or ask the operator of this server to raise TUNEBOARD_ARCHIVE_MAX_RATIO.",
            file=source.name,
        )
    return Refused(
        "unpacks_too_large",
        f"Unpacked, the file is over the limit of {limits.archive_bytes / 1e9:,.1f} GB of this server.",
        "Upload it in parts, or ask the operator of this server to raise TUNEBOARD_ARCHIVE_MAX_BYTES.",
        file=source.name,
    )


FORMAT = Compressed()
