"""A fragment that many people watch is rendered once a second for all of them, not once for each.

What is shared is the fragment as somebody of the same rights in the same workspace sees it, and nothing of the
person: it is rendered without a request, and where a form's token belongs stands a mark, in whose place each gets
their own. A template that asks for more of the request than `NobodysRequest` has does not render at all, so that
nothing personal can get into a fragment unnoticed. Whoever renders it does so for the other rights as well if
somebody with those watches: what the page is made of has been read then, which costs more than the rendering.

    AT_ONCE = ("status", "desired", "attempt")

    @polls(Run)
    @watched_by_many(Run, AT_ONCE, live)  # live(pk) -> Made | None
    def detail(request, pk): …
        return render_shared(request, made, AT_ONCE, request.may_edit)

AT_ONCE names the columns of the row that may not be shown as they were a moment ago: where one has changed, and
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

from webapp.polling import tag_of, tagged

FRESH_SECONDS = 1.0  # half of what passes between two polls
STALE_SECONDS = 5.0  # as long as somebody else is just rendering the next
MOST = 500  # fragments of 10 to 100 KB
Key = tuple[str, int, str]  # the row's table and key, and the time zone that it is shown in


@dataclass(frozen=True)
class Fragment:
    """What was rendered, of which version of the row, and when (monotonic seconds)."""

    html: str
    version: int
    state: tuple[Any, ...]
    rendered_at: float


class Shelf:
    """The newest fragment of each row for each rights, in this process. Any thread may ask."""

    def __init__(self) -> None:
        self._fragments: OrderedDict[tuple[Key, bool], Fragment] = OrderedDict()
        self._rendering: dict[Key, float] = {}
        self._asked: dict[tuple[Key, bool], float] = {}
        self._lock = threading.Lock()

    def find(self, key: Key, may_edit: bool, state: tuple[Any, ...], seen: int) -> Fragment | None:
        """One that will do for somebody who has seen this version; None: render, others wait for it meanwhile."""
        now = time.monotonic()
        with self._lock:
            self._asked[key, may_edit] = now
            if len(self._asked) > 2 * MOST:
                self._asked = {each: at for each, at in self._asked.items() if now - at < STALE_SECONDS}
            found = self._fragments.get((key, may_edit))
            if found is not None and found.state == state and found.version >= seen:
                age = now - found.rendered_at
                if age < FRESH_SECONDS or (age < STALE_SECONDS and self._rendering.get(key, 0) > now):
                    self._fragments.move_to_end((key, may_edit))
                    return found
            self._rendering[key] = now + FRESH_SECONDS
            return None

    def is_asked_for(self, key: Key, may_edit: bool) -> bool:
        """Whether somebody of these rights watches the row."""
        with self._lock:
            return time.monotonic() - self._asked.get((key, may_edit), -STALE_SECONDS) < STALE_SECONDS

    def keep(self, key: Key, may_edit: bool, fragment: Fragment) -> None:
        with self._lock:
            self._rendering.pop(key, None)
            found = self._fragments.get((key, may_edit))
            if found is None or found.version <= fragment.version:
                self._fragments[key, may_edit] = fragment
                self._fragments.move_to_end((key, may_edit))
            while len(self._fragments) > MOST:
                self._fragments.popitem(last=False)
            if len(self._rendering) > MOST:
                self._rendering.clear()

    def clear(self) -> None:
        with self._lock:
            self._fragments.clear()
            self._rendering.clear()
            self._asked.clear()


shelf = Shelf()


class PersonalFragment(RuntimeError):
    """A shared fragment asks for what differs between people; it belongs into the page around it."""


class NobodysRequest:
    """All that a shared fragment may know of whoever looks at it, and that it is no whole page."""

    def __init__(self, may_edit: bool) -> None:
        self.may_edit, self.htmx = may_edit, True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in {"current_app", "resolver_match"}:  # what {% url %} tries
            raise AttributeError(name)
        raise PersonalFragment(f"A fragment that is shared cannot show request.{name}.")


def key_of(table: str, pk: int) -> Key:
    return table, pk, get_current_timezone_name()


@dataclass(frozen=True)
class Made:
    """What a fragment is rendered of: the row that it shows, and the rest that its template needs."""

    row: Any
    template: str
    context: dict[str, Any]


def render_shared(request: HttpRequest, made: Made, at_once: tuple[str, ...], may_edit: bool) -> HttpResponse:
    """Render a fragment for everybody who may see the row, by their rights, and answer with this person's."""
    row, began = made.row, time.monotonic()
    state = tuple(getattr(row, name) for name in at_once)
    key = key_of(row._meta.db_table, row.pk)

    def rendered(may_edit: bool) -> Fragment:
        known = made.context | {"request": NobodysRequest(may_edit), "csrf_token": _mark()}
        return Fragment(render_to_string(made.template, known), row.row_version, state, began)

    mine = rendered(may_edit)
    theirs = rendered(not may_edit) if shelf.is_asked_for(key, not may_edit) else None
    shelf.keep(key, may_edit, mine)  # not before both are there: until then nobody else begins
    if theirs is not None:
        shelf.keep(key, not may_edit, theirs)
    return tagged(answer(request, mine), tag_of(row))


def answer(request: HttpRequest, fragment: Fragment) -> HttpResponse:
    """With this person's own token where the template has one."""
    html = fragment.html
    if _mark() in html:
        html = html.replace(_mark(), get_token(request))
    return HttpResponse(html)


def _mark() -> str:
    """Stands for a token. Nobody can write it into a name or a log, as nobody knows it."""
    global _made
    _made = _made or salted_hmac("webapp.fragments", "token", algorithm="sha256").hexdigest()
    return _made


_made = ""
