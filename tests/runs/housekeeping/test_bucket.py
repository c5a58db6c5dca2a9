"""The same where storage is a bucket: removal, left-over files, counting, and a backup."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO, StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db.models import F
from django.test import Client

from runs.housekeeping import daily
from runs.housekeeping.removal import remove_due
from runs.housekeeping.use import measure, use_of
from runs.models import RetentionRule, Run, StorageRemoval
from tests.runs.conftest import Lab
from tests.webapp.test_storage import FakeS3, bucket  # noqa: F401 – a fixture
from webapp import storage

from .conftest import keys, remove_now
from .test_orphans import found


@pytest.fixture(autouse=True)
def in_a_bucket(own_storage: Path, bucket: FakeS3) -> FakeS3:  # noqa: F811
    return bucket


def test_a_deleted_run_leaves_the_bucket(
    browser: Client, ended: Callable[..., Run], in_a_bucket: FakeS3
) -> None:
    in_a_bucket.objects["neighbour/runs/1/a"] = b"not ours"
    gone, stays = ended(), ended()
    browser.post(f"/runs/{gone.pk}/delete/")
    remove_now()
    assert keys(f"runs/{gone.pk}") == [] and len(keys(f"runs/{stays.pk}")) == 7
    assert in_a_bucket.objects["neighbour/runs/1/a"] == b"not ours"


@pytest.mark.parametrize("by", ["rule", "person"])
def test_a_download_from_a_bucket_goes_on_to_its_end(
    lab: Lab, owner: Client, ended: Callable[..., Run], by: str
) -> None:
    run = ended()
    zipped = owner.get(f"/runs/{run.pk}/model.zip").streaming_content
    first = next(iter(zipped))  # the other file's turn has not come
    if by == "rule":
        RetentionRule.objects.create(workspace=lab.workspace, file_days=30)
        daily.now(lab.workspace, "test")
    else:
        owner.post(f"/runs/{run.pk}/delete/")
    remove_due()
    assert owner.get(f"/runs/{run.pk}/model.zip").status_code == (410 if by == "rule" else 404)
    with zipfile.ZipFile(BytesIO(first + b"".join(zipped))) as archive:
        assert archive.testzip() is None and len(archive.namelist()) == 2
    assert found() == {}, "what waits for its removal belongs to nobody else"
    StorageRemoval.objects.update(due_at=F("due_at") - timedelta(minutes=59))
    remove_due()
    assert len(keys(f"runs/{run.pk}/artifacts")) == 2
    StorageRemoval.objects.update(due_at=F("due_at") - timedelta(minutes=1))
    remove_due()
    assert keys(f"runs/{run.pk}/artifacts") == []


def test_one_that_takes_longer_than_that_breaks_off_and_cannot_be_taken_for_whole(
    owner: Client, ended: Callable[..., Run]
) -> None:
    run = ended()
    answer = owner.get(f"/runs/{run.pk}/model.zip")
    zipped = answer.streaming_content
    got = len(next(iter(zipped)))
    owner.post(f"/runs/{run.pk}/delete/")
    remove_now()
    with pytest.raises(Exception, match=r"is not in the bucket"):
        for piece in zipped:
            got += len(piece)
    assert got < int(answer["Content-Length"])
    again = owner.get(f"/runs/{run.pk}/files/model.safetensors", headers={"Range": "bytes=10-"})
    assert again.status_code == 404


def test_left_over_files_of_a_bucket_are_found_and_counted(
    lab: Lab, ended: Callable[..., Run], write: Callable[..., str]
) -> None:
    run = ended()
    write(f"runs/{run.pk}/checkpoints/30-1/model.bin")
    assert set(found()) == {f"runs/{run.pk}/checkpoints/30-1"}
    measure()
    assert use_of(lab.workspace).size_bytes == 2025
    assert storage.free_space() is None


@pytest.mark.django_db(transaction=True)
def test_a_bucket_is_backed_up_into_a_folder(
    transactional_db: None, lab: Lab, ended: Callable[..., Run], tmp_path: Path
) -> None:
    ended()
    for expected in ("7 of 7 files were new", "0 of 7 files were new"):
        said = StringIO()
        call_command("backup", str(tmp_path / "backup"), stdout=said, stderr=said)
        assert expected in said.getvalue()
    call_command("backup", str(tmp_path / "backup"), verify=True, stdout=StringIO())
