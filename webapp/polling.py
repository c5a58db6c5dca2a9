"""Polls that cost next to nothing: a fragment carries the tag of its row, and the same tag is answered 304.

A page shows a fragment with `hx-get`, `hx-trigger="every 2s"` and `hx-ptag="{{ tag }}"`. htmx's ptag
extension sends the last tag back in `HX-PTag`. A fragment of something that is over is rendered
without its trigger, so that polling ends; static/js/polling.js keeps hidden tabs from polling.

    @require_GET
    def progress(request, pk):
        dataset = get_object_or_404(Dataset.objects.visible_to(request.user), pk=pk)
        tag = tag_of(dataset)
        if unchanged := not_modified(request, tag):
            return unchanged
        return tagged(render(request, "datasets/detail.html#progress", {"dataset": dataset, "tag": tag}), tag)

Nearly all polls have nothing new. `@polls(Run)` has those answered before anything else happens, by one
query that asks at once who looks, whether they may, and whether the row is as it was. Where many watch the same
row, webapp/watching.py answers before that, with news as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, models
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.urls import resolve
from django.utils.cache import patch_cache_control, patch_vary_headers


class Versioned(Protocol):
    """A row whose `row_version` rises with every change that a page could show."""

    pk: Any
    row_version: int


def tag_of(row: Versioned) -> str:
    """Names what a fragment of this row shows; changes exactly when the row does."""
    return f"{row.pk}-{row.row_version}"


def tag_of_many(*parts: object) -> str:
    """A tag for a fragment of several rows: a short digest of whatever it depends on."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=9).hexdigest()


def not_modified(request: HttpRequest, tag: str) -> HttpResponse | None:
    """304 if the page already shows this tag; else None, and the view goes on to render."""
    return nothing_new(tag) if request.headers.get("HX-PTag") == tag else None


def nothing_new(tag: str) -> HttpResponse:
    """304, and the tag that stays."""
    response = HttpResponse(status=304)
    response["HX-PTag"] = tag
    return response


def tagged(response: HttpResponse, tag: str) -> HttpResponse:
    """Give a page or fragment its tag."""
    response["HX-PTag"] = tag
    return told_apart(response)


def told_apart(response: HttpResponse) -> HttpResponse:
    """Keep browsers from showing a fragment as the page that has the same address."""
    patch_vary_headers(response, ["HX-Request"])
    patch_cache_control(response, private=True, no_store=True)
    return response


View = TypeVar("View", bound=Callable[..., HttpResponse])
# The session names its user, the user's membership the workspace, and the workspace the row.
UNCHANGED = """
SELECT 1
FROM accounts_session session
JOIN accounts_user person ON person.id = session.user_id AND person.is_active
JOIN accounts_membership membership ON membership.user_id = person.id
JOIN {table} thing ON thing.workspace_id = membership.workspace_id
WHERE session.session_key = %s AND session.expire_date > now() AND thing.id = %s AND {version} = %s
"""


def polls(model: type[models.Model], version: str = "thing.row_version") -> Callable[[View], View]:
    """Marks a view whose fragment shows one row of `model`, an owned thing, named by `pk` in the address.

    `version`: what its tag has after the row's key, if not the row's own version; SQL about `thing`.
    """

    def mark(view: View) -> View:
        view.polled_table = model._meta.db_table  # type: ignore[attr-defined]
        view.polled_version = version  # type: ignore[attr-defined]
        return view

    return mark


def polls_by(statement: str) -> Callable[[View], View]:
    """As `polls`, for what is no one row: `statement` takes the session's key and the two numbers of the tag
    `<number>-<number>`, and finds a row if they are as they were and the session's user may still look."""

    def mark(view: View) -> View:
        view.polled_statement = statement  # type: ignore[attr-defined]
        return view

    return mark


class PollMiddleware:
    """Answers a poll that has nothing new with 304; everything else goes its usual way.

    It stands before the session: nothing is known of the request yet but its cookie. Somebody who has
    signed out, has left the workspace or was made inactive is not found by the query, and so gets the
    usual answer.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        tag = request.headers.get("HX-PTag")
        if tag and request.method == "GET" and request.headers.get("HX-Request") and _unchanged(request, tag):
            return nothing_new(tag)
        return self.get_response(request)


def _unchanged(request: HttpRequest, tag: str) -> bool:
    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    pk, _, version = tag.partition("-")
    if not key or not (pk.isdecimal() and version.isdecimal() and len(tag) < 40):
        return False
    try:
        match = resolve(request.path_info)
    except Http404:
        return False
    table = getattr(match.func, "polled_table", None)
    column = getattr(match.func, "polled_version", "")
    statement = getattr(match.func, "polled_statement", None)
    if statement is None and (table is None or str(match.kwargs.get("pk")) != pk):
        return False
    unchanged = statement or UNCHANGED.format(table=table, version=column)
    return row_of(unchanged, [key, int(pk), int(version)]) is not None


def row_of(statement: str, values: Sequence[str | int]) -> tuple[Any, ...] | None:
    """The one row that a request's first statement finds; None if none, or if the kept connection was dead."""
    # A kept connection would be tried by a statement of its own first, which costs as much as the answer.
    connection.health_check_done = True  # type: ignore[attr-defined]
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            row: tuple[Any, ...] | None = cursor.fetchone()
            return row
    except (OperationalError, InterfaceError):
        connection.close()  # what comes next opens another
        return None
