"""Polls with news, answered with what was rendered for somebody else a moment ago (webapp/fragments.py).

It stands before the session, behind `PollMiddleware`: one query says who looks, whether they may, and what they
may do. Everything else goes its usual way, and so does somebody who has signed out, has left the workspace, was
made inactive or has changed the password: the query does not find them, or their session does not fit any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, get_user_model
from django.db import InterfaceError, OperationalError, connection, models
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware
from django.urls import resolve
from django.utils.crypto import constant_time_compare

from webapp.accounts.access import EDITORS
from webapp.accounts.sessions import SessionStore
from webapp.fragments import answer, key_of, shelf
from webapp.polling import tagged

View = TypeVar("View", bound=Callable[..., HttpResponse])
# The session names its user, the user's membership the workspace, and the workspace the row. What the person may
# do, pages say by the workspace that they are in, which need not be the row's.
WHO_SEES_WHAT = """
SELECT person.password, session.session_data, here.role {columns}
FROM accounts_session session
JOIN accounts_user person ON person.id = session.user_id AND person.is_active
JOIN accounts_membership membership ON membership.user_id = person.id
JOIN {table} thing ON thing.workspace_id = membership.workspace_id
JOIN accounts_membership here ON here.user_id = person.id AND here.workspace_id = person.last_workspace_id
WHERE session.session_key = %s AND session.expire_date > now() AND thing.id = %s
"""


def watched_by_many(model: type[models.Model], at_once: tuple[str, ...]) -> Callable[[View], View]:
    """Marks a view whose fragment of one row of `model` is made by `render_shared`; see webapp/fragments.py."""

    def mark(view: View) -> View:
        view.watched_table = model._meta.db_table  # type: ignore[attr-defined]
        view.shown_at_once = at_once  # type: ignore[attr-defined]
        return view

    return mark


class WatchMiddleware:
    """Answers a poll from the shelf if what lies there will do."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        tag = request.headers.get("HX-PTag")
        if tag and request.method == "GET" and request.headers.get("HX-Request") and not request.GET:
            lying_ready = _lying_ready(request, tag)
            if lying_ready is not None:
                return lying_ready
        return self.get_response(request)


def _lying_ready(request: HttpRequest, tag: str) -> HttpResponse | None:
    session = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    pk, _, version = tag.partition("-")
    if not session or not (pk.isdecimal() and version.isdecimal() and len(tag) < 40):
        return None
    try:
        match = resolve(request.path_info)
    except Http404:
        return None
    table = getattr(match.func, "watched_table", None)
    if table is None or str(match.kwargs.get("pk")) != pk:
        return None
    found = _ask(table, getattr(match.func, "shown_at_once", ()), session, int(pk))
    if found is None:
        return None
    password, session_data, role, *state = found
    fragment = shelf.find(key_of(table, int(pk), role in EDITORS), tuple(state), int(version))
    if fragment is None or not _session_fits(session_data, password) or not _knows_its_token(request):
        return None
    newest = f"{pk}-{fragment.version}"
    if newest == tag:  # what has come since is not a second old
        response = HttpResponse(status=304)
        response["HX-PTag"] = tag
        return response
    return tagged(answer(request, fragment), newest)


def _ask(table: str, columns: tuple[str, ...], session: str, pk: int) -> tuple[Any, ...] | None:
    query = WHO_SEES_WHAT.format(table=table, columns="".join(f", thing.{name}" for name in columns))
    try:
        with connection.cursor() as cursor:
            cursor.execute(query, [session, pk])
            row: tuple[Any, ...] | None = cursor.fetchone()
            return row
    except (OperationalError, InterfaceError):
        connection.close()  # it was dead: what comes next opens another
        return None


def _session_fits(session_data: str, password: str) -> bool:
    """Whether the session was begun with the password that the person has now."""
    person = get_user_model()(password=password)
    kept = SessionStore().decode(session_data).get(HASH_SESSION_KEY, "")
    return constant_time_compare(kept, person.get_session_auth_hash())


def _knows_its_token(request: HttpRequest) -> bool:
    """Read the cookie that a form's token is made of; a first visit has none, and gets one on the usual way."""
    CsrfViewMiddleware(lambda request: HttpResponse()).process_request(request)
    return "CSRF_COOKIE" in request.META
