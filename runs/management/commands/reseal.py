"""`manage.py reseal`: encrypts the secrets in the database under the newest SECRET_KEY (docs/configuration.md)."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Encrypts the secrets of webhooks under SECRET_KEY; those of SECRET_KEY_FALLBACKS can be dropped then."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        from runs.notifications.channels import reseal_all

        done, lost = reseal_all()
        self.stdout.write(f"{done} webhook(s) are encrypted under the newest key.")
        if lost:
            self.stdout.write(
                f"{lost} cannot be read with any key that is known: put the old one into SECRET_KEY_FALLBACKS and "
                "run this again, or have their owners make them anew."
            )
