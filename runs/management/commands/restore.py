"""`manage.py restore`: database and storage as a backup has them."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from runs.backup.place import BackupError
from runs.backup.restoring import restore
from runs.backup.servers import database_at_hand


class Command(BaseCommand):
    help = "Brings a backup back into an empty home, or empty DATABASE_URL and STORAGE_URL. Checks it whole first."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("source", type=Path, help="the folder that `manage.py backup` was given")
        parser.add_argument("--name", help="which of the backups there; the newest if left out")
        parser.add_argument("--force", action="store_true", help="overwrite what is there")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with database_at_hand(alone=True):
                manifest = restore(
                    options["source"], self.stdout.write, name=options["name"], force=options["force"]
                )
        except (BackupError, OSError, DatabaseError) as error:
            raise CommandError(str(error).strip()) from error
        self.stdout.write(f"Restored what was there at {manifest.made_at}. Start Tuneboard as usual.")
