"""What stands behind the bell: a person's messages in Tuneboard itself, of all their workspaces."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models import F, QuerySet
from django.db.models.functions import Now

from runs.models import Delivery
from webapp.accounts.models import User

MOST_COUNTED = 100  # "99+" is as good
MOST_SHOWN = 3  # system notifications at once; a browser that comes back says how many more there are
NEWS_FOR = timedelta(hours=12)  # what is older is no news: it stands in the list

STATE = """
SELECT coalesce((SELECT max(d.id) FROM runs_delivery d WHERE d.user_id = person.id AND d.in_app), 0),
  (SELECT count(*) FROM (
     SELECT 1 FROM runs_delivery d WHERE d.user_id = person.id AND d.in_app AND d.read_at IS NULL LIMIT 100
  ) unread)
"""
OF_USER = f"""
SELECT newest, unread
FROM accounts_user person
CROSS JOIN LATERAL ({STATE}) state (newest, unread)
WHERE person.id = %s
"""  # noqa: S608 - made of constants
# For webapp/polling.py: session key, and the two numbers of the tag; a row if they are as they were.
UNCHANGED = f"""
SELECT 1
FROM accounts_session session
JOIN accounts_user person ON person.id = session.user_id AND person.is_active
CROSS JOIN LATERAL ({STATE}) state (newest, unread)
WHERE session.session_key = %s AND session.expire_date > now() AND newest = %s AND unread = %s
"""  # noqa: S608 - made of constants


def state(user_id: int) -> tuple[int, int]:
    """(id of the newest message or 0, how many are unread up to MOST_COUNTED): one query, two index look-ups."""
    with connection.cursor() as cursor:
        cursor.execute(OF_USER, [user_id])
        newest, unread = cursor.fetchone() or (0, 0)
    return int(newest), int(unread)


def tag(newest: int, unread: int) -> str:
    """What the page's poll sends back (webapp/polling.py)."""
    return f"{newest}-{unread}"


def messages_of(user: User) -> QuerySet[Delivery]:
    """Newest first, of workspaces that they still belong to."""
    found: QuerySet[Delivery] = Delivery.objects.filter(
        user=user, in_app=True, channel__workspace__memberships__user=F("user")
    )
    return found.select_related("run", "channel__workspace").order_by("-id")


def news(user: User, since: int) -> list[dict[str, Any]]:
    """What a browser may show of the unread messages after `since`, oldest first: {id, title, text, type}."""
    fresh = messages_of(user).filter(pk__gt=since, read_at=None, created_at__gt=Now() - NEWS_FOR)
    rows = list(fresh[: MOST_SHOWN + 1])
    items = [{"id": row.pk, "title": row.title, "text": row.text, "type": row.type} for row in rows]
    if len(items) > MOST_SHOWN:
        more = fresh.count() - MOST_SHOWN + 1
        items = items[: MOST_SHOWN - 1]
        items.append({"id": 0, "title": f"{more} more notifications", "text": "", "type": "more"})
    return list(reversed(items))


def mark_read(user: User, pk: int | None = None) -> None:
    """One message, or all of them."""
    unread = Delivery.objects.filter(user=user, in_app=True, read_at=None)
    (unread if pk is None else unread.filter(pk=pk)).update(read_at=Now())
