"""Brings a backup back: checked whole first, then files, then the database."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from django.conf import settings
from django.db import OperationalError, transaction
from django.db.models import F

from runs.backup import database
from runs.backup.place import BackupError, Manifest, Place
from runs.models import Checkpoint, Event, Run
from webapp import storage
from webapp.management.commands.up import write_privately

Say = Callable[[str], None]
OURS = ("runs", "datasets", "models", "uploads")


def restore(source: Path, say: Say, *, name: str | None = None, force: bool = False) -> Manifest:
    """Make database and storage what they were; raises BackupError before anything is changed."""
    place = Place(source)
    chosen = name or place.newest()
    say(f"Checking the backup {chosen}.")
    manifest = place.check(chosen)
    database.check_version(manifest)
    _check_target(force)
    folder = place.backups / chosen
    for key, entry in manifest.files.items():
        storage.put(place.content(str(entry["sha256"])), key)
    say(f"{len(manifest.files):,} files are back in storage.")
    try:
        database.load(manifest, folder)
    except OperationalError as error:
        raise BackupError(
            f"The database could not be filled: {str(error).strip()} Is something else using it? Stop the web "
            "server, the workers and the dispatcher, and restore again with --force."
        ) from error
    say(f"The database is back: {sum(entry['rows'] for entry in manifest.tables.values()):,} rows.")
    _forget_missing(manifest)
    for top in OURS:  # what a database that was overwritten had
        for stored in list(storage.listing(top)):
            if stored.key not in manifest.files:
                storage.delete_file(stored.key)
    _bring_secret_key(folder, say)
    return manifest


def _check_target(force: bool) -> None:
    if force:
        return
    if there := database.what_is_there():
        raise BackupError(
            f"This database is not empty: it has {there}. Restore into an empty one (a new TUNEBOARD_HOME), or say "
            "--force to overwrite it and its storage."
        )
    files = [file.key for top in OURS for file in islice(storage.listing(top), 1)]
    if files:
        raise BackupError(
            f"Storage is not empty: it has {files[0]}. Restore into an empty one, or say --force to overwrite it."
        )


def _forget_missing(manifest: Manifest) -> None:
    """Checkpoints whose files were gone when the backup was made can be resumed from no more."""
    for row in Checkpoint.objects.filter(storage_prefix__in=manifest.missing):
        with transaction.atomic():
            run: Run = row.run
            message = f"The checkpoint at step {row.step:,} was not in the backup that was restored."
            Event.objects.create(run=run, attempt=run.attempt, kind="removed", message=message)
            Run.objects.filter(pk=run.pk).update(row_version=F("row_version") + 1)
            row.delete()


def _bring_secret_key(folder: Path, say: Say) -> None:
    kept = folder / "secret_key"
    if not kept.exists():
        say(
            "The backup has no secret key: people sign in again, and what was encrypted with the old key has to be "
            "entered again, unless SECRET_KEY is set to what it was."
        )
    elif os.environ.get("SECRET_KEY"):
        if os.environ["SECRET_KEY"] != kept.read_text():
            say(
                "SECRET_KEY is set to another key than the backup's: people sign in again, and what was encrypted "
                "with the old key has to be entered again."
            )
    else:
        write_privately(settings.HOME / "secret_key", kept.read_text())
