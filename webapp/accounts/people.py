"""Making people and workspaces, and letting people into them."""

from __future__ import annotations

from django.contrib.auth.base_user import BaseUserManager
from django.db import IntegrityError, transaction
from django.utils.text import slugify

from webapp.accounts.models import Membership, User, Workspace


class LastOwner(Exception):
    """A workspace keeps at least one owner."""


def create_workspace(name: str, owner: User) -> Workspace:
    """A new workspace that `owner` owns; its slug is made from the name and is unique."""
    base = slugify(name)[:90] or "workspace"
    for number in range(1, 1000):
        try:
            with transaction.atomic():
                workspace = Workspace.objects.create(
                    name=name, slug=base if number == 1 else f"{base}-{number}"
                )
                Membership.objects.create(user=owner, workspace=workspace, role=Membership.Role.OWNER)
                return workspace
        except IntegrityError:
            if not Workspace.objects.filter(slug__startswith=base).exists():
                raise
    raise RuntimeError(f"there are too many workspaces called {name!r}")


@transaction.atomic
def create_user(
    username: str, *, email: str = "", superuser: bool = False, password: str | None = None
) -> User:
    """A new person with a workspace of their own. Without a password they come by a sign-in link."""
    user = User(username=username, email=BaseUserManager.normalize_email(email))
    user.is_superuser = user.is_staff = superuser
    if password is None:
        user.set_unusable_password()
    else:
        user.set_password(password)
    user.save()
    user.last_workspace = create_workspace(f"{username}’s workspace", user)
    user.save(update_fields=["last_workspace"])
    return user


def _keep_an_owner(membership: Membership) -> None:
    owners = Membership.objects.select_for_update().filter(
        workspace=membership.workspace, role=Membership.Role.OWNER
    )
    if membership.role == Membership.Role.OWNER and len(owners) == 1:
        raise LastOwner("This is the only owner of the workspace: make somebody else an owner first.")


@transaction.atomic
def change_role(membership: Membership, role: str) -> None:
    """Raises LastOwner where nobody would own the workspace any more."""
    if role != Membership.Role.OWNER:
        _keep_an_owner(membership)
    Membership.objects.filter(pk=membership.pk).update(role=role)


@transaction.atomic
def remove(membership: Membership) -> None:
    """Take somebody out of a workspace, and their tokens for it; raises LastOwner as above."""
    _keep_an_owner(membership)
    membership.user.api_tokens.filter(workspace=membership.workspace).delete()
    membership.delete()
