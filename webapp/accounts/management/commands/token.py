"""`manage.py token USERNAME`: a new API token, alone on standard output."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from webapp.accounts.access import first_workspace
from webapp.accounts.models import ApiToken, User, Workspace


class Command(BaseCommand):
    help = "Prints a new API token of a user. It acts in the workspace they were in last, or --workspace."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--workspace", help="slug of one of the user's workspaces")
        parser.add_argument("--name", default="made on the command line")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            known = ", ".join(User.objects.order_by("username").values_list("username", flat=True)[:20])
            raise CommandError(f"There is no user {options['username']!r}. There are: {known or 'none yet'}.")
        workspace: Workspace | None
        if options["workspace"]:
            workspace = Workspace.objects.filter(slug=options["workspace"], memberships__user=user).first()
        else:
            workspace = first_workspace(user)
        if workspace is None:
            raise CommandError(f"{user.username} does not belong to such a workspace.")
        _token, secret = ApiToken.issue(user, workspace, options["name"])
        self.stdout.write(secret)
