"""Objects of a bucket are read as they come: from any byte, through broken connections, and never whole."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError

from tests.webapp import test_storage
from tests.webapp.test_storage import FakeS3
from webapp import storage

bucket = test_storage.bucket
ROOT = Path(__file__).resolve().parents[2]
DATA = bytes(range(256)) * 20_000  # 5 MB
GET = """
import json, resource, sys
from pathlib import Path
import django
django.setup()
from webapp import storage
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
def read(key):
    with storage.open_file(key) as opened:
        while opened.read(1 << 18):
            pass
storage.get("small", Path(sys.argv[1]))
read("small")
before = peak()
storage.get("large", Path(sys.argv[1]))
read("large")
print(json.dumps([peak() - before, Path(sys.argv[1]).stat().st_size]))
"""


def test_a_file_of_any_size_takes_no_memory_and_no_temporary_file(bucket: FakeS3, tmp_path: Path) -> None:
    bucket.objects = {"prefix/small": b"x", "prefix/large": bytes(200_000_000)}
    nowhere = tmp_path / "no temporary files"
    nowhere.mkdir(mode=0o500)
    environment = {
        **os.environ,
        **bucket.environment,
        "DJANGO_SETTINGS_MODULE": "webapp.settings",
        "TUNEBOARD_HOME": str(tmp_path),
        "TMPDIR": str(nowhere),
    }
    done = subprocess.run(
        [sys.executable, "-c", GET, str(tmp_path / "copy")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    growth, size = json.loads(done.stdout)
    assert size == 200_000_000
    assert growth < 16e6
    assert list(nowhere.iterdir()) == []


def test_it_is_read_from_any_byte_to_any_other(bucket: FakeS3) -> None:
    bucket.objects = {"prefix/a": DATA}
    with storage.open_file("a") as opened:
        assert opened.seek(0, io.SEEK_END) == len(DATA) and opened.read() == b""
        assert opened.seek(-3, io.SEEK_END) == len(DATA) - 3 and opened.read() == DATA[-3:]
        opened.seek(1_000_001)
        assert opened.read(3_000_000) == DATA[1_000_001:4_000_001]
        assert opened.tell() == 4_000_001 and opened.seek(-1, io.SEEK_CUR) == 4_000_000
        assert opened.read() == DATA[4_000_000:]
        with pytest.raises(ValueError, match="negative"):
            opened.seek(-len(DATA) - 1, io.SEEK_END)


def test_reading_on_is_one_request(bucket: FakeS3) -> None:
    bucket.objects = {"prefix/a": DATA}
    with storage.open_file("a") as opened:
        assert b"".join(iter(lambda: opened.read(1000), b"")) == DATA
    assert [asked.split()[0] for asked in bucket.asked] == ["HEAD", "GET"]


def test_an_empty_file_is_empty(bucket: FakeS3) -> None:
    bucket.objects = {"prefix/a": b""}
    with storage.open_file("a") as opened:
        assert opened.read() == b""


def test_a_connection_that_breaks_is_taken_up_where_it_stopped(bucket: FakeS3, tmp_path: Path) -> None:
    bucket.objects = {"prefix/a": DATA}
    bucket.breaks_after = 1_500_000
    storage.get("a", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == DATA
    assert sum(asked.startswith("GET") for asked in bucket.asked) >= 4


def test_a_bucket_that_sends_nothing_more_is_an_error_and_no_short_file(
    bucket: FakeS3, tmp_path: Path
) -> None:
    bucket.objects = {"prefix/a": DATA}
    bucket.breaks_after = 0
    with pytest.raises((BotoCoreError, OSError)):
        storage.get("a", tmp_path / "copy")
    assert sum(asked.startswith("GET") for asked in bucket.asked) == 3
    assert not (tmp_path / "copy").exists()
