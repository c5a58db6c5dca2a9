"""What is asked for all the time, answered by one query that says who looks, whether they may, and what they may do.

Two kinds of views are: a fragment that many watch, answered with what was rendered for somebody else a moment ago
(webapp/fragments.py), rendered if nothing of the kind is there, or with 304 where nothing is new; and an answer
that is the same for all who may see a row.

It stands before the session and everything else that a page needs. What it cannot answer goes its usual way, and
so does somebody who has signed out, has left the workspace, was made inactive or has changed the password: the
query does not find them, or their session does not fit any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, get_user_model
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware
from django.urls import resolve
from django.utils.crypto import constant_time_compare

from webapp.accounts.access import EDITORS
from webapp.accounts.sessions import SessionStore
from webapp.fragments import Made, answer, key_of, render_shared, shelf
from webapp.polling import nothing_new, row_of, tagged

View = TypeVar("View", bound=Callable[..., HttpResponse])
# The session names its user, the user's membership the workspace, and the workspace the row. What the person may
# do, pages say by the workspace that they are in, which need not be the row's: as WorkspaceMiddleware finds it.
WHO_SEES_WHAT = """
SELECT person.password, session.session_data, here.role {columns}
FROM accounts_session session
JOIN accounts_user person ON person.id = session.user_id AND person.is_active
JOIN accounts_membership membership ON membership.user_id = person.id
JOIN {table} thing ON thing.workspace_id = membership.workspace_id
CROSS JOIN LATERAL (
    SELECT role FROM accounts_membership WHERE user_id = person.id
    ORDER BY workspace_id IS DISTINCT FROM person.last_workspace_id, workspace_id LIMIT 1) here
WHERE session.session_key = %s AND session.expire_date > now() AND thing.id = %s
"""


@dataclass(frozen=True)
class Seen:
    """A row that somebody may see: its table and key, the columns that were asked for, and who it is."""

    table: str
    pk: int
    values: tuple[Any, ...]
    may_edit: bool
    password: str
    session_data: str

    def session_fits(self) -> bool:
        """Whether the session was begun with the password that the person has now."""
        person = get_user_model()(password=self.password)
        kept = SessionStore().decode(self.session_data).get(HASH_SESSION_KEY, "")
        return constant_time_compare(kept, person.get_session_auth_hash())


@dataclass(frozen=True)
class Early:
    """How a view about one row, named by `pk` in its address, is answered early."""

    table: str
    columns: tuple[str, ...]
    suits: Callable[[HttpRequest, int], bool]
    answer: Callable[[HttpRequest, Seen], HttpResponse | None]


def watched_by_many(
    model: type[models.Model], at_once: tuple[str, ...], live: Callable[[int], Made | None]
) -> Callable[[View], View]:
    """Marks a view that shows one row of `model` in a fragment which `render_shared` makes; see webapp/fragments.py.

    `live` reads what the fragment of a row by its key is made of, for somebody who may see it.
    """

    def answered(request: HttpRequest, seen: Seen) -> HttpResponse | None:
        return _with_the_newest(request, seen, at_once, live)

    def mark(view: View) -> View:
        early = Early(model._meta.db_table, ("row_version", *at_once), _is_poll, answered)
        view.answered_early = early  # type: ignore[attr-defined]
        return view

    return mark


def same_for_all(
    model: type[models.Model], columns: tuple[str, ...], made: Callable[..., HttpResponse]
) -> Callable[[View], View]:
    """Marks a view whose answer is `made(request, pk, *values of columns)` for everybody who may see the row."""

    def made_early(request: HttpRequest, seen: Seen) -> HttpResponse | None:
        return made(request, seen.pk, *seen.values) if seen.session_fits() else None

    def mark(view: View) -> View:
        early = Early(model._meta.db_table, columns, lambda request, pk: True, made_early)
        view.answered_early = early  # type: ignore[attr-defined]
        return view

    return mark


class WatchMiddleware:
    """Answers what is marked so if its one query will do."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        session = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
        if session and request.method == "GET" and (early := _early(request, session)) is not None:
            if early.status_code != 304:  # it leaves before the middleware that says so
                early["Content-Length"] = str(len(early.content))
            return early
        return self.get_response(request)


def _early(request: HttpRequest, session: str) -> HttpResponse | None:
    try:
        match = resolve(request.path_info)
    except Http404:
        return None
    early: Early | None = getattr(match.func, "answered_early", None)
    if early is None or not early.suits(request, pk := match.kwargs["pk"]):
        return None
    columns = "".join(f", thing.{name}" for name in early.columns)
    found = row_of(WHO_SEES_WHAT.format(table=early.table, columns=columns), [session, pk])
    if found is None:
        return None
    password, session_data, role, *values = found
    return early.answer(
        request, Seen(early.table, pk, tuple(values), role in EDITORS, password, session_data)
    )


def _is_poll(request: HttpRequest, pk: int) -> bool:
    """Whether it asks for the fragment alone, and says which version of it is known."""
    tag = request.headers.get("HX-PTag", "")
    row, _, version = tag.partition("-")
    is_tag = row == str(pk) and version.isdecimal() and len(tag) < 40
    return is_tag and bool(request.headers.get("HX-Request")) and not request.GET


def _with_the_newest(
    request: HttpRequest, seen: Seen, at_once: tuple[str, ...], live: Callable[[int], Made | None]
) -> HttpResponse | None:
    tag = request.headers["HX-PTag"]
    known = int(tag.partition("-")[2])
    version, *state = seen.values
    if version == known:
        return nothing_new(tag)
    if not seen.session_fits() or not _knows_its_token(request):
        return None
    fragment = shelf.find(key_of(seen.table, seen.pk), seen.may_edit, tuple(state), known)
    if fragment is None:
        made = live(seen.pk)
        return None if made is None else render_shared(request, made, at_once, seen.may_edit)
    newest = f"{seen.pk}-{fragment.version}"
    # What has come since is not a second old.
    return nothing_new(tag) if newest == tag else tagged(answer(request, fragment), newest)


def _knows_its_token(request: HttpRequest) -> bool:
    """Read the cookie that a form's token is made of; a first visit has none, and gets one on the usual way."""
    CsrfViewMiddleware(lambda request: HttpResponse()).process_request(request)
    return "CSRF_COOKIE" in request.META
