"""The pages of notifications: what is behind the bell, and the ways to be told."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from runs.models import Channel, Delivery
from runs.notifications import channels, inbox, outbox, sending
from tests.runs.conftest import text_of
from tests.runs.notifications.conftest import EVERYTHING, FAILURE, Ended, Receiver
from webapp.secrets import unseal

pytestmark = pytest.mark.django_db(transaction=True)
FORM = {"enabled": "on", "happenings": ["failed", "stalled"], "scope": "workspace", "stall_minutes": "7"}


def page(browser: Client, path: str) -> str:
    return text_of(browser.get(path).content.decode())


def bell(browser: Client) -> str:
    html = browser.get("/notifications/settings/").content.decode()
    found = re.search(r'<a class="bell.*?</a>', html, re.S)
    assert found
    return found.group()


def test_the_bell_counts_what_is_unread_and_the_list_leads_to_the_runs(
    browser: Client, lab: Any, end_a_run: Ended
) -> None:
    assert "data-bell-count hidden" in bell(browser)
    run = end_a_run()
    end_a_run(FAILURE, name="<i>Second</i>")
    assert "data-bell-count>2<" in bell(browser)
    html = browser.get("/notifications/").content.decode()
    assert "First try has succeeded" in text_of(html) and "&lt;i&gt;Second&lt;/i&gt; has failed" in html
    assert html.count("told-new") == 2
    opened = browser.get(f"/notifications/{Delivery.objects.get(run=run).pk}/")
    assert opened["Location"] == f"/runs/{run.pk}/"
    assert "data-bell-count>1<" in bell(browser)
    browser.post("/notifications/read/")
    assert "data-bell-count hidden" in bell(browser)
    assert "Mark all as read" not in page(browser, "/notifications/")


def test_an_empty_list_leads_on(browser: Client) -> None:
    assert "Nothing yet" in page(browser, "/notifications/")


def test_notifications_are_seen_by_nobody_else(lab: Any, browser: Client, end_a_run: Ended) -> None:
    end_a_run()
    viewer = Client()
    viewer.force_login(lab.viewer)
    assert "First try" not in page(viewer, "/notifications/")
    assert viewer.get(f"/notifications/{Delivery.objects.get().pk}/").status_code == 404
    assert viewer.get("/notifications/new/?since=0").json()["items"] == []


# -- the poll -----------------------------------------------------------------------------------------
def news(browser: Client, since: int, tag: str = "") -> Any:
    return browser.get(f"/notifications/new/?since={since}", headers={"HX-Request": "true", "HX-PTag": tag})


def test_news_come_once_and_what_was_read_is_none(browser: Client, end_a_run: Ended) -> None:
    end_a_run()
    answer = news(browser, 0).json()
    (item,) = answer["items"]
    assert item["title"] == "First try has succeeded" and item["id"] == answer["newest"]
    assert answer["unread"] == 1
    assert news(browser, item["id"]).json()["items"] == []
    browser.post("/notifications/read/")
    assert news(browser, 0).json() | {"tag": "", "newest": 0} == {
        "tag": "",
        "newest": 0,
        "unread": 0,
        "items": [],
    }


def test_nothing_new_is_one_query(browser: Client, end_a_run: Ended, django_assert_num_queries: Any) -> None:
    end_a_run()
    tag = news(browser, 0)["HX-PTag"]
    with django_assert_num_queries(1):
        assert news(browser, 0, tag).status_code == 304
    end_a_run()
    assert news(browser, 0, tag).status_code == 200


def test_a_browser_that_has_signed_out_hears_nothing(browser: Client, end_a_run: Ended) -> None:
    end_a_run()
    tag = news(browser, 0)["HX-PTag"]
    browser.logout()
    assert news(browser, 0, tag).status_code == 302


def test_many_at_once_are_not_shown_one_by_one(browser: Client, end_a_run: Ended) -> None:
    for number in range(6):
        end_a_run(name=f"Run {number}")
    items = news(browser, 0).json()["items"]
    assert [item["title"] for item in items] == [
        "4 more notifications",
        "Run 4 has succeeded",
        "Run 5 has succeeded",
    ]


@pytest.mark.parametrize("since", ["", "x", "-1", "9" * 30])
def test_a_cursor_that_is_none_is_no_error(browser: Client, since: str) -> None:
    assert browser.get(f"/notifications/new/?since={since}").json()["items"] == []


# -- ways to be told ----------------------------------------------------------------------------------
def test_everybody_chooses_what_they_are_told_in_tuneboard(lab: Any) -> None:
    viewer = Client()
    viewer.force_login(lab.viewer)
    assert "In Tuneboard and in this browser" in page(viewer, "/notifications/settings/")
    viewer.post("/notifications/settings/browser/", FORM)
    channel = Channel.objects.get(user=lab.viewer)
    assert (channel.enabled, channel.happenings) == (True, ["failed", "stalled"])
    assert (channel.scope, channel.stall_minutes) == ("workspace", 7)
    answer = viewer.post("/notifications/settings/browser/", {**FORM, "stall_minutes": "0"})
    assert answer.status_code == 422 and "greater than or equal to 1" in text_of(answer.content.decode())


def test_without_a_mail_server_the_page_says_so(browser: Client, settings: Any) -> None:
    settings.SMTP_URL = ""
    assert "This server sends no e-mail yet" in page(browser, "/notifications/settings/")
    answer = browser.post("/notifications/settings/email/", FORM)
    assert answer.status_code == 422 and not Channel.objects.filter(kind="email").exists()


def test_mail_is_switched_on_for_the_address_of_the_profile(browser: Client, lab: Any, settings: Any) -> None:
    settings.SMTP_URL = "smtp://mail.example"
    assert "no e-mail address yet" in page(browser, "/notifications/settings/")
    lab.member.email = "anna@lab.example"
    lab.member.save()
    assert "anna@lab.example" in page(browser, "/notifications/settings/")
    for _ in range(2):
        assert browser.post("/notifications/settings/email/", FORM).status_code == 302
    channel = Channel.objects.get(kind="email")
    assert channel.happenings == ["failed", "stalled"]
    shown = page(browser, f"/notifications/channels/{channel.pk}/")
    assert "anna@lab.example" in shown and "New secret" not in shown
    assert browser.post(f"/notifications/channels/{channel.pk}/secret/").status_code == 404


def test_a_webhook_is_made_tested_changed_and_removed(browser: Client, receiver: Receiver) -> None:
    answer = browser.post("/notifications/webhooks/add/", {**FORM, "name": "Chat", "url": receiver.url})
    made = answer.content.decode()
    secret = re.search(r"whsec_[A-Za-z0-9+/=]+", made)
    assert secret and "shown this once" in text_of(made)
    channel = Channel.objects.get(kind="webhook")
    path = f"/notifications/channels/{channel.pk}/"
    assert receiver.url in channels.url_of(channel) and receiver.url not in channel.sealed_url
    assert secret.group() not in browser.get(path).content.decode()
    assert "Chat" in page(browser, "/notifications/settings/")

    browser.post(f"{path}test/")
    assert "Waiting" in page(browser, path)
    sending.send_due()
    assert "Sent 200" in re.sub(r"\s+", " ", page(browser, path))

    renewed = re.search(r"whsec_[A-Za-z0-9+/=]+", browser.post(f"{path}secret/").content.decode())
    assert renewed and renewed.group() != secret.group()
    browser.post(path, {**FORM, "name": "Other", "url": receiver.url + "2", "enabled": ""})
    channel.refresh_from_db()
    assert (channel.name, channel.enabled) == ("Other", False)
    assert channels.url_of(channel) == receiver.url + "2"
    browser.post(f"{path}remove/")
    assert not Channel.objects.filter(kind="webhook").exists()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://10.0.0.1/", "private address"),
        ("http://8.8.8.8/", "Use https"),
        ("https://no-such-host.invalid/", "cannot be found"),
        ("nonsense", "https://"),
        ("", "required"),
    ],
)
def test_an_address_that_will_not_do_is_refused_beside_its_field(
    browser: Client, url: str, said: str
) -> None:
    answer = browser.post("/notifications/webhooks/add/", {**FORM, "url": url, "name": "kept"})
    html = answer.content.decode()
    assert answer.status_code == 422 and said in text_of(html)
    assert 'value="kept"' in html and 'aria-invalid="true"' in html
    assert not Channel.objects.filter(kind="webhook").exists()


def test_what_was_sent_stands_there_and_can_be_sent_again(
    lab: Any, browser: Client, receiver: Receiver, end_a_run: Ended
) -> None:
    channel, _ = channels.add_webhook(lab.member, lab.workspace, name="", url=receiver.url, **EVERYTHING)
    receiver.answers = [(400, {}, b"<script>"), (200, {}, b"")]
    end_a_run()
    path = f"/notifications/channels/{channel.pk}/"
    sending.send_due()
    html = browser.get(path).content.decode()
    assert "It answered 400: &lt;script&gt;." in html and "Tried again" in text_of(html)
    Delivery.objects.filter(channel=channel).update(status="failed")
    assert "Given up" in page(browser, path)
    browser.post(f"/notifications/deliveries/{channel.deliveries.get().pk}/send/")
    sending.send_due()
    assert "Sent" in page(browser, path)


def test_a_webhook_whose_key_is_lost_says_so_and_can_be_entered_anew(
    lab: Any, browser: Client, receiver: Receiver, settings: Any, end_a_run: Ended
) -> None:
    channel, _ = channels.add_webhook(lab.member, lab.workspace, name="", url=receiver.url, **EVERYTHING)
    browser.get("/")
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]  # sessions go on; the secrets' own key is gone
    channel.sealed_url = channel.sealed_secret = "gAAAAA"
    channel.save()
    path = f"/notifications/channels/{channel.pk}/"
    assert "SECRET_KEY was changed" in page(browser, path)
    assert "Key lost" in page(browser, "/notifications/settings/")
    end_a_run()
    sending.send_due()
    assert Delivery.objects.get(channel=channel).status == "failed"
    browser.post(path, {**FORM, "url": receiver.url})
    browser.post(f"{path}secret/")
    outbox.send_test(channel)
    sending.send_due()
    assert len(receiver.got) == 1


def test_webhooks_outlive_a_new_secret_key(lab: Any, receiver: Receiver, settings: Any) -> None:
    channel, secret = channels.add_webhook(lab.member, lab.workspace, name="", url=receiver.url, **EVERYTHING)
    old = settings.SECRET_KEY
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another", [old]
    said = io.StringIO()
    call_command("reseal", stdout=said)
    assert said.getvalue().startswith("1 webhook(s) are encrypted under the newest key.")
    settings.SECRET_KEY_FALLBACKS = []
    channel.refresh_from_db()
    assert (channels.url_of(channel), unseal(channel.sealed_secret)) == (receiver.url, secret)
    settings.SECRET_KEY = "a third"
    call_command("reseal", stdout=said)
    assert "1 cannot be read" in said.getvalue()


def test_nobody_sees_or_touches_the_channels_of_others(lab: Any, receiver: Receiver) -> None:
    channel, _ = channels.add_webhook(lab.member, lab.workspace, name="Mine", url=receiver.url, **EVERYTHING)
    delivery = outbox.send_test(channel)
    for person in (lab.viewer, lab.stranger):
        other = Client()
        other.force_login(person)
        assert "Mine" not in page(other, "/notifications/settings/")
        for path in ("", "test/", "secret/", "remove/"):
            assert other.post(f"/notifications/channels/{channel.pk}/{path}").status_code == 404
        assert other.get(f"/notifications/channels/{channel.pk}/").status_code == 404
        assert other.post(f"/notifications/deliveries/{delivery.pk}/send/").status_code == 404
    assert channel.deliveries.count() == 1


def test_unread_messages_are_counted_up_to_a_hundred(lab: Any, browser: Client, end_a_run: Ended) -> None:
    end_a_run()
    own = Delivery.objects.get()
    Delivery.objects.bulk_create(
        Delivery(channel=own.channel, user=own.user, in_app=True, status="sent", type="test", message={})
        for _ in range(120)
    )
    assert inbox.state(lab.member.pk)[1] == 100
    assert "data-bell-count>99+<" in bell(browser)
