"""`manage.py backup`: database and storage into a folder, while everything runs."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from runs.backup.making import make_backup
from runs.backup.place import BackupError, Place
from runs.backup.servers import database_at_hand
from webapp.templatetags.ui import size


class Command(BaseCommand):
    help = "Copies database and storage into a folder. Files that an earlier backup there has are not copied again."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("target", type=Path, help="a folder, best on another disk")
        parser.add_argument(
            "--verify", action="store_true", help="make none, but read every byte of those there"
        )
        parser.add_argument("--keep", type=int, metavar="N", help="then remove all but the newest N")
        parser.add_argument(
            "--without-secret-key", action="store_true", help="leave the key out that encrypts secrets"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        keep = options["keep"]
        if keep is not None and keep < 1:
            raise CommandError("--keep takes a number from 1 on.")
        try:
            if options["verify"]:
                self.verify(Place(options["target"]))
                return
            with database_at_hand(alone=False):
                name, manifest = make_backup(
                    options["target"], self.stdout.write, secret_key=not options["without_secret_key"]
                )
            if keep is not None:
                place = Place(options["target"])
                with place.locked():
                    place.prune(keep, self.stdout.write)
        except (BackupError, OSError, DatabaseError) as error:
            raise CommandError(str(error).strip()) from error
        for key in manifest.missing[:20]:
            self.stderr.write(f"Not in storage, though the database names it: {key}")
        if more := len(manifest.missing[20:]):
            self.stderr.write(f"… and {more:,} more.")
        if manifest.has_secret_key:
            self.stdout.write("The secret key is in it: keep it from others.")
        self.stdout.write(f"Backup {name}: {len(manifest.files):,} files, {size(manifest.size_bytes)}.")

    def verify(self, place: Place) -> None:
        place.newest()
        seen: dict[str, str] = {}
        for name in place.names():
            manifest = place.check(name, seen)
            self.stdout.write(f"whole  {name}  {len(manifest.files):,} files, {size(manifest.size_bytes)}")
        for name in place.halves():
            self.stdout.write(f"half   {name}  it did not get to its end; `--keep` removes it")
