"""Notifications by script: one's own channels, and what was sent through them."""

from __future__ import annotations

from typing import Any

import pytest

from runs.models import Channel
from runs.notifications import sending
from tests.runs.conftest import Script
from tests.runs.notifications.conftest import FAILURE, Ended, Receiver

pytestmark = pytest.mark.django_db(transaction=True)


def delete(script: Script, path: str) -> Any:
    return script.client.delete(f"/api/v1/{path}")


def test_a_webhook_by_script_from_its_making_to_its_end(
    script: Script, receiver: Receiver, end_a_run: Ended
) -> None:
    made = script.post("notifications/channels", {"kind": "webhook", "url": receiver.url, "name": "CI"})
    assert made.status_code == 201
    body = made.json()
    assert body["secret"].startswith("whsec_") and body["url"] == receiver.url
    assert body["happenings"] == ["succeeded", "failed", "diverged", "stalled", "recovered"]
    (listed,) = script.get("notifications/channels").json()
    assert "secret" not in listed and listed == {k: v for k, v in body.items() if k != "secret"}
    path = f"notifications/channels/{body['id']}"
    assert script.get(path).json() == listed

    run = end_a_run(FAILURE)
    sending.send_due()
    found = script.get("notifications/deliveries", channel=body["id"]).json()
    (sent,) = found["items"]
    assert (sent["type"], sent["run"], sent["status"], sent["response_status"]) == (
        "run.failed",
        run.pk,
        "sent",
        200,
    )
    assert sent["message_id"] == receiver.got[0].headers["webhook-id"] and sent["next_attempt_at"] is None
    assert script.get("notifications/deliveries").json()["count"] == 2  # that in Tuneboard too
    assert script.get("notifications/deliveries", status="failed").json()["items"] == []

    again = script.post(f"notifications/deliveries/{sent['id']}/send")
    assert (again.status_code, again.json()["status"]) == (202, "pending")
    assert script.post(f"notifications/deliveries/{sent['id']}/send").status_code == 409
    tested = script.post(f"{path}/test")
    assert (tested.status_code, tested.json()["type"]) == (202, "test")
    sending.send_due()
    assert len(receiver.got) == 3
    assert delete(script, path).status_code == 204
    assert script.get(path).status_code == 404
    assert script.get("notifications/deliveries", channel=body["id"]).status_code == 404


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "pigeon"}, "kind"),
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"url": ""}, "url"),
        ({"happenings": ["born"]}, "happenings"),
        ({"scope": "world"}, "scope"),
        ({"stall_minutes": 0}, "stall_minutes"),
        ({"stall_minutes": 10**9}, "stall_minutes"),
        ({"kind": "email"}, "kind"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_will_not_do_is_named(script: Script, receiver: Receiver, change: Any, field: str) -> None:
    answer = script.post("notifications/channels", {"kind": "webhook", "url": receiver.url, **change})
    assert answer.status_code == 422 and field in answer.json()["error"]["fields"]
    assert not Channel.objects.exists()


def test_a_viewer_has_channels_of_their_own_and_sees_no_others(
    lab: Any, script: Script, receiver: Receiver
) -> None:
    viewer = Script(lab.viewer, lab.workspace)
    theirs = script.post("notifications/channels", {"kind": "webhook", "url": receiver.url}).json()["id"]
    script.post(f"notifications/channels/{theirs}/test")
    delivery = script.get("notifications/deliveries").json()["items"][0]["id"]
    assert viewer.get("notifications/channels").json() == []
    assert viewer.get(f"notifications/channels/{theirs}").status_code == 404
    assert viewer.post(f"notifications/channels/{theirs}/test").status_code == 404
    assert viewer.post(f"notifications/deliveries/{delivery}/send").status_code == 404
    assert viewer.get("notifications/deliveries").json()["items"] == []
    assert delete(viewer, f"notifications/channels/{theirs}").status_code == 404
    own = viewer.post("notifications/channels", {"kind": "browser", "happenings": ["failed"]})
    assert (own.status_code, own.json()["secret"], own.json()["happenings"]) == (201, None, ["failed"])


def test_nobody_fills_the_workspace_with_webhooks(script: Script, receiver: Receiver) -> None:
    answers = [
        script.post("notifications/channels", {"kind": "webhook", "url": receiver.url}).status_code
        for _ in range(21)
    ]
    assert answers == [201] * 20 + [422]
