"""API tokens: what a script shows instead of a password."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import F, Q
from django.utils import timezone

from webapp.accounts.models import ApiToken, digest


def authenticate(secret: str) -> ApiToken | None:
    """The token with this secret, if its user is active and still belongs to its workspace."""
    token = (
        ApiToken.objects.select_related("user", "workspace")
        .filter(digest=digest(secret), user__is_active=True)
        .filter(workspace__memberships__user=F("user"))
        .first()
    )
    if token is not None:
        now = timezone.now()
        # Once a minute is enough to tell a token that is used from one that is not.
        ApiToken.objects.filter(
            Q(last_used_at=None) | Q(last_used_at__lt=now - timedelta(minutes=1)), pk=token.pk
        ).update(last_used_at=now)
    return token
