"""Messages by e-mail, through the server of TUNEBOARD_SMTP_URL, to the address of the person's profile."""

from __future__ import annotations

from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection
from django.template.loader import render_to_string
from django.urls import reverse

from runs.models import Delivery
from runs.notifications import messages


def is_set_up() -> bool:
    """Whether this deployment has a mail server."""
    return bool(settings.SMTP_URL)


def compose(delivery: Delivery, recipient: str) -> EmailMultiAlternatives:
    """Plain text with the same in simple HTML."""
    context = {
        "delivery": delivery,
        "facts": messages.mail_facts(delivery),
        "address": messages.address(delivery),
        "settings_address": settings.PUBLIC_URL + reverse("notifications:settings"),
        "workspace": delivery.channel.workspace,
    }
    host = settings.PUBLIC_URL.partition("://")[2].partition("/")[0].partition(":")[0] or "localhost"
    mail = EmailMultiAlternatives(
        subject=" ".join(delivery.title.split()),  # a line break in a header is another header
        body=render_to_string("notifications/mail.txt", context),
        to=[recipient],
        headers={
            "Message-ID": f"<{delivery.key.hex}@{host}>",  # tried again, it is the same mail
            "Auto-Submitted": "auto-generated",
            "X-Auto-Response-Suppress": "All",
        },
    )
    mail.attach_alternative(render_to_string("notifications/mail.html", context), "text/html")
    return mail


def send(delivery: Delivery, recipient: str) -> None:
    """Hand it to the mail server; raises smtplib.SMTPException or OSError."""
    mail = compose(delivery, recipient)
    mail.connection = get_connection(timeout=settings.EMAIL_TIMEOUT)
    mail.send()
