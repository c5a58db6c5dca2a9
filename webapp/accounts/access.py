"""Who may do what: the workspace one is in, and what one's role there allows."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpResponseBase

from webapp.accounts.models import Membership, User, Workspace

EDITORS = (Membership.Role.OWNER, Membership.Role.MEMBER)


def first_workspace(user: User) -> Workspace | None:
    """The workspace a person was in last, else the oldest of theirs, else None."""
    mine = Workspace.objects.filter(memberships__user=user)
    last = mine.filter(pk=user.last_workspace_id).first() if user.last_workspace_id else None
    return last or mine.order_by("pk").first()


def role_in(user: User, workspace: Workspace) -> str | None:
    """The person's role there, or None if they do not belong to it."""
    return Membership.objects.filter(user=user, workspace=workspace).values_list("role", flat=True).first()


def may_edit(user: User, workspace: Workspace) -> bool:
    """Owners and members may change things; viewers only look."""
    return role_in(user, workspace) in EDITORS


def editor_required(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """For views that change something: a viewer gets the 403 page with the reason."""

    @wraps(view)
    def checked(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        check_may_edit(request)
        return view(request, *args, **kwargs)

    return checked


def check_may_edit(request: Any) -> None:
    """For a view that viewers may look at, where it is to change something; raises PermissionDenied."""
    if not request.may_edit:
        raise PermissionDenied("You may look at this workspace but not change it. Ask one of its owners.")


def owner_required(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """For views about the workspace itself."""

    @wraps(view)
    def checked(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if request.role != Membership.Role.OWNER:
            raise PermissionDenied("Only an owner of this workspace may do this.")
        return view(request, *args, **kwargs)

    return checked


def superuser_required(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """For what concerns all workspaces: site administrators, as `manage.py up` makes one."""

    @wraps(view)
    def checked(request: Any, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_superuser:
            raise PermissionDenied("Only a site administrator may do this.")
        return view(request, *args, **kwargs)

    return checked
