"""`manage.py sign_in_link USERNAME`: a link that signs its user in once."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from webapp.accounts.links import make_link
from webapp.accounts.models import User
from webapp.accounts.people import create_user


class Command(BaseCommand):
    help = "Prints a link that signs its user in once, within 24 hours; --create makes the user."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--create", action="store_true", help="make the user if there is none")
        parser.add_argument("--hours", type=float, default=24)

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None and options["create"]:
            user = create_user(options["username"])
        if user is None:
            raise CommandError(f"There is no user {options['username']!r}. Add --create to make one.")
        self.stdout.write(make_link(user, hours=options["hours"]))
