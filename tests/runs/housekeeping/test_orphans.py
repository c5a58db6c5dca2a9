"""Files that nobody owns are found and deleted; what is being written never is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from runs import lifecycle
from runs.housekeeping import orphans
from runs.housekeeping.deleting import delete_run
from runs.models import Attempt, Checkpoint, HousekeepingReport, Removal, Run, Worker
from tests.runs.conftest import Lab, text_of
from webapp import storage
from webapp.datasets.models import Dataset, UploadedFile

from .conftest import keys

Write = Callable[..., str]
PARTIAL = ".model.safetensors.0123456789abcdef0123456789abcdef.partial"


def tomorrow() -> datetime:
    """When what is written now is old enough."""
    return timezone.now() + timedelta(hours=25)


def found() -> dict[str, str]:
    return {orphan.prefix: orphan.reason for orphan in orphans.find_orphans(now=tomorrow())}


@pytest.fixture
def littered(lab: Lab, ended: Callable[..., Run], write: Write) -> tuple[Run, set[str]]:
    """A healthy run and dataset, and one of each thing that may be left over; returns the names of those."""
    run = ended(days=3)
    dataset = lab.dataset
    key = write(f"datasets/{dataset.pk}/uploads/0.csv")
    UploadedFile.objects.create(dataset=dataset, name="r.csv", storage_key=key, size=5, sha256="0" * 64)
    write(f"datasets/{dataset.pk}/versions/{lab.version.content_hash}/train-00000-of-00001.parquet")
    write(f"datasets/{dataset.pk}/previews/{lab.version.content_hash}/0")
    write(f"runs/{run.pk}/something-new/of-a-later-version")
    litter = {
        f"runs/{run.pk}/checkpoints/30-1": f"runs/{run.pk}/checkpoints/30-1/model.bin",
        f"runs/{run.pk}/artifacts/attempt-0": f"runs/{run.pk}/artifacts/attempt-0/model.safetensors",
        f"runs/{run.pk}/artifacts/attempt-1/{PARTIAL}": f"runs/{run.pk}/artifacts/attempt-1/{PARTIAL}",
        "runs/999999": "runs/999999/logs/attempt-1.log",
        "datasets/999999": "datasets/999999/versions/aa/train.parquet",
        f"datasets/{dataset.pk}/versions/old": f"datasets/{dataset.pk}/versions/old/train.parquet",
        f"datasets/{dataset.pk}/uploads/1.csv": f"datasets/{dataset.pk}/uploads/1.csv",
        "incoming/0123": "incoming/0123",
        "models/gone": "models/gone/model.safetensors",
    }
    for key in litter.values():
        write(key)
    return run, set(litter)


def test_everything_that_nobody_owns_is_found_and_nothing_else(littered: tuple[Run, set[str]]) -> None:
    assert set(found()) == littered[1]


def test_what_is_young_is_not_touched(littered: tuple[Run, set[str]]) -> None:
    assert orphans.find_orphans() == []
    assert orphans.find_orphans(now=timezone.now() + timedelta(hours=23)) == []


def test_the_command_shows_them_and_deletes_them_when_told(
    littered: tuple[Run, set[str]], settings: Any
) -> None:
    settings.ORPHAN_HOURS = 0
    before = keys()
    said = StringIO()
    call_command("housekeeping", orphans=True, stdout=said)
    assert all(prefix in said.getvalue() for prefix in littered[1])
    assert "45 B without an owner; --delete removes it." in said.getvalue()
    assert keys() == before
    call_command("housekeeping", orphans=True, delete=True, stdout=said)
    assert "9 files deleted: 45 B." in said.getvalue()
    assert len(before) - len(keys()) == 9 and found() == {}
    for prefix in ("runs/999999", "datasets/999999", "models/gone"):
        folder = storage.local_path(prefix)
        assert folder is not None and not folder.exists()
    assert Removal.objects.filter(kind="orphans").count() == 9
    with pytest.raises(CommandError, match="--delete goes with --orphans"):
        call_command("housekeeping", delete=True)


def test_an_administrator_deletes_them_on_the_page(
    littered: tuple[Run, set[str]], admin: Client, settings: Any
) -> None:
    settings.ORPHAN_HOURS = 0
    page = admin.get("/storage/left-over/").content.decode()
    assert "A checkpoint that was never finished, or is no longer kept." in page
    assert "Delete 45 B that nobody owns?" in page
    answer = admin.post("/storage/left-over/delete/", {"prefix": sorted(littered[1])}, follow=True)
    text = text_of(answer.content.decode())
    assert "9 files deleted: 45 B." in text and "Nothing is left over" in text


def test_what_is_named_in_a_request_but_owned_is_not_deleted(
    littered: tuple[Run, set[str]], admin: Client, settings: Any
) -> None:
    settings.ORPHAN_HOURS = 0
    run = littered[0]
    before = keys()
    named = [f"runs/{run.pk}", "runs", "", f"runs/{run.pk}/artifacts/attempt-1", f"runs/{run.pk}/logs"]
    admin.post("/storage/left-over/delete/", {"prefix": named})
    assert keys() == before


def test_a_checkpoint_that_is_being_copied_is_safe_even_if_its_files_are_old(
    lab: Lab, worker: Worker, write: Write
) -> None:
    run = lab.run(status="queued")
    attempt = lifecycle.claim(worker, ["cpu"])
    assert attempt is not None and attempt.run_id == run.pk
    prefix = f"runs/{run.pk}/checkpoints/10-1"
    write(f"{prefix}/model.bin")
    write(f"runs/{run.pk}/artifacts/attempt-1/model.safetensors")
    assert found() == {}
    # its row follows: between the listing and the look at the rows, or before the deletion
    listed = list(storage.listing())
    Attempt.objects.update(finished_at=timezone.now() - timedelta(days=2))
    names = {orphan.prefix for orphan in orphans.find_orphans(listed, now=tomorrow())}
    assert names == {prefix, f"runs/{run.pk}/artifacts/attempt-1"}
    Checkpoint.objects.create(run=run, step=10, storage_prefix=prefix, size_bytes=5)
    gone = orphans.delete_orphans(names, HousekeepingReport.objects.create(), now=tomorrow())
    assert [orphan.prefix for orphan in gone] == [f"runs/{run.pk}/artifacts/attempt-1"]
    assert keys() == [f"{prefix}/model.bin"]


def test_a_row_that_is_made_while_storage_is_listed_owns_its_files(
    lab: Lab, ended: Callable[..., Run]
) -> None:
    run = ended()
    listed = list(storage.listing())
    Checkpoint.objects.all().delete()
    for step in (10, 20):
        Checkpoint.objects.create(
            run=run, step=step, storage_prefix=f"runs/{run.pk}/checkpoints/{step}-1", size_bytes=1
        )
    assert orphans.find_orphans(listed, now=tomorrow()) == []


def test_a_file_with_an_old_date_that_came_just_now_is_young(lab: Lab, write: Write, tmp_path: Path) -> None:
    import os

    old = tmp_path / "tokenizer.json"
    old.write_text("{}")
    os.utime(old, (0, 0))
    storage.put(old, "runs/999999/artifacts/attempt-1/tokenizer.json", move=True)
    assert orphans.find_orphans() == []


def test_files_that_wait_for_their_removal_are_not_listed_twice(lab: Lab, ended: Callable[..., Run]) -> None:
    delete_run(ended(), lab.member)
    assert keys() and found() == {}


def test_a_dataset_that_is_being_inspected_is_left_alone(lab: Lab, write: Write) -> None:
    Dataset.objects.update(status="inspecting")
    write(f"datasets/{lab.dataset.pk}/versions/new/train.parquet")
    assert found() == {}


def test_what_tuneboard_does_not_know_is_told_and_never_deleted(
    lab: Lab, own_storage: Path, settings: Any
) -> None:
    settings.ORPHAN_HOURS = 0
    (own_storage / "lost+found").mkdir()
    (own_storage / "lost+found" / "#123").write_text("theirs")
    (own_storage / "notes.txt").write_text("theirs")
    assert set(found()) == {"lost+found", "notes.txt"}
    said = StringIO()
    call_command("housekeeping", orphans=True, delete=True, stdout=said)
    assert "(left alone)" in said.getvalue()
    assert keys() == ["lost+found/#123", "notes.txt"]


def test_the_wrong_database_deletes_nothing(lab: Lab, ended: Callable[..., Run], settings: Any) -> None:
    ended()
    before = keys()
    Run.objects.all().delete()
    lab.dataset.delete()
    settings.ORPHAN_HOURS = 0
    with pytest.raises(CommandError, match="is DATABASE_URL right"):
        call_command("housekeeping", orphans=True, delete=True, stdout=StringIO())
    assert keys() == before


def test_rows_whose_files_are_gone_are_told_and_stay(
    lab: Lab, admin: Client, ended: Callable[..., Run], own_storage: Path
) -> None:
    run = ended()
    shutil.rmtree(own_storage / "runs")
    text = text_of(admin.get("/storage/left-over/").content.decode())
    assert f"runs/{run.pk}/artifacts/attempt-1/model.safetensors A model file of run {run.pk}" in text
    assert f"runs/{run.pk}/checkpoints/10-1 A checkpoint of run {run.pk}" in text
    assert run.artifacts.count() == 2 and run.checkpoints.count() == 2
    said = StringIO()
    call_command("housekeeping", orphans=True, stdout=said)
    assert "is gone from storage: a model file of run" in said.getvalue()


def test_the_daily_round_deletes_them_only_where_the_site_says_so(
    littered: tuple[Run, set[str]], settings: Any
) -> None:
    from runs.housekeeping import daily
    from runs.models import RetentionRule

    settings.ORPHAN_HOURS = 0
    before = keys()
    daily.daily()
    assert keys() == before
    HousekeepingReport.objects.all().delete()
    RetentionRule.objects.create(workspace=None, remove_orphans=True)
    daily.daily()
    assert len(before) - len(keys()) == 9
