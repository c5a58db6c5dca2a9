"""What docs/notifications.md shows is true: its Python verifies what is sent, its message looks like a real one."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from runs.models import Channel
from runs.notifications import sending, webhooks
from tests.runs.notifications.conftest import Ended, Receiver

PAGE = (Path(__file__).resolve().parents[3] / "docs/notifications.md").read_text()


def verify() -> Any:
    found = re.search(r"```python\n(.*?)```", PAGE, re.S)
    assert found
    names: dict[str, Any] = {}
    exec(found.group(1), names)
    return names["verify"]


@pytest.mark.django_db(transaction=True)
def test_the_snippet_verifies_what_arrives_and_nothing_else(
    receiver: Receiver, hook: tuple[Channel, str], end_a_run: Ended
) -> None:
    check, (_, secret) = verify(), hook
    end_a_run()
    sending.send_due()
    post = receiver.got[0]
    assert check(secret, post.headers, post.body)
    assert not check(secret, post.headers, post.body.replace(b"succeeded", b"failed"))
    assert not check(webhooks.new_secret(), post.headers, post.body)
    assert not check(secret, {**post.headers, "webhook-id": "msg_other"}, post.body)
    old = str(int(time.time()) - 600)
    replayed = {
        **post.headers,
        "webhook-timestamp": old,
        "webhook-signature": webhooks.sign(secret, post.headers["webhook-id"], int(old), post.body),
    }
    assert not check(secret, replayed, post.body)


def test_signatures_are_those_of_the_specification() -> None:
    """The example of the specification's own reference libraries."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    signature = webhooks.sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.django_db(transaction=True)
def test_the_message_of_the_page_has_the_fields_of_a_real_one(
    receiver: Receiver, hook: tuple[Channel, str], end_a_run: Ended
) -> None:
    shown = re.search(r"^    \{\n      \"id\".*?^    \}$", PAGE, re.S | re.M)
    assert shown
    example = json.loads(shown.group())
    end_a_run()
    sending.send_due()
    sent = json.loads(receiver.got[0].body)
    assert example.keys() == sent.keys()
    assert example["data"].keys() == sent["data"].keys()
    assert example["data"]["run"].keys() == sent["data"]["run"].keys()
    assert example["data"]["run"]["headline"].keys() == sent["data"]["run"]["headline"].keys()


def test_the_page_names_every_message_and_the_tries() -> None:
    for happening in Channel.Happening.values:
        assert f"`run.{happening}`" in PAGE
    assert sending.RETRY_SECONDS == (30, 120, 600, 3600, 14400)
    assert "30 seconds, 2 minutes, 10 minutes, an hour and 4 hours" in " ".join(PAGE.split())
