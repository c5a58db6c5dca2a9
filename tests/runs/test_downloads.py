"""What people take away: every file by itself, in parts if they like, or all of them as one zip."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from runs.models import Artifact, Run
from webapp import storage
from webapp.ranges import parse_range
from webapp.serving import CHUNK

from .conftest import Lab, Script

WEIGHTS = bytes(range(256)) * 4096  # a mebibyte: several chunks
FILES = {"model.safetensors": WEIGHTS, "adapter/config.json": b"{}", 'name with "quotes" ü.txt': b"odd"}


@pytest.fixture
def finished(lab: Lab, tmp_path: Path) -> Run:
    run = lab.run(name="Grüße <b>&</b> ../../etc", status="succeeded")
    for name, data in FILES.items():
        path = tmp_path / "file"
        path.write_bytes(data)
        key = f"runs/{run.pk}/artifacts/attempt-1/{name}"
        storage.put(path, key)
        digest = hashlib.sha256(data).hexdigest()
        Artifact.objects.create(run=run, name=name, storage_key=key, size=len(data), sha256=digest)
    return run


@pytest.fixture
def browser(lab: Lab) -> Client:
    client = Client()
    client.force_login(lab.member)
    return client


def body_of(answer: Any) -> bytes:
    return b"".join(answer.streaming_content) if answer.streaming else answer.content


def weights(client: Client, run: Run, **headers: str) -> Any:
    return client.get(f"/runs/{run.pk}/files/model.safetensors", headers=headers)


def test_a_file_comes_whole_with_its_hash_as_an_attachment(browser: Client, finished: Run) -> None:
    answer = weights(browser, finished)
    assert answer.status_code == 200 and answer.streaming
    assert body_of(answer) == WEIGHTS
    digest = hashlib.sha256(WEIGHTS)
    assert answer["ETag"] == f'"{digest.hexdigest()}"'
    assert answer["Repr-Digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert answer["Content-Length"] == str(len(WEIGHTS))
    assert answer["Content-Disposition"] == 'attachment; filename="model.safetensors"'
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "private" in answer["Cache-Control"]


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-9", slice(0, 10)),
        ("bytes=1000000-", slice(1_000_000, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=262140-262150", slice(262_140, 262_151)),  # over the border of two chunks
        ("bytes=5-99999999", slice(5, None)),
        ("bytes=-99999999", slice(0, None)),
    ],
)
def test_a_part_that_is_asked_for_comes_alone(
    browser: Client, finished: Run, asked: str, part: slice
) -> None:
    answer = weights(browser, finished, Range=asked)
    expected = WEIGHTS[part]
    start = part.indices(len(WEIGHTS))[0]
    assert answer.status_code == 206
    assert body_of(answer) == expected
    assert answer["Content-Range"] == f"bytes {start}-{start + len(expected) - 1}/{len(WEIGHTS)}"
    assert answer["Content-Length"] == str(len(expected))


def test_only_a_piece_of_a_file_is_in_memory_at_once(browser: Client, finished: Run) -> None:
    pieces = [len(piece) for piece in weights(browser, finished).streaming_content]
    assert max(pieces) <= CHUNK < len(WEIGHTS) and sum(pieces) == len(WEIGHTS)
    zipped = [len(p) for p in browser.get(f"/runs/{finished.pk}/model.zip").streaming_content]
    assert max(zipped) <= CHUNK


def test_a_part_beyond_the_end_is_refused(browser: Client, finished: Run) -> None:
    answer = weights(browser, finished, Range="bytes=1048576-")
    assert answer.status_code == 416
    assert answer["Content-Range"] == f"bytes */{len(WEIGHTS)}"
    assert body_of(answer) == b""


@pytest.mark.parametrize(
    "asked",
    ["bytes=9-5", "bytes=a-b", "lines=1-2", "bytes=0-1,4-5", "bytes=-", "bytes=", "bytes=0-" + "9" * 5000],
)
def test_a_range_that_makes_no_sense_is_passed_over(browser: Client, finished: Run, asked: str) -> None:
    answer = weights(browser, finished, Range=asked)
    assert answer.status_code == 200 and body_of(answer) == WEIGHTS


def test_a_download_goes_on_only_if_the_file_is_the_same(browser: Client, finished: Run) -> None:
    etag = weights(browser, finished)["ETag"]
    same = weights(browser, finished, **{"Range": "bytes=10-", "If-Range": etag})
    assert same.status_code == 206 and body_of(same) == WEIGHTS[10:]
    other = weights(browser, finished, **{"Range": "bytes=10-", "If-Range": '"another"'})
    assert other.status_code == 200 and body_of(other) == WEIGHTS
    assert weights(browser, finished, **{"If-None-Match": etag}).status_code == 304


def test_head_tells_the_size_without_the_bytes(browser: Client, finished: Run) -> None:
    answer = browser.head(f"/runs/{finished.pk}/files/model.safetensors")
    assert answer["Content-Length"] == str(len(WEIGHTS)) and body_of(answer) == b""


def test_the_zip_holds_every_file_in_one_folder(browser: Client, finished: Run) -> None:
    answer = browser.get(f"/runs/{finished.pk}/model.zip")
    assert answer.streaming
    data = body_of(answer)
    assert answer["Content-Length"] == str(len(data))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        found = {name: archive.read(name) for name in archive.namelist()}
    (folder,) = {name.split("/", 1)[0] for name in found}
    assert folder.endswith(f"-{finished.pk}") and not set(folder) & set("<>&. ")
    assert {name.split("/", 1)[1]: content for name, content in found.items()} == FILES


def test_odd_names_are_written_so_that_nothing_breaks(browser: Client, finished: Run) -> None:
    answer = browser.get(f'/runs/{finished.pk}/files/name with "quotes" ü.txt')
    assert answer.status_code == 200
    disposition = answer["Content-Disposition"]
    assert disposition.startswith("attachment;") and "\n" not in disposition
    assert "filename*=utf-8''" in disposition


def test_a_script_gets_the_same(script: Script, finished: Run) -> None:
    urls = {item["name"]: item["url"] for item in script.get(f"runs/{finished.pk}").json()["artifacts"]}
    for name, data in FILES.items():
        assert body_of(script.client.get(urls[name])) == data
    part = script.client.get(urls["model.safetensors"], headers={"Range": "bytes=0-3"})
    assert (part.status_code, body_of(part)) == (206, WEIGHTS[:4])
    assert zipfile.is_zipfile(io.BytesIO(body_of(script.get(f"runs/{finished.pk}/artifacts.zip"))))


def test_what_is_not_there_is_a_404(browser: Client, script: Script, lab: Lab, finished: Run) -> None:
    empty = lab.run(status="failed")
    assert browser.get(f"/runs/{empty.pk}/model.zip").status_code == 404
    assert script.get(f"runs/{empty.pk}/artifacts.zip").status_code == 404
    for name in (
        "gone.bin",
        "../../../etc/passwd",
        "%2e%2e/secret",
        "adapter",
        "%00",
        "model.safetensors%00",
    ):
        assert browser.get(f"/runs/{finished.pk}/files/{name}").status_code == 404
        assert script.get(f"runs/{finished.pk}/artifacts/{name}").status_code == 404


def test_a_file_that_storage_lost_is_a_404_with_a_sentence(browser: Client, finished: Run) -> None:
    storage.delete_under(f"runs/{finished.pk}/artifacts")
    answer = weights(browser, finished)
    assert answer.status_code == 404


def test_a_name_with_control_characters_cannot_add_a_header(
    browser: Client, finished: Run, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    key = f"runs/{finished.pk}/artifacts/attempt-1/ctl"
    storage.put(tmp_path / "file", key)
    Artifact.objects.create(run=finished, name='a\x01"b', storage_key=key, size=0, sha256="0" * 64)
    answer = browser.get(f"/runs/{finished.pk}/files/a%01%22b")
    assert answer["Content-Disposition"] == "attachment; filename*=utf-8''a%01%22b"
    assert (answer["Content-Length"], body_of(answer)) == ("0", b"")
    part = browser.get(f"/runs/{finished.pk}/files/a%01%22b", headers={"Range": "bytes=0-"})
    assert part.status_code == 416 and part["Content-Range"] == "bytes */0"


def test_ranges_of_an_empty_file() -> None:
    assert parse_range("bytes=0-", 0) == "unsatisfiable"
    assert parse_range("bytes=-0", 5) == "unsatisfiable"
