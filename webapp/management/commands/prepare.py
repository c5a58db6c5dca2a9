"""`manage.py prepare`: what has to be done once before a new version serves: tables, files, first user."""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand

from webapp.accounts.models import User
from webapp.accounts.people import create_user
from webapp.accounts.sessions import SessionStore
from webapp.catalog.sync import sync_starters


class Command(BaseCommand):
    help = "Migrates the database, collects static files, lists the starters, makes the first user. Safe to repeat."

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", verbosity=0, interactive=False)
        call_command("collectstatic", verbosity=0, interactive=False)
        sync_starters()
        SessionStore.clear_expired()
        if not User.objects.filter(is_superuser=True).exists():
            create_user("admin", superuser=True)
            self.stdout.write("Made the first user, “admin”.")
