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
row, those with news are answered from there, too (webapp/fragments.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, get_user_model
from django.db import InterfaceError, OperationalError, connection, models
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware
from django.urls import resolve
from django.utils.cache import patch_cache_control, patch_vary_headers
from django.utils.crypto import constant_time_compare

from webapp.accounts.access import EDITORS
from webapp.accounts.sessions import SessionStore
from webapp.fragments import answer, key_of, shelf


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
    return _nothing_new(tag) if request.headers.get("HX-PTag") == tag else None


def _nothing_new(tag: str) -> HttpResponse:
    response = HttpResponse(status=304)
    response["HX-PTag"] = tag
    return response


def tagged(response: HttpResponse, tag: str) -> HttpResponse:
    """Give a page or fragment its tag, and keep browsers from showing a fragment as the page."""
    response["HX-PTag"] = tag
    patch_vary_headers(response, ["HX-Request"])
    patch_cache_control(response, private=True, no_store=True)
    return response


View = TypeVar("View", bound=Callable[..., HttpResponse])
# The session names its user, the user's membership the workspace, and the workspace the row. What the person may
# do, pages say by the workspace that they are in, which need not be the row's.
WHAT_IS_NEW = """
SELECT thing.row_version, person.password, session.session_data, here.role {columns}
FROM accounts_session session
JOIN accounts_user person ON person.id = session.user_id AND person.is_active
JOIN accounts_membership membership ON membership.user_id = person.id
JOIN {table} thing ON thing.workspace_id = membership.workspace_id
LEFT JOIN accounts_membership here ON here.user_id = person.id AND here.workspace_id = person.last_workspace_id
WHERE session.session_key = %s AND session.expire_date > now() AND thing.id = %s
"""


def polls(model: type[models.Model], shared: tuple[str, ...] = ()) -> Callable[[View], View]:
    """Marks a view whose fragment shows one row of `model`, an owned thing, named by `pk` in the address.

    `shared`: that fragment is made by `webapp.fragments`, and these columns of the row must be shown as they are.
    """

    def mark(view: View) -> View:
        view.polled_table = model._meta.db_table  # type: ignore[attr-defined]
        view.shared_columns = shared  # type: ignore[attr-defined]
        return view

    return mark


class PollMiddleware:
    """Answers a poll that has nothing new with 304, and one whose news are rendered already with them.

    It stands before the session: nothing is known of the request yet but its cookies. Everything else goes its
    usual way, and so does somebody who has signed out, has left the workspace, was made inactive or has changed
    the password: the query does not find them, or their session does not fit any more.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        tag = request.headers.get("HX-PTag")
        if tag and request.method == "GET" and request.headers.get("HX-Request"):
            known = _known(request, tag)
            if known is not None:
                return known
        return self.get_response(request)


def _known(request: HttpRequest, tag: str) -> HttpResponse | None:
    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    pk, _, version = tag.partition("-")
    if not key or not (pk.isdecimal() and version.isdecimal() and len(tag) < 40):
        return None
    try:
        match = resolve(request.path_info)
    except Http404:
        return None
    table = getattr(match.func, "polled_table", None)
    if table is None or str(match.kwargs.get("pk")) != pk:
        return None
    columns = match.func.shared_columns  # type: ignore[attr-defined]
    found = _ask(table, columns, key, int(pk))
    if found is None:
        return None
    newest, password, session_data, role, *state = found
    seen = int(version)
    if newest == seen:
        return _nothing_new(tag)
    if not columns or role is None or request.GET:
        return None
    fragment = shelf.find(key_of(table, int(pk), role in EDITORS), tuple(state), seen)
    if fragment is None or not _session_fits(session_data, password):
        return None
    if fragment.version == seen:  # what came since is not a second old
        return _nothing_new(tag)
    if not _knows_its_token(request):
        return None
    return tagged(answer(request, fragment), f"{pk}-{fragment.version}")


def _ask(table: str, columns: tuple[str, ...], key: str, pk: int) -> tuple[Any, ...] | None:
    # A kept connection would be tried by a statement of its own first, which costs as much as the answer.
    connection.health_check_done = True  # type: ignore[attr-defined]
    query = WHAT_IS_NEW.format(table=table, columns="".join(f", thing.{name}" for name in columns))
    try:
        with connection.cursor() as cursor:
            cursor.execute(query, [key, pk])
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
