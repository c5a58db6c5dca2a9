"""What a view gets: Django's request with what the middleware adds."""

from __future__ import annotations

from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails

from webapp.accounts.models import User, Workspace


class Request(HttpRequest):
    """A signed-in person's request. Views that strangers may see take an HttpRequest."""

    user: User  # LoginRequiredMiddleware has turned strangers away
    htmx: HtmxDetails
    workspace: Workspace
    role: str  # of the person in the workspace
    may_edit: bool
