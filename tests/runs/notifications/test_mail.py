"""E-mail through a real mail server: what arrives, and what happens while the server is away."""

from __future__ import annotations

import email
import email.policy
import socket
from collections.abc import Iterator
from datetime import timedelta
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from django.utils import timezone

from runs.models import Channel, Delivery
from runs.notifications import channels, outbox, sending
from tests.runs.notifications.conftest import EVERYTHING, FAILURE, Ended

pytestmark = pytest.mark.django_db(transaction=True)


class Postbox:
    """Keeps what a mail server is given; refuses `refused@…`."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        if address.startswith("refused@"):
            return "550 5.1.1 No such person here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))  # type: ignore[arg-type]
        return "250 OK"


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def mail_settings(settings: Any, port: int) -> Any:
    """As webapp/settings.py makes them of TUNEBOARD_SMTP_URL (tests/webapp/test_configuration.py)."""
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"  # pytest-django puts another there
    settings.SMTP_URL = f"smtp://127.0.0.1:{port}"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
    settings.PUBLIC_URL = "https://tune.example"
    settings.DEFAULT_FROM_EMAIL = "Tuneboard <tuneboard@tune.example>"
    return settings


@pytest.fixture
def postbox(mail_settings: Any, port: int) -> Iterator[Postbox]:
    box = Postbox()
    server = Controller(box, hostname="127.0.0.1", port=port)
    server.start()
    yield box
    server.stop()


@pytest.fixture
def by_mail(lab: Any, mail_settings: Any) -> Channel:
    lab.member.email = "anna@lab.example"
    lab.member.save()
    return channels.add_email(lab.member, lab.workspace, **EVERYTHING)


def test_a_mail_says_run_and_outcome_and_leads_to_the_run(
    postbox: Postbox, by_mail: Channel, end_a_run: Ended
) -> None:
    run = end_a_run(name="Sätze <b>&\nmore")
    assert sending.send_due() == 1 and sending.send_due() == 0
    (mail,) = postbox.mails
    assert mail["Subject"] == "Sätze <b>& more has succeeded"
    assert (mail["To"], mail["From"]) == ("anna@lab.example", "Tuneboard <tuneboard@tune.example>")
    assert mail["Auto-Submitted"] == "auto-generated"
    plain, html = (mail.get_body((kind,)) for kind in ("plain", "html"))
    assert plain is not None and html is not None
    text = plain.get_content()
    assert "Accuracy on the test rows: 87.5 %" in text and f"https://tune.example/runs/{run.pk}/" in text
    assert "Sätze <b>& more" in text and "https://tune.example/notifications/settings/" in text
    assert f'<a href="https://tune.example/runs/{run.pk}/">' in html.get_content()
    assert "Sätze &lt;b&gt;&amp; more" in html.get_content() and "<b>&" not in html.get_content()


def test_a_failure_is_mailed_with_what_to_try(postbox: Postbox, by_mail: Channel, end_a_run: Ended) -> None:
    end_a_run(FAILURE)
    sending.send_due()
    body = postbox.mails[0].get_body(("plain",))
    assert body is not None
    assert "The trainer crashed. What to try: Try again." in body.get_content()
    assert "Reason: crashed" in body.get_content() and "secret line" not in postbox.mails[0].as_string()


def test_a_mail_server_that_is_away_gets_it_once_it_is_back(
    mail_settings: Any, port: int, by_mail: Channel, end_a_run: Ended
) -> None:
    end_a_run()
    sending.send_due()
    delivery = Delivery.objects.get(channel=by_mail)
    assert delivery.status == "pending" and "cannot be reached" in delivery.last_error
    by_mail.refresh_from_db()
    assert by_mail.failing_since is None  # no fault of this channel, so it is not switched off for it
    Delivery.objects.update(next_attempt_at=timezone.now() - timedelta(seconds=1))
    box = Postbox()
    server = Controller(box, hostname="127.0.0.1", port=port)
    server.start()
    try:
        sending.send_due()
    finally:
        server.stop()
    assert len(box.mails) == 1
    assert Delivery.objects.get(channel=by_mail).status == "sent"


def test_an_address_that_the_server_refuses_is_said(
    lab: Any, postbox: Postbox, by_mail: Channel, end_a_run: Ended
) -> None:
    lab.member.email = "refused@lab.example"
    lab.member.save()
    end_a_run()
    sending.send_due()
    delivery = Delivery.objects.get(channel=by_mail)
    assert (delivery.status, delivery.response_status) == ("failed", 550)
    assert delivery.last_error == "The mail server refuses refused@lab.example: 5.1.1 No such person here"


def test_a_mail_goes_to_the_address_that_the_profile_has_now(
    lab: Any, postbox: Postbox, by_mail: Channel
) -> None:
    outbox.send_test(by_mail)
    lab.member.email = "new@lab.example"
    lab.member.save()
    sending.send_due()
    assert [mail["To"] for mail in postbox.mails] == ["new@lab.example"]


def test_without_a_mail_server_nobody_can_ask_for_mail(lab: Any, settings: Any) -> None:
    settings.SMTP_URL = ""
    lab.member.email = "anna@lab.example"
    lab.member.save()
    with pytest.raises(channels.ChannelError, match="TUNEBOARD_SMTP_URL"):
        channels.add_email(lab.member, lab.workspace, **EVERYTHING)
