"""The one clock that counts: the database's. Those of hosts are set, and differ.

What is stored is timed by it (`Now()` in a query, `db_default=Now()` in a model); how long something takes
within a process goes by `time.monotonic()`.
"""

from __future__ import annotations

from datetime import datetime
from typing import cast

from django.db import connection


def now() -> datetime:
    """The time by the database's clock, where a query cannot say `Now()` itself."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        return cast(datetime, cursor.fetchone()[0])
