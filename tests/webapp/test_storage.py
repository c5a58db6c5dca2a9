"""Files by key, in a folder or a bucket: there whole or not at all, and never outside."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest
from django.core.exceptions import SuspiciousFileOperation, SuspiciousOperation

from webapp import storage
from webapp.settings import storage_backend

BUCKET = "our-bucket"


class FakeS3:
    """The few requests of S3 that storage makes, answered on loopback; objects in a dictionary."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.breaks_after: int | None = None  # bytes of an answer, then the connection is cut
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def key(self) -> str:
                bucket.asked.append(f"{self.command} {self.path}")
                return unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}").lstrip("/")

            def answer(self, status: int, body: bytes = b"", length: int | None = None) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body) if length is None else length))
                self.send_header("ETag", '"0"')
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def do_PUT(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                bucket.objects[self.key()] = _plain(data) if _in_chunks(self.headers) else data
                self.answer(200)

            def do_HEAD(self) -> None:
                data = bucket.objects.get(self.key())
                self.answer(404) if data is None else self.answer(200, length=len(data))

            def do_GET(self) -> None:
                key = self.key()
                query = parse_qs(urlsplit(self.path).query)
                if not key:
                    prefix = query.get("prefix", [""])[0]
                    self.answer(
                        200,
                        bucket.listing(prefix) if "delimiter" in query else bucket.all_below(prefix, query),
                    )
                elif key in bucket.objects:
                    self.part(bucket.objects[key])
                else:
                    self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

            def part(self, data: bytes) -> None:
                """The bytes from `Range` on, as far as `breaks_after` lets them come."""
                span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
                start, end = (int(span[1]), int(span[2] or len(data) - 1)) if span else (0, len(data) - 1)
                self.send_response(206 if span else 200)
                self.send_header("Content-Range", f"bytes {start}-{end}/{len(data)}")
                self.send_header("Content-Length", str(end - start + 1))
                self.send_header("ETag", '"0"')
                self.end_headers()
                sent = memoryview(data)[start : end + 1]
                if bucket.breaks_after is None:
                    self.wfile.write(sent)
                else:
                    self.wfile.write(sent[: bucket.breaks_after])
                    self.close_connection = True

            def do_DELETE(self) -> None:
                bucket.objects.pop(self.key(), None)
                self.answer(204)

            def log_message(self, *_: object) -> None:
                """Silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def environment(self) -> dict[str, str]:
        """Of a Tuneboard that keeps its files here, below `prefix/`."""
        return {
            "STORAGE_URL": f"s3://{BUCKET}/prefix",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.server.server_address[1]}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def listing(self, prefix: str) -> bytes:
        """What lies right below a prefix, files and folders."""
        below = {key.removeprefix(prefix) for key in self.objects if key.startswith(prefix)}
        files = "".join(
            f"<Contents><Key>{escape(prefix + k)}</Key></Contents>" for k in below if "/" not in k
        )
        folders = {k.split("/")[0] for k in below if "/" in k}
        common = "".join(
            f"<CommonPrefixes><Prefix>{escape(prefix + k)}/</Prefix></CommonPrefixes>" for k in folders
        )
        return f"<ListBucketResult>{files}{common}</ListBucketResult>".encode()

    def all_below(self, prefix: str, query: dict[str, list[str]]) -> bytes:
        """Keys below a prefix with sizes and times, two an answer."""
        after = query.get("marker", query.get("start-after", query.get("continuation-token", [""])))[0]
        keys = sorted(k for k in self.objects if k.startswith(prefix) and k > after)
        files = "".join(
            f"<Contents><Key>{escape(k)}</Key><Size>{len(self.objects[k])}</Size>"
            "<LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>"
            for k in keys[:2]
        )
        more = len(keys) > 2
        following = f"<NextMarker>{escape(keys[1])}</NextMarker>" if more else ""
        cut = f"<IsTruncated>{str(more).lower()}</IsTruncated>{following}"
        return f"<ListBucketResult>{cut}{files}</ListBucketResult>".encode()


def _in_chunks(headers: Any) -> bool:
    return "aws-chunked" in headers.get("Content-Encoding", "")


def _plain(data: bytes) -> bytes:
    """A body that was sent in signed chunks, each after its length."""
    plain = b""
    while data:
        head, _, data = data.partition(b"\r\n")
        size = int(head.split(b";")[0], 16)
        if size == 0:
            break
        plain, data = plain + data[:size], data[size + 2 :]
    return plain


@pytest.fixture
def folder(settings: Any, tmp_path: Path) -> Path:
    """Storage in an empty folder; returns it."""
    kept = tmp_path / "storage"
    settings.STORAGES = {**settings.STORAGES, "default": storage_backend(str(kept))}
    return kept


@pytest.fixture
def bucket(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeS3]:
    """Storage in `prefix` of an empty bucket."""
    running = FakeS3()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{running.server.server_address[1]}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    settings.STORAGES = {**settings.STORAGES, "default": storage_backend(f"s3://{BUCKET}/prefix")}
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture(params=["folder", "bucket"])
def anywhere(request: pytest.FixtureRequest) -> str:
    """Both kinds of storage, one after the other."""
    request.getfixturevalue(request.param)
    return str(request.param)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"weights" * 1000)
    return path


def read(key: str) -> bytes:
    with storage.open_file(key) as opened:
        return opened.read()


# -- both kinds ----------------------------------------------------------------------------------
def test_what_is_put_comes_back(anywhere: str, source: Path, tmp_path: Path) -> None:
    key = "runs/7/artifacts/attempt-1/Modell für Ü.safetensors"
    assert not storage.exists(key)
    storage.put(source, key)
    assert storage.exists(key) and source.exists()
    storage.get(key, tmp_path / "new" / "copy")
    assert (tmp_path / "new" / "copy").read_bytes() == source.read_bytes()
    assert (storage.local_path(key) is None) == (anywhere == "bucket")


def test_a_stored_file_can_be_read_from_the_middle(anywhere: str, source: Path) -> None:
    storage.put(source, "a")
    with storage.open_file("a") as opened:
        opened.seek(7 * 999)
        assert opened.read() == b"weights"


def test_putting_again_replaces_and_a_move_takes_the_source(anywhere: str, source: Path) -> None:
    storage.put(source, "a/b")
    source.write_bytes(b"newer")
    storage.put(source, "a/b", move=True)
    assert read("a/b") == b"newer" and not source.exists()
    assert list(storage.keys_under("a")) == ["a/b"]


def test_what_is_not_there_says_so(anywhere: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        storage.get("nothing/here", tmp_path / "copy")
    assert list(storage.keys_under("nothing")) == []
    storage.delete_under("nothing")


def test_keys_below_a_prefix_are_listed_in_order_and_deleted_without_neighbours(
    anywhere: str, source: Path
) -> None:
    for key in ("runs/1/b", "runs/1/a", "runs/1/sub/c", "runs/10/a", "other"):
        storage.put(source, key)
    assert list(storage.keys_under("runs/1")) == ["runs/1/a", "runs/1/b", "runs/1/sub/c"]
    storage.delete_under("runs/1")
    assert list(storage.keys_under("runs")) == ["runs/10/a"]
    assert storage.exists("other")


def test_a_listing_tells_sizes_and_times_of_everything_below(anywhere: str, source: Path) -> None:
    for key in ("runs/1/b", "runs/1/sub/c", "runs/1/a", "runs/10/a", "other"):
        storage.put(source, key)
    found = list(storage.listing("runs/1"))
    assert sorted(file.key for file in found) == ["runs/1/a", "runs/1/b", "runs/1/sub/c"]
    assert {file.size for file in found} == {7000}
    assert all(file.changed_at.tzinfo is not None for file in found)
    everything = {file.key for file in storage.listing()}
    assert everything == {"runs/1/b", "runs/1/sub/c", "runs/1/a", "runs/10/a", "other"}
    assert list(storage.listing("nothing")) == []


def test_one_file_is_deleted_and_empty_folders_only_when_told(anywhere: str, source: Path) -> None:
    for key in ("runs/1/a/x", "runs/1/b"):
        storage.put(source, key)
    storage.delete_file("runs/1/a/x")
    storage.delete_file("runs/1/a/x")
    assert [file.key for file in storage.listing()] == ["runs/1/b"]
    folder = storage.local_path("runs/1")
    assert folder is None or sorted(path.name for path in folder.iterdir()) == ["a", "b"]
    storage.delete_empty_folders("runs/1")
    assert folder is None or [path.name for path in folder.iterdir()] == ["b"]
    assert [file.key for file in storage.listing()] == ["runs/1/b"]


def test_the_listing_shows_files_that_are_being_written_and_when_a_moved_one_came(
    folder: Path, source: Path
) -> None:
    os.utime(source, (0, 0))
    storage.put(source, "runs/1/a", move=True)
    (folder / "runs/1/.a.0123.partial").write_text("half")
    found = {file.key: file for file in storage.listing()}
    assert set(found) == {"runs/1/a", "runs/1/.a.0123.partial"}
    assert time.time() - found["runs/1/a"].changed_at.timestamp() < 600


def test_a_folder_that_goes_while_it_is_listed_is_left_out(folder: Path, source: Path) -> None:
    for key in ("runs/1/a", "runs/2/a", "runs/3/a"):
        storage.put(source, key)
    listed = storage.listing("runs")
    assert next(listed).key == "runs/1/a"
    shutil.rmtree(folder / "runs/2")
    assert [file.key for file in listed] == ["runs/3/a"]


def test_free_space_is_that_of_a_folder(folder: Path) -> None:
    found = storage.free_space()
    assert found is not None and 0 < found[0] <= found[1]


def test_a_bucket_has_no_end(bucket: FakeS3) -> None:
    assert storage.free_space() is None


@pytest.mark.parametrize("prefix", ["", "/", "//", ".", "./", "runs/..", "/runs/../."])
def test_the_whole_storage_is_never_deleted(prefix: str, anywhere: str, source: Path) -> None:
    storage.put(source, "runs/1/a")
    with pytest.raises(ValueError, match="refusing to delete the whole storage"):
        storage.delete_under(prefix)
    assert storage.exists("runs/1/a")


@pytest.mark.parametrize("key", ["../outside", "runs/../../outside"])
def test_keys_that_lead_out_are_refused(key: str, anywhere: str, source: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("not ours to show")
    for attempt in (
        lambda: storage.put(source, key),
        lambda: storage.open_file(key),
        lambda: storage.get(key, tmp_path / "copy"),
        lambda: list(storage.keys_under(key)),
        lambda: storage.delete_under(key),
    ):
        with pytest.raises(SuspiciousOperation):
            attempt()
    assert (tmp_path / "outside").read_text() == "not ours to show"
    assert not (tmp_path / "copy").exists()


# -- a folder ------------------------------------------------------------------------------------
@pytest.mark.parametrize("key", ["/etc/passwd", "../outside"])
def test_no_path_leaves_the_folder(key: str, folder: Path) -> None:
    with pytest.raises(SuspiciousFileOperation):
        storage.local_path(key)
    with pytest.raises(SuspiciousFileOperation):
        storage.exists(key)


def test_a_copy_that_fails_leaves_what_was_there(
    folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put(source, "a/weights")
    before = read("a/weights")

    def full(start: IO[bytes], end: IO[bytes], size: int) -> None:
        end.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left"):
        storage.put(source, "a/weights")
    assert read("a/weights") == before
    assert [path.name for path in (folder / "a").iterdir()] == ["weights"]


def test_a_reader_never_sees_a_half_written_file(folder: Path, tmp_path: Path) -> None:
    versions = {bytes([letter]) * 2_000_000 for letter in b"ab"}
    sources = []
    for number, content in enumerate(versions):
        path = tmp_path / str(number)
        path.write_bytes(content)
        sources.append(path)
    storage.put(sources[0], "weights")
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            for path in sources:
                storage.put(path, "weights")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            assert read("weights") in versions
    finally:
        over.set()
        writer.join()


def test_the_digest_is_that_of_sha256sum(source: Path) -> None:
    source.write_bytes(b"abc")
    assert storage.sha256_of(source) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# -- a bucket ------------------------------------------------------------------------------------
def test_a_bucket_is_used_below_its_prefix_alone(bucket: FakeS3, source: Path) -> None:
    bucket.objects["neighbour"] = b"not ours"
    storage.put(source, "runs/1/a")
    assert set(bucket.objects) == {"neighbour", "prefix/runs/1/a"}
    storage.delete_under("runs")
    assert set(bucket.objects) == {"neighbour"}


def test_a_bucket_without_a_prefix_works(settings: Any, bucket: FakeS3, source: Path, tmp_path: Path) -> None:
    settings.STORAGES = {**settings.STORAGES, "default": storage_backend(f"s3://{BUCKET}")}
    storage.put(source, "a/b")
    assert set(bucket.objects) == {"a/b"}
    assert list(storage.keys_under("a")) == ["a/b"] and read("a/b") == source.read_bytes()


def test_a_bucket_is_asked_for_nothing_but_what_is_needed(bucket: FakeS3, source: Path) -> None:
    storage.put(source, "a")
    assert [asked.split()[0] for asked in bucket.asked] == ["PUT"]
