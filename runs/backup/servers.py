"""The database for a command that may come while `manage.py up` does not run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import dj_database_url
from django.conf import settings
from django.db import OperationalError, connection

from webapp.embedded import Postgres
from webapp.management.commands.up import make_home, take_lock


@contextmanager
def database_at_hand(*, alone: bool) -> Iterator[None]:
    """Within, the database answers: where it is the embedded one, and down, it is started meanwhile.

    `alone`: raises CommandError while `manage.py up` runs on this home with its own database.
    """
    if os.environ.get("DATABASE_URL") or (not alone and _answers()):
        yield
        return
    make_home(settings.HOME)
    lock = take_lock(settings.HOME)
    postgres = Postgres(settings.HOME / "postgres")
    try:
        found = dj_database_url.parse(postgres.start())
        connection.close()
        connection.settings_dict.update(
            {name: found[name] for name in ("NAME", "USER", "HOST", "PORT", "PASSWORD")}
        )
        yield
    finally:
        connection.close()
        postgres.stop()
        lock.close()


def _answers() -> bool:
    try:
        connection.ensure_connection()
    except OperationalError:
        return False
    return True
