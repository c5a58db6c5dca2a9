"""A message gets out once, whatever is slow, away or dead; and is given up in the end."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.conf import settings as current
from django.db import connection
from django.utils import timezone

from runs.execution import dispatch
from runs.models import Channel, Delivery
from runs.notifications import channels, duty, outbox, sending
from tests.runs.notifications.conftest import EVERYTHING, FAILURE, Ended, Receiver

pytestmark = pytest.mark.django_db(transaction=True)
Hook = tuple[Channel, str]
ROOT = Path(__file__).resolve().parents[3]


def due_again() -> None:
    Delivery.objects.filter(status="pending").update(next_attempt_at=timezone.now() - timedelta(seconds=1))


def the_one(channel: Channel) -> Delivery:
    return Delivery.objects.get(channel=channel)


def test_a_webhook_gets_what_happened_signed_and_once(
    lab: Any, receiver: Receiver, hook: Hook, end_a_run: Ended, settings: Any
) -> None:
    settings.PUBLIC_URL = "https://tune.example"
    run = end_a_run(name="Größe ✓")
    assert sending.send_due() == 1 and sending.send_due() == 0
    (post,) = receiver.got
    assert post.path == "/hook?from=tuneboard"
    assert post.headers["content-type"] == "application/json"
    assert post.headers["user-agent"].startswith("Tuneboard-Webhook/")
    assert abs(int(post.headers["webhook-timestamp"]) - time.time()) < 60
    body = json.loads(post.body)
    assert body["id"] == post.headers["webhook-id"] and body["type"] == "run.succeeded"
    assert body["text"].startswith("Größe ✓ has succeeded: Accuracy on the test rows: 87.5 %.")
    told = body["data"]["run"]
    assert told["url"] == f"https://tune.example/runs/{run.pk}/"
    assert (told["id"], told["name"], told["status"]) == (run.pk, "Größe ✓", "succeeded")
    assert told["metrics"] == {"accuracy": 0.875} and told["headline"]["value"] == 0.875
    assert told["failure"] is None and body["data"]["workspace"] == {"slug": "lab", "name": "Lab"}
    delivery = the_one(hook[0])
    assert (delivery.status, delivery.attempts, delivery.response_status) == ("sent", 1, 200)


def test_a_failure_is_told_with_its_reason(receiver: Receiver, hook: Hook, end_a_run: Ended) -> None:
    end_a_run(FAILURE)
    sending.send_due()
    body = json.loads(receiver.got[0].body)
    assert body["type"] == "run.failed"
    assert body["data"]["run"]["failure"] == {
        "code": "crashed",
        "message": "The trainer crashed.",
        "hint": "Try again.",
    }


def test_it_is_tried_again_later_and_later_with_the_same_id_then_given_up(
    receiver: Receiver, hook: Hook, end_a_run: Ended
) -> None:
    receiver.answers = [(503, {}, b"<b>closed</b> for lunch")]
    end_a_run()
    channel = hook[0]
    pauses = []
    for _ in sending.RETRY_SECONDS:
        assert sending.send_due() == 1 and sending.send_due() == 0  # not before its time
        delivery = the_one(channel)
        assert delivery.status == "pending"
        pauses.append((delivery.next_attempt_at - timezone.now()).total_seconds())
        due_again()
    assert all(abs(pause - wanted) < 20 for pause, wanted in zip(pauses, sending.RETRY_SECONDS, strict=True))
    assert sending.send_due() == 1
    delivery = the_one(channel)
    assert (delivery.status, delivery.attempts, delivery.response_status) == ("failed", 6, 503)
    assert delivery.last_error == "It answered 503: <b>closed</b> for lunch."
    assert len({post.headers["webhook-id"] for post in receiver.got}) == 1 and len(receiver.got) == 6
    channel.refresh_from_db()
    assert channel.enabled and channel.failing_since is not None


def test_a_receiver_that_comes_back_is_told_and_the_channel_is_sound_again(
    receiver: Receiver, hook: Hook, end_a_run: Ended
) -> None:
    receiver.answers = [(500, {}, b""), (204, {}, b"")]
    end_a_run()
    sending.send_due()
    due_again()
    sending.send_due()
    delivery = the_one(hook[0])
    assert (delivery.status, delivery.response_status, delivery.last_error) == ("sent", 204, "")
    hook[0].refresh_from_db()
    assert hook[0].failing_since is None and hook[0].last_error == ""


def test_a_receiver_says_when_to_come_again(receiver: Receiver, hook: Hook, end_a_run: Ended) -> None:
    receiver.answers = [(429, {"Retry-After": "900"}, b"")]
    end_a_run()
    sending.send_due()
    pause = (the_one(hook[0]).next_attempt_at - timezone.now()).total_seconds()
    assert 870 < pause <= 900


def test_redirects_are_not_followed(receiver: Receiver, hook: Hook, end_a_run: Ended) -> None:
    receiver.answers = [(302, {"Location": f"https://localhost:{receiver.port}/elsewhere"}, b"")]
    end_a_run()
    sending.send_due()
    assert [post.path for post in receiver.got] == ["/hook?from=tuneboard"]
    assert "redirects are not followed" in the_one(hook[0]).last_error


def test_an_address_that_has_become_private_is_refused_when_sending(
    receiver: Receiver, hook: Hook, end_a_run: Ended, settings: Any
) -> None:
    settings.ALLOWED_PRIVATE_NETWORKS = []
    end_a_run()
    sending.send_due()
    delivery = the_one(hook[0])
    assert delivery.status == "failed" and "private address" in delivery.last_error
    assert receiver.got == []


def test_a_channel_that_fails_for_days_is_switched_off_and_says_so(
    lab: Any, receiver: Receiver, hook: Hook, end_a_run: Ended
) -> None:
    channel = hook[0]
    receiver.answers = [(500, {}, b"")]
    end_a_run()
    Channel.objects.filter(pk=channel.pk).update(failing_since=timezone.now() - timedelta(days=5))
    Delivery.objects.filter(channel=channel).update(attempts=len(sending.RETRY_SECONDS))
    end_a_run(name="Next")
    sending.send_due()
    channel.refresh_from_db()
    assert not channel.enabled and channel.switched_off.startswith("Nothing has got through for 5 days.")
    assert set(channel.deliveries.values_list("status", flat=True)) == {"failed"}
    newest = Delivery.objects.filter(user=lab.member, in_app=True).first()
    assert newest is not None and newest.type == "channel.switched_off"
    assert "Mine: Nothing has got through" in newest.text
    before = len(receiver.got)
    end_a_run(name="Third")
    sending.send_due()
    assert len(receiver.got) == before
    channels.save(channel, **EVERYTHING)
    assert (channel.enabled, channel.switched_off, channel.failing_since) == (True, "", None)


def test_a_receiver_that_is_gone_is_asked_no_more(receiver: Receiver, hook: Hook, end_a_run: Ended) -> None:
    receiver.answers = [(410, {}, b"")]
    end_a_run()
    sending.send_due()
    hook[0].refresh_from_db()
    assert not hook[0].enabled and "410" in hook[0].switched_off
    assert the_one(hook[0]).status == "failed"


def test_a_failed_test_does_not_make_a_failing_channel(receiver: Receiver, hook: Hook) -> None:
    receiver.answers = [(500, {}, b"")]
    outbox.send_test(hook[0])
    sending.send_due()
    hook[0].refresh_from_db()
    assert hook[0].failing_since is None
    assert json.loads(receiver.got[0].body)["type"] == "test"


def test_two_dispatchers_at_once_send_each_message_once(
    lab: Any, receiver: Receiver, hook: Hook, end_a_run: Ended
) -> None:
    for number in range(12):
        end_a_run(name=f"Run {number}")
    pair = [sending.Sender(), sending.Sender()]
    end = time.monotonic() + 60
    while Delivery.objects.filter(status="pending").exists():
        assert time.monotonic() < end
        for sender in pair:
            sender.poke()
        time.sleep(0.05)
    for sender in pair:
        sender.close()
    ids = [post.headers["webhook-id"] for post in receiver.got]
    assert len(ids) == len(set(ids)) == 12
    assert set(Delivery.objects.values_list("attempts", "in_app")) == {(1, False), (0, True)}


def test_a_slow_receiver_holds_up_neither_the_dispatcher_nor_other_channels(
    lab: Any, receiver: Receiver, hook: Hook, end_a_run: Ended
) -> None:
    receiver.hold.clear()
    end_a_run(name="One")
    end_a_run(name="Two")
    sender = sending.Sender()
    sender.poke()
    until(lambda: len(receiver.got) == 1)
    sender.poke()  # returns at once: nothing else of this channel is sent meanwhile
    assert sending.claim() is None and len(receiver.got) == 1
    receiver.hold.set()
    until(lambda: Delivery.objects.filter(status="sent", in_app=False).count() == 2)
    sender.close()


def test_a_sender_that_died_gives_its_message_back(receiver: Receiver, hook: Hook, end_a_run: Ended) -> None:
    end_a_run()
    taken = sending.claim()
    assert taken is not None and sending.claim() is None
    Delivery.objects.filter(pk=taken.pk).update(claimed_until=timezone.now() - timedelta(seconds=1))
    again = sending.claim()
    assert again is not None and (again.pk, again.attempts) == (taken.pk, 2)
    sending._record(taken, sending.Outcome("too late"))  # the first is not dead after all
    assert Delivery.objects.get(pk=taken.pk).last_error == ""
    sending.deliver(again)
    assert Delivery.objects.get(pk=taken.pk).status == "sent"


def test_what_was_given_up_can_be_sent_again(receiver: Receiver, hook: Hook, end_a_run: Ended) -> None:
    receiver.answers = [(400, {}, b""), (200, {}, b"")]
    end_a_run()
    Delivery.objects.filter(channel=hook[0]).update(attempts=len(sending.RETRY_SECONDS))
    sending.send_due()
    assert the_one(hook[0]).status == "failed"
    assert outbox.send_again(the_one(hook[0])) and not outbox.send_again(the_one(hook[0]))
    sending.send_due()
    assert (the_one(hook[0]).status, the_one(hook[0]).attempts) == ("sent", 1)


def test_a_round_of_the_dispatcher_sends_finds_stalls_and_does_not_wait(
    lab: Any, receiver: Receiver, hook: Hook, end_a_run: Ended, worker: Any
) -> None:
    receiver.hold.clear()
    end_a_run()
    slow = lab.run(name="Slow", status="running", attempt=1, phase="training")
    long_ago = timezone.now() - timedelta(minutes=20)
    slow.attempts.create(
        number=1, worker=worker, started_at=long_ago, lease_until=timezone.now() + timedelta(hours=1)
    )
    dispatch.dispatch_once()  # comes back though the receiver has not answered
    assert slow.events.get().message == "No step for 20 minutes."
    receiver.hold.set()
    until(lambda: Delivery.objects.filter(type="run.succeeded", status="sent", in_app=False).exists())
    dispatch.dispatch_once()
    until(lambda: Delivery.objects.filter(type="run.stalled", status="sent", in_app=False).exists())
    assert duty._sender is not None
    duty._sender.close()
    duty._sender = None


def test_a_dispatcher_that_is_killed_while_it_sends_loses_nothing(
    receiver: Receiver, hook: Hook, end_a_run: Ended, settings: Any
) -> None:
    receiver.hold.clear()
    end_a_run()
    with dispatcher(receiver):
        until(lambda: len(receiver.got) == 1)
    assert the_one(hook[0]).status == "pending" and sending.claim() is None
    receiver.hold.set()
    Delivery.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))  # two minutes later
    with dispatcher(receiver):
        until(lambda: the_one(hook[0]).status == "sent")
    first, second = receiver.got
    assert first.headers["webhook-id"] == second.headers["webhook-id"]


@contextlib.contextmanager
def dispatcher(receiver: Receiver) -> Iterator[None]:
    """`manage.py dispatcher` on this test's database; it ends by SIGKILL."""
    database = connection.settings_dict
    host = database["HOST"]
    named = f"{quote(database['USER'])}:{quote(database['PASSWORD'])}" if database["USER"] else ""
    where = quote(host, safe="") if host.startswith("/") else host
    port = f":{database['PORT']}" if database["PORT"] else ""
    environment = {
        **os.environ,
        "DATABASE_URL": f"postgres://{named}@{where}{port}/{database['NAME']}",
        "SECRET_KEY": current.SECRET_KEY,
        "TUNEBOARD_ALLOW_PRIVATE_ADDRESSES": "127.0.0.0/8,::1",
        "TUNEBOARD_DISPATCH_SECONDS": "0.2",
    }
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "manage.py"), "dispatcher"], env=environment, cwd=ROOT
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_old_messages_go_and_those_that_wait_stay(hook: Hook, end_a_run: Ended) -> None:
    end_a_run()
    Delivery.objects.update(created_at=timezone.now() - timedelta(days=91))
    sending.prune()
    assert [row.status for row in Delivery.objects.all()] == ["pending"]


def until(holds: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_threads_are_idle_again_once_all_is_sent(receiver: Receiver, hook: Hook, end_a_run: Ended) -> None:
    end_a_run()
    sender = sending.Sender(threads=1)
    sender.poke()
    until(lambda: Delivery.objects.filter(status="sent", in_app=False).exists())
    sender.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("notify")]
