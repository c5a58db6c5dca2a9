"""Backups: whole or refused, made while things change, and brought back to the byte."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from runs.backup import making
from runs.backup.place import Place
from runs.models import Artifact, Checkpoint, Metric, Run
from webapp import storage
from webapp.accounts.models import User

from .conftest import WEIGHTS, Elsewhere, token_of

Write = Callable[[str, bytes], str]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "backup"


def backup(target: Path, **options: Any) -> str:
    said = StringIO()
    call_command("backup", str(target), stdout=said, stderr=said, **options)
    return said.getvalue()


def kept(target: Path) -> dict[str, Any]:
    place = Place(target)
    return json.loads((place.backups / place.newest() / "manifest.json").read_text())


def tables(elsewhere: Elsewhere, names: list[str]) -> dict[str, list[Any]]:
    return {name: sorted(map(repr, elsewhere.query(f"SELECT * FROM {name}"))) for name in names}


# -- there and back ----------------------------------------------------------------------------------
def test_everything_comes_back_row_for_row_and_byte_for_byte(
    lab: Run, target: Path, elsewhere: Elsewhere, settings: Any
) -> None:
    user = User.objects.get(username="anna")
    secret = token_of(user, lab.workspace)
    said = backup(target)
    assert "The secret key is in it" in said and "Backup 2" in said
    done = elsewhere.manage("restore", str(target))
    assert done.returncode == 0, done.stderr
    assert "6 files are back in storage." in done.stdout

    # every table of the database is what it was
    here = Elsewhere(elsewhere.home, _url_of_this_database())
    names = [name for name in kept(target)["tables"] if name != "django_migrations"]
    assert len(names) > 20
    assert tables(elsewhere, names) == tables(here, names)
    assert elsewhere.query(f"SELECT name FROM runs_run WHERE id = {lab.pk}") == [(lab.name,)]
    # every file of storage
    found = {
        path.relative_to(elsewhere.storage).as_posix(): path.read_bytes()
        for path in elsewhere.storage.rglob("*")
        if path.is_file()
    }
    stored = {file.key: storage.open_file(file.key).read() for file in storage.listing()}
    assert found == stored and WEIGHTS in found.values()
    assert (elsewhere.home / "secret_key").read_text() == settings.SECRET_KEY
    assert (elsewhere.home / "secret_key").stat().st_mode & 0o077 == 0
    # the password and the token count there
    check = (
        "from webapp.accounts.models import User; from webapp.accounts import tokens;"
        f"print(User.objects.get(username='anna').check_password('correct horse'), tokens.authenticate('{secret}').user)"
    )
    assert elsewhere.manage("shell", "-v", "0", "-c", check).stdout.split() == ["True", "anna"]


def _url_of_this_database() -> str:
    import os

    from django.db import connection

    return f"{os.environ['DATABASE_URL'].rsplit('/', 1)[0]}/{connection.settings_dict['NAME']}"


def test_numbers_of_deleted_runs_are_not_given_out_again(
    lab: Run, target: Path, elsewhere: Elsewhere
) -> None:
    newest = Run.objects.create(**{**_values(lab), "name": "newest"})
    number = newest.pk
    newest.delete()
    backup(target)
    assert elsewhere.manage("restore", str(target)).returncode == 0
    assert elsewhere.query("SELECT nextval(pg_get_serial_sequence('runs_run', 'id'))")[0][0] > number


def _values(run: Run) -> dict[str, Any]:
    names = (
        "workspace", "base_model", "dataset_version", "dataset_name", "dataset_hash", "task", "method",
        "columns", "settings",
    )  # fmt: skip
    return {name: getattr(run, name) for name in names}


def test_a_second_backup_copies_only_what_is_new(lab: Run, target: Path, write: Write) -> None:
    assert "6 of 6 files were new" in backup(target)
    assert "0 of 6 files were new: 0 bytes copied." in backup(target)
    write(f"runs/{lab.pk}/logs/attempt-2.log", b"more")
    assert "1 of 7 files were new: 4 bytes copied." in backup(target)
    assert len(Place(target).names()) == 3
    said = backup(target, verify=True)
    assert said.count("whole  ") == 3


def test_older_backups_go_when_told_with_the_files_that_nobody_needs(
    lab: Run, target: Path, write: Write
) -> None:
    write(f"runs/{lab.pk}/logs/attempt-1.log", b"old log")
    backup(target)
    write(f"runs/{lab.pk}/logs/attempt-1.log", b"new log, longer")
    (target / "backups" / "20200101T000000.000000Z").mkdir()
    before = sum(1 for _ in (target / "files").glob("*/*"))
    assert "Removed the backup 20200101T000000.000000Z." in backup(target, keep=1)
    assert len(list((target / "backups").iterdir())) == 1
    assert sum(1 for _ in (target / "files").glob("*/*")) == before
    assert "whole" in backup(target, verify=True)


def test_what_nobody_owns_is_left_out(lab: Run, target: Path, write: Write) -> None:
    for key in (
        "runs/999999/artifacts/attempt-1/a", "datasets/999999/uploads/0", "incoming/0123",
        f"runs/{lab.pk}/checkpoints/9-1/half", f"runs/{lab.pk}/artifacts/attempt-0/lost",
        f"runs/{lab.pk}/logs/.a.0123456789abcdef0123456789abcdef.partial",
    ):  # fmt: skip
        write(key, b"x")
    assert "6 of 6 files were new" in backup(target)


# -- while things change -------------------------------------------------------------------------------
def test_the_snapshot_is_of_one_moment(
    lab: Run, target: Path, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Points and a run that are committed between two tables of the dump are in neither or in both."""
    import psycopg

    from runs.backup import database

    honest, seen = database._copy_out, []

    def and_then_write(table: str, columns: list[str], path: Path) -> int:
        rows = honest(table, columns, path)
        if not seen:
            with psycopg.connect(_url_of_this_database(), autocommit=True) as other:
                other.execute("DELETE FROM runs_metric")
                other.execute("UPDATE runs_run SET name = 'changed meanwhile'")
        seen.append(table)
        return rows

    monkeypatch.setattr(database, "_copy_out", and_then_write)
    backup(target)
    assert seen[0] < "runs_metric" and not Metric.objects.exists()
    assert elsewhere.manage("restore", str(target)).returncode == 0
    assert elsewhere.query("SELECT count(*) FROM runs_metric") == [(199,)]
    assert elsewhere.query("SELECT name FROM runs_run") == [(lab.name,)]


