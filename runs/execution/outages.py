"""Going on through a database that is away for a while: restarted, failing over, unreachable."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import InterfaceError, InternalError, OperationalError, connection

log = logging.getLogger(__name__)
T = TypeVar("T")
# InternalError is how Postgres' word arrives that it has ended a session (webapp/database.py).
AWAY = (OperationalError, InterfaceError, InternalError)
PAUSE = 0.5  # seconds between two tries


def through_outages(operation: Callable[[], T], give_up: Callable[[], bool]) -> T:
    """Do it, again and again while the database is away; its error once `give_up` says so.

    A commit whose answer was lost is done a second time, so the operation must bear that.
    """
    said = False
    while True:
        try:
            return operation()
        except AWAY as error:
            connection.close()
            if give_up():
                raise
            if not said:
                log.warning("The database is away; trying again until it is back: %s", str(error).strip())
                said = True
            time.sleep(PAUSE)
