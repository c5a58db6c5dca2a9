"""tus 1.0.0, header by header and status by status, in a folder and in a bucket."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from django.utils import timezone

from tests.webapp.uploads.conftest import BYTES, CSV, Tus, stored
from webapp.uploads.models import Upload

URL = "/api/v1/uploads"
pytestmark = pytest.mark.usefixtures("anywhere")


def checksum(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm} {base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"


def digest_of(answer: Any) -> str:
    return base64.b64decode(answer["Repr-Digest"].removeprefix("sha-256=:").rstrip(":")).hex()


# -- the server says what it can -------------------------------------------------------------------
def test_options_tell_version_extensions_size_and_checksums(tus: Tus, settings: Any) -> None:
    answer = tus.ask("OPTIONS", URL, Tus_Resumable="")
    assert answer.status_code == 204
    assert answer["Tus-Version"] == answer["Tus-Resumable"] == "1.0.0"
    assert answer["Tus-Extension"] == "creation,creation-with-upload,expiration,checksum,termination"
    assert answer["Tus-Max-Size"] == str(settings.UPLOAD_MAX_BYTES)
    assert answer["Tus-Checksum-Algorithm"] == "sha1,sha256"


@pytest.mark.parametrize("said", ["", "0.2.2", "2.0.0"])
def test_another_version_is_told_which_one_is_spoken(said: str, tus: Tus) -> None:
    address = tus.announce(3)
    for method, place in (("POST", URL), ("HEAD", address), ("PATCH", address), ("DELETE", address)):
        answer = tus.ask(method, place, b"abc" if method == "PATCH" else b"", Tus_Resumable=said)
        assert (answer.status_code, answer["Tus-Version"]) == (412, "1.0.0"), method
    assert tus.offset(address) == 0


# -- creation ------------------------------------------------------------------------------------
def test_an_upload_is_announced_with_its_length_and_name(tus: Tus) -> None:
    told = "filename " + base64.b64encode("Bewertungen ü.csv".encode()).decode() + ",is_private"
    answer = tus.ask("POST", URL, Upload_Length="100", Upload_Metadata=told)
    assert (answer.status_code, answer["Tus-Resumable"]) == (201, "1.0.0")
    head = tus.ask("HEAD", answer["Location"])
    assert (head.status_code, head["Upload-Offset"], head["Upload-Length"]) == (200, "0", "100")
    assert head["Upload-Metadata"] == told
    assert head["Cache-Control"] == "no-store"
    assert Upload.objects.get().name == "Bewertungen ü.csv"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),
        ({"Upload_Length": "-1"}, 400),
        ({"Upload_Length": "1.5"}, 400),
        ({"Upload_Length": "9" * 30}, 400),
        ({"Upload_Defer_Length": "1"}, 400),
        ({"Upload_Length": "3", "Upload_Metadata": "filename not*base64"}, 400),
        ({"Upload_Length": "3", "Upload_Metadata": "a YQ==,a YQ=="}, 400),
        ({"Upload_Length": "3", "Upload_Metadata": "a " + "YQ==" * 2000}, 400),
        ({"Upload_Length": str(10**17)}, 413),
    ],
)
def test_what_is_announced_wrongly_is_refused(headers: dict[str, str], status: int, tus: Tus) -> None:
    answer = tus.ask("POST", URL, **headers)
    assert (answer.status_code, answer["Tus-Resumable"]) == (status, "1.0.0")
    assert answer.json()["error"]["message"]
    assert not Upload.objects.exists()


def test_a_name_is_no_path(tus: Tus) -> None:
    tus.announce(1, "../../etc/\u202epass\0wd")
    assert Upload.objects.get().name == "passwd"


def test_the_first_bytes_may_come_with_the_announcement(tus: Tus) -> None:
    answer = tus.ask("POST", URL, CSV[:100], Upload_Length=str(len(CSV)), Content_Type=BYTES)
    assert (answer.status_code, answer["Upload-Offset"]) == (201, "100")
    assert tus.send(answer["Location"], 100, CSV[100:]).status_code == 204
    assert stored(answer["Location"]) == CSV


def test_more_first_bytes_than_announced_are_refused_unread(tus: Tus) -> None:
    answer = tus.ask("POST", URL, CSV, Upload_Length="10", Content_Type=BYTES)
    assert answer.status_code == 413 and not Upload.objects.exists()


def test_an_empty_file_is_whole_at_once(tus: Tus) -> None:
    address = tus.announce(0)
    head = tus.ask("HEAD", address)
    assert head["Upload-Offset"] == head["Upload-Length"] == "0"
    assert digest_of(head) == hashlib.sha256(b"").hexdigest()
    assert stored(address) == b""


# -- bytes ---------------------------------------------------------------------------------------
def test_bytes_are_appended_piece_by_piece_and_the_whole_has_its_digest(tus: Tus) -> None:
    address = tus.announce(len(CSV))
    for start in range(0, len(CSV), 100):
        answer = tus.send(address, start, CSV[start : start + 100])
        end = min(start + 100, len(CSV))
        assert (answer.status_code, answer["Upload-Offset"]) == (204, str(end))
        assert answer["Tus-Resumable"] == "1.0.0"
        assert tus.offset(address) == end
        assert ("Repr-Digest" in answer) == (end == len(CSV))
    assert stored(address) == CSV
    assert digest_of(tus.ask("HEAD", address)) == hashlib.sha256(CSV).hexdigest()
    seen = tus.ask("GET", address).json()
    assert (seen["offset"], seen["length"], seen["sha256"]) == (
        len(CSV),
        len(CSV),
        hashlib.sha256(CSV).hexdigest(),
    )


@pytest.mark.parametrize("offset", [0, 2, 4])
def test_bytes_for_another_place_are_refused(offset: int, tus: Tus) -> None:
    address = tus.announce(10)
    tus.send(address, 0, b"abc")
    answer = tus.send(address, offset, b"xyz")
    assert answer.status_code == 409
    assert tus.offset(address) == 3


@pytest.mark.parametrize("offset", ["", "-1", "x", "1e3"])
def test_an_offset_has_to_be_a_number(offset: str, tus: Tus) -> None:
    answer = tus.ask("PATCH", tus.announce(3), b"abc", Upload_Offset=offset)
    assert answer.status_code == 400


@pytest.mark.parametrize("kind", ["text/csv", "application/octet-stream", "multipart/form-data; boundary=x"])
def test_bytes_of_another_kind_are_refused(kind: str, tus: Tus) -> None:
    address = tus.announce(3)
    assert tus.send(address, 0, b"abc", Content_Type=kind).status_code == 415
    assert tus.offset(address) == 0


def test_more_bytes_than_announced_are_refused(tus: Tus) -> None:
    address = tus.announce(3)
    assert tus.send(address, 0, b"abcd").status_code == 413
    assert tus.send(address, 0, b"abc").status_code == 204
    assert tus.send(address, 3, b"d").status_code == 413
    assert stored(address) == b"abc"


def test_no_bytes_are_no_mistake(tus: Tus) -> None:
    address = tus.announce(3)
    answer = tus.send(address, 0, b"")
    assert (answer.status_code, answer["Upload-Offset"]) == (204, "0")


def test_patch_and_delete_pass_where_only_post_does(tus: Tus) -> None:
    address = tus.announce(3)
    patch = {"X_HTTP_Method_Override": "PATCH", "Upload_Offset": "0", "Content_Type": BYTES}
    assert tus.ask("POST", address, b"abc", **patch).status_code == 204
    assert stored(address) == b"abc"
    assert tus.ask("POST", address, X_HTTP_Method_Override="DELETE").status_code == 204
    assert tus.ask("HEAD", address).status_code == 404
    assert tus.ask("POST", tus.announce(3)).status_code == 405


# -- checksum ------------------------------------------------------------------------------------
@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_bytes_with_the_right_checksum_are_kept(algorithm: str, tus: Tus) -> None:
    address = tus.announce(len(CSV))
    for start in (0, 300):
        data = CSV[start : start + 300] if start == 0 else CSV[start:]
        answer = tus.send(address, start, data, Upload_Checksum=checksum(data, algorithm))
        assert answer.status_code == 204
    assert stored(address) == CSV


def test_bytes_that_changed_on_their_way_are_not_kept(tus: Tus) -> None:
    address = tus.announce(6)
    tus.send(address, 0, b"abc")
    answer = tus.send(address, 3, b"dex", Upload_Checksum=checksum(b"def"))
    assert (answer.status_code, answer.reason_phrase) == (460, "Checksum Mismatch")
    assert tus.offset(address) == 3
    assert tus.send(address, 3, b"def", Upload_Checksum=checksum(b"def")).status_code == 204
    assert stored(address) == b"abcdef"


@pytest.mark.parametrize("said", ["md5 AAAA", "sha256 ***", "sha256"])
def test_a_checksum_that_cannot_be_checked_is_refused(said: str, tus: Tus) -> None:
    address = tus.announce(3)
    status = tus.send(address, 0, b"abc", Upload_Checksum=said).status_code
    assert status == (460 if said == "sha256" else 400)
    assert tus.offset(address) == 0


# -- expiration ----------------------------------------------------------------------------------
def test_every_byte_puts_the_expiry_off(tus: Tus, settings: Any) -> None:
    settings.UPLOAD_HOURS = 2
    address = tus.announce(6)
    Upload.objects.update(expires_at=timezone.now() + timedelta(minutes=5))
    answer = tus.send(address, 0, b"abc")
    left = parsedate_to_datetime(answer["Upload-Expires"]) - datetime.now(UTC)
    assert timedelta(minutes=118) < left < timedelta(minutes=121)
    assert tus.ask("HEAD", address)["Upload-Expires"] == answer["Upload-Expires"]


def test_what_has_expired_is_gone(tus: Tus) -> None:
    address = tus.announce(6)
    tus.send(address, 0, b"abc")
    Upload.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    for method in ("HEAD", "PATCH", "DELETE"):
        assert tus.ask(method, address, Upload_Offset="3").status_code == 410


# -- termination ---------------------------------------------------------------------------------
def test_an_upload_that_is_given_up_leaves_nothing(tus: Tus) -> None:
    address = tus.announce(6)
    tus.send(address, 0, b"abc")
    answer = tus.ask("DELETE", address)
    assert (answer.status_code, answer["Tus-Resumable"]) == (204, "1.0.0")
    for method in ("HEAD", "PATCH", "DELETE"):
        assert tus.ask(method, address, Upload_Offset="3").status_code == 404
    from webapp import storage

    assert [file.key for file in storage.listing()] == []
