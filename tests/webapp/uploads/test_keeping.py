"""What holds of uploads whatever is asked in whatever order: offsets, one writer, quota, expiry, nothing left."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from runs.housekeeping import orphans
from runs.housekeeping.use import measure, use_of
from tests.webapp.uploads.conftest import CSV, Tus, stored
from tests.webapp.uploads.multipart_s3 import LEAST, MultipartS3
from webapp import storage
from webapp.accounts.models import ApiToken, Membership, User, Workspace
from webapp.datasets.models import Dataset
from webapp.datasets.uploading import clear_abandoned
from webapp.uploads import digests, receiving
from webapp.uploads.models import Upload

URL = "/api/v1/uploads"
LARGE = random.Random(0).randbytes(2 * LEAST + 12345)  # two parts and something


def keys() -> list[str]:
    return [file.key for file in storage.listing()]


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()  # to compare by: pytest takes minutes to tell 10 MB apart


def row(address: str) -> Upload:
    upload: Upload = Upload.objects.get(pk=address.rsplit("/", 1)[1])
    return upload


# -- offsets -------------------------------------------------------------------------------------
def broken_off(data: bytes, at: int, error: type[BaseException] | None) -> Iterator[bytes]:
    """A body whose connection is cut; some servers raise then, others just end it."""
    for start in range(0, at, 1 << 20):
        yield data[start : min(start + (1 << 20), at)]
    if error:
        raise error("cut")


@pytest.mark.parametrize("error", [None, ConnectionError])
def test_what_came_before_a_cut_stays_and_the_rest_follows(
    anywhere: str, tus: Tus, error: type[BaseException] | None
) -> None:
    address = tus.announce(len(LARGE))
    at = 0
    for cut in (1000, LEAST - 1, LEAST + 5, 2 * LEAST, 2 * LEAST + 1):
        try:
            receiving.receive(row(address), at, broken_off(LARGE[at:], cut - at, error))
        except ConnectionError:
            assert error
        at = tus.offset(address)
        assert at == cut
    assert tus.send(address, at, LARGE[at:]).status_code == 204
    assert sha256(stored(address)) == sha256(LARGE)
    assert row(address).sha256 == sha256(LARGE)


def test_after_a_restart_the_digest_is_counted_anew(anywhere: str, tus: Tus) -> None:
    address = tus.announce(len(LARGE))
    tus.send(address, 0, LARGE[:LEAST])
    digests._running.clear()  # as another process has it
    tus.send(address, LEAST, LARGE[LEAST:])
    assert row(address).sha256 == sha256(LARGE)


def test_a_server_that_died_before_it_noted_anything_goes_on_from_what_is_there(
    folder: Path, tus: Tus
) -> None:
    address = tus.announce(len(CSV))
    with (folder / row(address).key).open("ab") as file:  # written, and never answered
        file.write(CSV[:321])
    assert tus.offset(address) == 321
    with (folder / row(address).key).open("ab") as file:
        file.write(CSV[321:])
    assert tus.offset(address) == len(CSV)  # the asking finishes it
    assert row(address).sha256 == sha256(CSV)


def test_a_bucket_that_got_more_than_was_noted_is_written_over(bucket: MultipartS3, tus: Tus) -> None:
    address = tus.announce(len(LARGE))
    tus.send(address, 0, LARGE[:1000])
    rest = next(key for key in bucket.objects if key.endswith("/rest"))
    bucket.objects[rest] = LARGE[:2000]  # and the web server was killed before its row was
    assert tus.offset(address) == 1000
    tus.send(address, 1000, LARGE[1000:])
    assert sha256(stored(address)) == sha256(LARGE)


def test_a_server_that_died_between_the_object_and_its_row_finishes_it(bucket: MultipartS3, tus: Tus) -> None:
    address = tus.announce(len(LARGE))
    tus.send(address, 0, LARGE)
    Upload.objects.update(sha256="")
    assert tus.ask("HEAD", address)["Repr-Digest"]
    assert row(address).sha256 == sha256(LARGE)


def test_a_bucket_gets_parts_of_five_mebibytes_and_nothing_is_left_beside_the_object(
    bucket: MultipartS3, tus: Tus
) -> None:
    address = tus.announce(len(LARGE))
    for start in range(0, len(LARGE), 3_000_000):
        tus.send(address, start, LARGE[start : start + 3_000_000])
    assert sha256(stored(address)) == sha256(LARGE)
    assert sum("partNumber" in asked for asked in bucket.asked) == 3
    assert keys() == [row(address).key] and not bucket.parts
    assert bucket.largest_request < LEAST + 100_000


def test_files_of_many_parts_have_larger_ones() -> None:
    from webapp.uploads.bucket import MOST_PARTS, part_size

    assert part_size(1) == part_size(LEAST * MOST_PARTS) == LEAST
    assert part_size(10**12) == 10**8


# -- one writer ----------------------------------------------------------------------------------
def test_of_two_requests_at_the_same_place_one_goes_on_and_the_other_stops(anywhere: str, tus: Tus) -> None:
    address = tus.announce(len(LARGE))

    def overtaken() -> Iterator[bytes]:
        yield LARGE[:LEAST]
        tus.send(address, tus.offset(address), LARGE[tus.offset(address) :])  # the client has come back
        yield LARGE[LEAST:]

    with pytest.raises(receiving.Moved):
        receiving.receive(row(address), 0, overtaken())
    assert sha256(stored(address)) == sha256(LARGE)
    assert row(address).sha256 == sha256(LARGE)


def test_a_request_whose_upload_is_given_up_stops_and_leaves_nothing(anywhere: str, tus: Tus) -> None:
    address = tus.announce(len(LARGE))

    def given_up() -> Iterator[bytes]:
        yield LARGE[:LEAST]
        tus.ask("DELETE", address)
        yield LARGE[LEAST:]

    with pytest.raises(receiving.Gone):
        receiving.receive(row(address), 0, given_up())
    assert keys() == [] and not Upload.objects.exists()


def test_what_storage_has_lost_is_not_found_any_more(anywhere: str, tus: Tus, request: Any) -> None:
    address = tus.announce(len(LARGE))
    tus.send(address, 0, LARGE[:LEAST])
    if anywhere == "bucket":
        request.getfixturevalue("bucket").parts.clear()
    else:
        storage.delete_under("uploads")
    assert tus.send(address, LEAST, LARGE[LEAST:]).status_code == 404


def test_a_full_disk_says_so_and_the_upload_goes_on_once_there_is_room(
    folder: Path, tus: Tus, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    address = tus.announce(len(CSV))
    real = os.pwrite

    def nearly_full(descriptor: int, data: bytes, offset: int) -> int:
        if offset >= 200:
            raise OSError(28, "No space left on device")
        return real(descriptor, data[: 200 - offset], offset)

    monkeypatch.setattr(os, "pwrite", nearly_full)
    answer = tus.send(address, 0, CSV)
    assert answer.status_code == 507 and "disk is full" in answer.json()["error"]["message"]
    monkeypatch.undo()
    assert tus.offset(address) == 200
    assert tus.send(address, 200, CSV[200:]).status_code == 204
    assert stored(address) == CSV


def test_a_disk_that_fails_while_more_comes_in_is_told_at_the_end(
    folder: Path, tus: Tus, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    def fails(descriptor: int) -> None:
        raise OSError(28, "No space left on device")  # of blocks that were promised, as on network disks

    address = tus.announce(len(CSV))
    monkeypatch.setattr("webapp.uploads.folder.SYNC_BYTES", 1)
    monkeypatch.setattr(os, "fdatasync", fails)
    answer = tus.send(address, 0, CSV)
    assert answer.status_code == 507 and "disk is full" in answer.json()["error"]["message"]
    monkeypatch.undo()
    kept = tus.offset(address)
    assert kept == len(CSV) and stored(address) == CSV
    assert tus.ask("HEAD", address)["Repr-Digest"]


# -- who ------------------------------------------------------------------------------------------
def test_others_of_the_workspace_do_not_touch_it(folder: Path, tus: Tus, workspace: Workspace) -> None:
    other = User.objects.create_user("bob")
    Membership.objects.create(user=other, workspace=workspace, role=Membership.Role.OWNER)
    theirs = Tus(ApiToken.issue(other, workspace, "test")[1])
    address = tus.announce(6)
    for method in ("HEAD", "PATCH", "DELETE", "GET"):
        assert theirs.ask(method, address, Upload_Offset="0").status_code == 404
    assert theirs.ask("GET", URL).json() == []
    assert [each["name"] for each in tus.ask("GET", URL).json()] == ["rows.csv"]


def test_a_browser_sends_its_csrf_token_with_every_byte(folder: Path, user: User) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(user)
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "3"}
    assert strict.post("/uploads/", headers=headers).status_code == 403
    token = {"X-CSRFToken": "a" * 32}
    strict.cookies["tuneboard_csrf_8000"] = "a" * 32
    address = strict.post("/uploads/", headers=headers | token)["Location"]
    sent = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0"}
    kind = "application/offset+octet-stream"
    assert strict.patch(address, b"abc", kind, headers=sent).status_code == 403
    assert strict.patch(address, b"abc", kind, headers=sent | token).status_code == 204
    assert strict.delete(address, headers={"Tus-Resumable": "1.0.0"}).status_code == 403
    assert stored(address.strip("/")) == b"abc"


# -- quota ---------------------------------------------------------------------------------------
def test_uploads_count_with_what_they_announced_before_a_byte_is_sent(
    folder: Path, tus: Tus, settings: Any
) -> None:
    settings.WORKSPACE_QUOTA_BYTES = 10_000
    first = tus.announce(6_000)
    answer = tus.ask("POST", URL, Upload_Length="6000")
    assert answer.status_code == 413
    said = answer.json()["error"]["message"]
    assert "10.0 KB" in said and "4.0 KB are left" in said and "Delete datasets" in said
    tus.ask("DELETE", first)
    assert tus.announce(6_000)


def test_datasets_count_and_deleting_one_makes_room(folder: Path, tus: Tus, settings: Any) -> None:
    settings.WORKSPACE_QUOTA_BYTES = len(CSV) + 100
    made = tus.json("POST", "/api/v1/datasets/from-uploads", {"uploads": [tus.whole(CSV)]})
    assert made.status_code == 201
    assert tus.ask("POST", URL, Upload_Length=str(len(CSV))).status_code == 413
    Dataset.objects.all().delete()
    assert tus.announce(len(CSV))


def test_the_page_about_storage_and_the_form_say_what_is_left(
    folder: Path, tus: Tus, user: User, settings: Any
) -> None:
    client = Client()
    client.force_login(user)
    tus.announce(4_000)
    assert "may keep" not in client.get("/storage/").content.decode()
    settings.WORKSPACE_QUOTA_BYTES = 10_000
    assert "<strong>6.0 KB</strong> are left" in client.get("/storage/").content.decode()
    assert "6.0 KB of its 10.0 KB left" in client.get("/datasets/upload/").content.decode()


def test_the_plain_form_is_held_to_the_quota_too(folder: Path, user: User, settings: Any) -> None:
    from django.core.files.uploadedfile import SimpleUploadedFile

    settings.WORKSPACE_QUOTA_BYTES = 100
    client = Client()
    client.force_login(user)
    answer = client.post("/datasets/upload/", {"file": SimpleUploadedFile("r.csv", CSV)})
    assert answer.status_code == 422
    assert "100 B are left" in answer.content.decode() and not Dataset.objects.exists()


def test_a_workspace_does_not_open_uploads_without_end(
    folder: Path, tus: Tus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "MOST_OPEN", 2)
    tus.announce(1), tus.announce(1)
    answer = tus.ask("POST", URL, Upload_Length="1")
    assert answer.status_code == 413 and "were not finished" in answer.json()["error"]["message"]


def test_a_file_that_the_disk_cannot_hold_is_not_begun(
    folder: Path, tus: Tus, monkeypatch: pytest.MonkeyPatch
) -> None:
    from webapp.uploads import quota

    tus.announce(600)
    monkeypatch.setattr(quota.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    answer = tus.ask("POST", URL, Upload_Length="500")
    assert answer.status_code == 413 and "400 B left" in answer.json()["error"]["message"]


# -- house-keeping --------------------------------------------------------------------------------
def test_what_nobody_went_on_with_for_a_day_is_removed(anywhere: str, tus: Tus) -> None:
    old, whole, new = tus.announce(len(LARGE)), tus.announce(3), tus.announce(3)
    tus.send(old, 0, LARGE[: LEAST + 5]), tus.send(whole, 0, b"abc"), tus.send(new, 0, b"ab")
    day = timezone.now() - timedelta(seconds=1)
    Upload.objects.exclude(pk=row(new).pk).update(expires_at=day)
    clear_abandoned()
    assert [each["id"] for each in tus.ask("GET", URL).json()] == [str(row(new).pk)]
    assert {key.split("/")[1] for key in keys()} == {str(row(new).pk)}
    assert tus.ask("HEAD", old).status_code == 404


def test_an_upload_is_no_orphan_and_counts_as_the_workspaces(
    folder: Path, tus: Tus, workspace: Workspace
) -> None:
    address = tus.announce(6)
    tus.send(address, 0, b"abc")
    later = timezone.now() + timedelta(days=30)
    assert orphans.find_orphans(now=later) == []
    measure()
    assert use_of(workspace).size_bytes == 3
    Upload.objects.all().delete()
    (found,) = orphans.find_orphans(now=later)
    assert found.is_known and found.reason == "An upload that broke off."
