"""A fragment that many people watch is rendered once a second for all of them, not once for each.

What is shared is the fragment as somebody of the same rights in the same workspace sees it, and nothing of the
person: it is rendered without a request, and where a form's token belongs stands a mark, in whose place each gets
their own. A template that asks for more of the request than `SHARED` names does not render at all, so that
nothing personal can get into a fragment unnoticed.

    @polls(Run)
    @watched_by_many(Run, at_once=("status", "desired", "attempt"))
    def detail(request, pk): …
        return tagged(render_shared(request, detail, run, "runs/detail.html#live", context), tag)

`at_once` names the columns of the row that may not be shown as they were a moment ago: where one has changed, and
where whoever asks has seen something newer, the fragment is rendered again. webapp/watching.py answers with it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.template.loader import render_to_string
from django.utils.crypto import salted_hmac
from django.utils.timezone import get_current_timezone_name

FRESH_SECONDS = 1.0  # half of what passes between two polls
STALE_SECONDS = 5.0  # as long as somebody else is just rendering the next
MOST = 500  # fragments of 10 to 100 KB
SHARED = ("may_edit",)  # what a shared fragment may know of the request


@dataclass(frozen=True)
class Fragment:
    """What was rendered, of which version of the row, and when (monotonic seconds)."""

    html: str
    version: int
    state: tuple[Any, ...]
    rendered_at: float


class Shelf:
    """The newest fragment of each (row, rights), in this process. Any thread may ask."""

    def __init__(self) -> None:
        self._fragments: OrderedDict[tuple[Any, ...], Fragment] = OrderedDict()
        self._rendering: dict[tuple[Any, ...], float] = {}
        self._lock = threading.Lock()

    def find(self, key: tuple[Any, ...], state: tuple[Any, ...], seen: int) -> Fragment | None:
        """One that will do for somebody who has seen this version; None: render, others wait for it meanwhile."""
        now = time.monotonic()
        with self._lock:
            found = self._fragments.get(key)
            if found is not None and found.state == state and found.version >= seen:
                age = now - found.rendered_at
                if age < FRESH_SECONDS or (age < STALE_SECONDS and self._rendering.get(key, 0) > now):
                    self._fragments.move_to_end(key)
                    return found
            self._rendering[key] = now + FRESH_SECONDS
            return None

    def keep(self, key: tuple[Any, ...], fragment: Fragment) -> None:
        with self._lock:
            self._rendering.pop(key, None)
            found = self._fragments.get(key)
            if found is None or found.version <= fragment.version:
                self._fragments[key] = fragment
                self._fragments.move_to_end(key)
            while len(self._fragments) > MOST:
                self._fragments.popitem(last=False)
            if len(self._rendering) > MOST:
                self._rendering.clear()

    def clear(self) -> None:
        with self._lock:
            self._fragments.clear()
            self._rendering.clear()


shelf = Shelf()


class PersonalFragment(RuntimeError):
    """A shared fragment asks for what differs between people; it belongs into the page around it."""


class NobodysRequest:
    """All that a shared fragment may know of whoever looks at it."""

    def __init__(self, request: Any) -> None:
        self.__dict__.update({name: getattr(request, name) for name in SHARED})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in {"current_app", "resolver_match"}:  # what {% url %} tries
            raise AttributeError(name)
        raise PersonalFragment(f"A fragment that is shared cannot show request.{name}.")


def key_of(table: str, pk: int, may_edit: bool) -> tuple[Any, ...]:
    return table, pk, may_edit, get_current_timezone_name()


def render_shared(request: Any, view: Any, row: Any, template: str, context: dict[str, Any]) -> HttpResponse:
    """Render a fragment for everybody who may see the row with these rights, and answer with it."""
    began = time.monotonic()
    known = context | {"request": NobodysRequest(request), "csrf_token": _mark()}
    html = render_to_string(template, known)
    state = tuple(getattr(row, name) for name in view.shown_at_once)
    fragment = Fragment(html, row.row_version, state, began)
    shelf.keep(key_of(row._meta.db_table, row.pk, request.may_edit), fragment)
    return answer(request, fragment)


def answer(request: HttpRequest, fragment: Fragment) -> HttpResponse:
    """With this person's own token where the template has one."""
    html = fragment.html
    if _mark() in html:
        html = html.replace(_mark(), get_token(request))
    response = HttpResponse(html)
    response["Content-Length"] = str(len(response.content))  # it may leave before the middleware that says so
    return response


def _mark() -> str:
    """Stands for a token. Nobody can write it into a name or a log, as nobody knows it."""
    global _made
    _made = _made or salted_hmac("webapp.fragments", "token", algorithm="sha256").hexdigest()
    return _made


_made = ""
