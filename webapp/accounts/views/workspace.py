"""The workspace one is in: its members, and going to another."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from webapp.accounts import people
from webapp.accounts.access import owner_required
from webapp.accounts.forms import MemberForm, WorkspaceForm
from webapp.accounts.links import make_link
from webapp.accounts.models import Membership, User, Workspace
from webapp.requests import Request
from webapp.storable import findable


def _page(request: Request, status: int = 200, **extra: object) -> HttpResponse:
    memberships = request.workspace.memberships.select_related("user").order_by("user__username")
    context = {
        "memberships": memberships,
        "member_form": MemberForm(),
        "roles": Membership.Role.choices,
        "is_owner": request.role == Membership.Role.OWNER,
    }
    return render(request, "accounts/workspace.html", {**context, **extra}, status=status)


@require_GET
def workspace(request: Request) -> HttpResponse:
    return _page(request)


@require_POST
def switch_workspace(request: Request) -> HttpResponse:
    chosen = get_object_or_404(
        Workspace, slug=findable(request.POST.get("workspace", "")), memberships__user=request.user
    )
    User.objects.filter(pk=request.user.pk).update(last_workspace=chosen)
    return redirect("overview")


@require_POST
def create_workspace(request: Request) -> HttpResponse:
    form = WorkspaceForm(request.POST)
    if not form.is_valid():
        return _page(request, 422, workspace_form=form)
    created = people.create_workspace(form.cleaned_data["name"], request.user)
    User.objects.filter(pk=request.user.pk).update(last_workspace=created)
    messages.success(request, f"You are in {created.name} now.")
    return redirect("accounts:workspace")


@require_POST
@owner_required
def add_member(request: Request) -> HttpResponse:
    """Lets somebody in; a new person gets a link to come by, shown once."""
    form = MemberForm(request.POST)
    if not form.is_valid():
        return _page(request, 422, member_form=form)
    username = form.cleaned_data["username"]
    user = User.objects.filter(username=username).first()
    link = None
    if user is None:
        user = people.create_user(username)
        link = make_link(user, hours=72)
    _membership, added = Membership.objects.get_or_create(
        user=user, workspace=request.workspace, defaults={"role": form.cleaned_data["role"]}
    )
    if not added:
        form.add_error("username", f"{username} is a member already.")
        return _page(request, 422, member_form=form)
    if link is not None:
        User.objects.filter(pk=user.pk).update(last_workspace=request.workspace)
        return _page(request, new_link=link, new_member=username)
    messages.success(request, f"{username} is a member now.")
    return redirect("accounts:workspace")


@require_POST
@owner_required
def change_member(request: Request, pk: int) -> HttpResponse:
    membership = get_object_or_404(request.workspace.memberships, pk=pk)
    role = request.POST.get("role", "")
    if role not in Membership.Role.values:
        messages.error(request, "Choose one of the roles.")
        return redirect("accounts:workspace")
    try:
        people.change_role(membership, role)
    except people.LastOwner as refused:
        messages.error(request, str(refused))
    return redirect("accounts:workspace")


@require_POST
@owner_required
def remove_member(request: Request, pk: int) -> HttpResponse:
    membership = get_object_or_404(request.workspace.memberships, pk=pk)
    try:
        people.remove(membership)
    except people.LastOwner as refused:
        messages.error(request, str(refused))
    else:
        messages.success(request, f"{membership.user.username} is no member any more.")
    return redirect("accounts:workspace")
