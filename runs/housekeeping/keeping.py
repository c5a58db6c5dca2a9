"""The mark that keeps a run from every retention rule."""

from __future__ import annotations

from django.db import transaction
from django.db.models import F

from runs.models import Event, Run
from webapp.accounts.models import User


def keep_run(run: Run, wanted: bool, by: User | None) -> None:
    """Set or take away the mark; the story says who did. Twice is once."""
    with transaction.atomic():
        changed = Run.objects.filter(pk=run.pk, keep=not wanted).update(
            keep=wanted, row_version=F("row_version") + 1
        )
        if changed:
            who = f" by {by.get_username()}" if by else ""
            message = f"Marked to be kept{who}." if wanted else f"No longer marked to be kept{who}."
            Event.objects.create(run=run, attempt=run.attempt, kind="kept", message=message)
