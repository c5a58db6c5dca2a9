"""The same where storage is a bucket: removal, left-over files, counting, and a backup."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import Client

from runs.housekeeping.use import measure, use_of
from runs.models import Run
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