def test_a_checkpoint_that_is_replaced_while_files_are_copied_is_looked_for_again(
    lab: Run, target: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, rounds = storage.listing, []

    def pruned(prefix: str = "") -> Any:
        if not rounds:  # as a worker does when the next checkpoint stands
            new = f"runs/{lab.pk}/checkpoints/9-1"
            write(f"{new}/model.bin", b"newer")
            write(f"{new}/manifest.json", b'{"files": {"model.bin": {"size": 5}}}')
            Checkpoint.objects.all().delete()
            Checkpoint.objects.create(run=lab, step=9, storage_prefix=new, size_bytes=5)
            storage.delete_under(f"runs/{lab.pk}/checkpoints/5-1")
        rounds.append(prefix)
        return honest(prefix)

    monkeypatch.setattr(making.storage, "listing", pruned)
    said = backup(target)
    assert len(rounds) == 2 and "Not in storage" not in said
    manifest = kept(target)
    assert manifest["missing"] == [] and f"runs/{lab.pk}/checkpoints/9-1/model.bin" in manifest["files"]
    assert manifest["tables"]["runs_checkpoint"]["rows"] == 1


def test_a_file_that_goes_between_listing_and_copying_stops_nothing(
    lab: Run, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = storage.listing

    def vanishing(prefix: str = "") -> Any:
        for file in honest(prefix):
            if file.key.endswith("attempt-1.log"):
                storage.delete_file(file.key)
            yield file

    monkeypatch.setattr(making.storage, "listing", vanishing)
    assert "5 of 5 files were new" in backup(target)


def test_files_that_are_gone_for_good_are_told_and_do_not_come_back_as_checkpoints(
    lab: Run, target: Path, elsewhere: Elsewhere
) -> None:
    storage.delete_under(f"runs/{lab.pk}/checkpoints/5-1")
    said = backup(target)
    assert f"Not in storage, though the database names it: runs/{lab.pk}/checkpoints/5-1" in said
    assert elsewhere.manage("restore", str(target)).returncode == 0
    assert elsewhere.query("SELECT count(*) FROM runs_checkpoint") == [(0,)]
    assert elsewhere.query("SELECT message FROM runs_event WHERE kind = 'removed'") == [
        ("The checkpoint at step 5 was not in the backup that was restored.",)
    ]


def test_a_file_that_is_not_what_was_stored_is_told(lab: Run, target: Path, write: Write) -> None:
    key = Artifact.objects.get().storage_key
    write(key, b"rotten")
    assert f"Careful: {key} in storage is not what it was when it was stored." in backup(target)


# -- refused -------------------------------------------------------------------------------------------
def damage(target: Path, what: str) -> str:
    """Break a backup in some way; returns the sentence that then has to come."""
    place = Place(target)
    folder = place.backups / place.newest()
    largest = max((target / "files").glob("*/*"), key=lambda path: path.stat().st_size)
    if what == "no manifest":
        (folder / "manifest.json").unlink()
        return "The one that is there did not get to its end."
    if what == "manifest":
        text = (folder / "manifest.json").read_text()
        (folder / "manifest.json").write_text(text.replace('"runs_run"', '"runs_fun"', 1))
        return "The manifest of the backup"
    if what == "missing file":
        largest.unlink()
        return "model.safetensors is missing."
    if what == "flipped bit":
        data = bytearray(largest.read_bytes())
        data[1000] ^= 1
        largest.write_bytes(data)
        return "model.safetensors has other bytes than were written."
    table = folder / "database" / "runs_run.copy.gz"
    if what == "cut table":
        table.write_bytes(table.read_bytes()[:-5])
        return "the table runs_run has other bytes than were written."
    table.unlink()
    return "the table runs_run is missing."


@pytest.mark.parametrize(
    "what", ["no manifest", "manifest", "missing file", "flipped bit", "cut table", "missing table"]
)
def test_a_half_or_damaged_backup_is_refused_before_anything_is_changed(
    lab: Run, target: Path, elsewhere: Elsewhere, what: str
) -> None:
    backup(target)
    sentence = damage(target, what)
    with pytest.raises(CommandError, match=sentence.replace("(", r"\(")):
        backup(target, verify=True)
    done = elsewhere.manage("restore", str(target))
    assert done.returncode == 1 and sentence in done.stderr and "Traceback" not in done.stderr
    assert not elsewhere.storage.exists() or not any(elsewhere.storage.rglob("*"))
    assert elsewhere.query("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]


def test_the_next_backup_after_a_damaged_file_brings_it_again(lab: Run, target: Path) -> None:
    backup(target)
    largest = max((target / "files").glob("*/*"), key=lambda path: path.stat().st_size)
    largest.unlink()
    assert "1 of 6 files were new" in backup(target)
    assert largest.read_bytes() == WEIGHTS


def test_what_is_there_is_not_overwritten_unless_told(
    lab: Run, target: Path, elsewhere: Elsewhere, write: Write
) -> None:
    backup(target)
    assert elsewhere.manage("restore", str(target)).returncode == 0
    stray = elsewhere.storage / "runs" / "77" / "logs" / "a.log"
    stray.parent.mkdir(parents=True)
    stray.write_text("of what is overwritten")
    refused = elsewhere.manage("restore", str(target))
    assert refused.returncode == 1
    assert "This database is not empty: it has 1 person, 1 run, 1 dataset." in refused.stderr
    with_force = elsewhere.manage("restore", str(target), "--force")
    assert with_force.returncode == 0, with_force.stderr
    assert elsewhere.query("SELECT count(*) FROM runs_run") == [(1,)] and not stray.exists()


def test_a_storage_that_is_not_empty_is_refused(lab: Run, target: Path, elsewhere: Elsewhere) -> None:
    backup(target)
    there = elsewhere.storage / "runs" / "1" / "logs" / "a.log"
    there.parent.mkdir(parents=True)
    there.write_text("somebody's")
    refused = elsewhere.manage("restore", str(target))
    assert refused.returncode == 1 and "Storage is not empty: it has runs/1/logs/a.log." in refused.stderr
    assert there.read_text() == "somebody's"


def test_a_backup_of_a_newer_version_is_refused(lab: Run, target: Path, elsewhere: Elsewhere) -> None:
    backup(target)
    place = Place(target)
    manifest = place.manifest(place.newest())
    manifest.migrations.append(["runs", "9999_from_the_future"])
    manifest.version = "99.0"
    place.write_manifest(place.newest(), manifest)
    refused = elsewhere.manage("restore", str(target))
    assert refused.returncode == 1 and "made by a newer Tuneboard (99.0" in refused.stderr


def test_a_target_within_storage_is_refused(lab: Run, own_storage: Path) -> None:
    with pytest.raises(CommandError, match="TARGET lies in storage itself"):
        backup(own_storage / "backup")


def test_a_folder_without_backups_says_so(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="There is no backup in"):
        backup(tmp_path / "nothing", verify=True)


def test_the_secret_key_can_stay_out(lab: Run, target: Path, elsewhere: Elsewhere) -> None:
    assert "secret key" not in backup(target, without_secret_key=True)
    done = elsewhere.manage("restore", str(target))
    assert "The backup has no secret key: people sign in again" in done.stdout


def test_another_secret_key_in_the_environment_is_told(lab: Run, target: Path, elsewhere: Elsewhere) -> None:
    backup(target)
    done = elsewhere.manage("restore", str(target), SECRET_KEY="another")
    assert "SECRET_KEY is set to another key than the backup's" in done.stdout
    assert not (elsewhere.home / "secret_key").exists()


def test_a_backup_is_closed_to_others_on_the_host(lab: Run, target: Path) -> None:
    backup(target)
    assert target.stat().st_mode & 0o077 == 0
    place = Place(target)
    assert (place.backups / place.newest() / "secret_key").stat().st_mode & 0o077 == 0


def test_two_backups_at_once_to_one_place_are_refused(lab: Run, target: Path) -> None:
    place = Place(target)
    place.make()
    with place.locked(), pytest.raises(CommandError, match=r"Another backup to .* is under way"):
        backup(target)
    shutil.rmtree(target)
