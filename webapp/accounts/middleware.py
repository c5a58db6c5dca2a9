"""Gives each signed-in request its workspace and what the person may do there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponseBase

from webapp.accounts.access import EDITORS
from webapp.accounts.models import Membership


class WorkspaceMiddleware:
    """Sets `request.workspace`, `request.role` and `request.may_edit`; one query, strangers none."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> HttpResponseBase:
        request.workspace, request.role, request.may_edit = None, None, False
        if request.user.is_authenticated:
            mine = list(
                Membership.objects.filter(user=request.user)
                .select_related("workspace")
                .order_by("workspace_id")
            )
            last = request.user.last_workspace_id
            membership = next((each for each in mine if each.workspace_id == last), mine[0] if mine else None)
            if membership is not None:
                request.workspace, request.role = membership.workspace, membership.role
                request.may_edit = membership.role in EDITORS
        return self.get_response(request)
