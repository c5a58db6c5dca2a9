"""Sessions whose client froze or vanished in the middle of a transaction do not hold its locks for ever.

A process that is stopped, or a host whose cable is pulled, between two statements leaves rows locked until
Postgres hears from it: hours, with the usual settings. Nobody could then take its runs over, or cancel them.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.backends.signals import connection_created

LIMIT = "SET idle_in_transaction_session_timeout = %s"


def end_forgotten_transactions() -> None:
    """From now on, each connection of this process is ended where it idles in a transaction for a whole lease.

    For processes whose transactions are short: web server, worker, dispatcher.
    """
    connection_created.connect(_limit, dispatch_uid="end_forgotten_transactions")


def _limit(connection: Any, **_: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(LIMIT, [int(settings.LEASE_SECONDS * 1000)])
