"""Who people are, which workspace they work in, and what lets a script act for them."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.utils import timezone


class User(AbstractUser):
    """A person. The workspace shown after sign-in is the last one they were in."""

    last_workspace = models.ForeignKey(
        "Workspace", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )


class Workspace(models.Model):
    """Who owns and sees a thing: every dataset, run and own model belongs to one."""

    name = models.CharField(max_length=100)
    slug = models.SlugField(max_length=100, unique=True)
    members = models.ManyToManyField(
        settings.AUTH_USER_MODEL, through="Membership", related_name="workspaces"
    )
    created_at = models.DateTimeField(default=timezone.now)
    # Set by site administrators; what is None is unlimited.
    max_concurrent_runs = models.PositiveIntegerField(null=True, blank=True)
    gpu_hours_a_day = models.FloatField(null=True, blank=True)  # GPUs × hours, from midnight, server's time
    queue_weight = models.FloatField(default=1)  # its share of the workers beside other workspaces

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """What a person may do in a workspace."""

    class Role(models.TextChoices):
        OWNER = "owner", "Owner"
        MEMBER = "member", "Member"
        VIEWER = "viewer", "Viewer"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.MEMBER)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "workspace"], name="one_membership_each")]


_Owned = TypeVar("_Owned", bound="OwnedModel")


class OwnedQuerySet(models.QuerySet[_Owned]):
    """Where every query on an owned thing starts."""

    def visible_to(self, user: Any) -> OwnedQuerySet[_Owned]:
        """The rows that this user may see: those of the workspaces they belong to."""
        return self.filter(workspace__memberships__user=user)


class OwnedModel(models.Model):
    """A thing that belongs to a workspace."""

    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now)

    objects: models.Manager[Any] = OwnedQuerySet.as_manager()

    class Meta:
        abstract = True


def digest(secret: str) -> str:
    """How a secret that was shown once is kept: SHA-256 is enough for 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()


class ApiToken(models.Model):
    """Lets a script act as its user in one workspace. Only the digest is kept."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    workspace = models.ForeignKey(Workspace, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=12)
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    last_used_at = models.DateTimeField(null=True, blank=True)

    @classmethod
    def issue(cls, user: User, workspace: Workspace, name: str) -> tuple[ApiToken, str]:
        """Make a token; the secret is returned here and never again."""
        secret = f"tb_{secrets.token_urlsafe(32)}"
        token = cls.objects.create(
            user=user, workspace=workspace, name=name, prefix=secret[:8], digest=digest(secret)
        )
        return token, secret


class SignInLink(models.Model):
    """A link that signs its user in once, printed by `manage.py up`."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)


class Session(AbstractBaseSession):
    """A browser that is signed in. It names its user in a column, so that a poll is one query (webapp/polling.py)."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="sessions"
    )

    @classmethod
    def get_session_store_class(cls) -> Any:
        from webapp.accounts.sessions import SessionStore

        return SessionStore
