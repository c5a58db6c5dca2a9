"""Links that sign their user in once. They travel through a terminal or a message, so they end soon."""

from __future__ import annotations

import secrets
from datetime import timedelta

from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from webapp.accounts.models import SignInLink, User, digest


def make_link(user: User, *, hours: float = 24) -> str:
    """A full address that signs `user` in once, for so many hours."""
    secret = secrets.token_urlsafe(24)
    SignInLink.objects.filter(expires_at__lt=timezone.now() - timedelta(days=7)).delete()
    SignInLink.objects.create(
        user=user, digest=digest(secret), expires_at=timezone.now() + timedelta(hours=hours)
    )
    return f"{settings.PUBLIC_URL}{reverse('accounts:link', args=[secret])}"


def redeem(secret: str) -> User | None:
    """The link's user, the first time and before it ends; None ever after."""
    used = SignInLink.objects.filter(
        digest=digest(secret), used_at=None, expires_at__gt=timezone.now(), user__is_active=True
    ).update(used_at=timezone.now())
    if not used:
        return None
    return SignInLink.objects.select_related("user").get(digest=digest(secret)).user
