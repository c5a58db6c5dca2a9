"""Who is told of what: those who want to know, once, and in the transaction of what happened."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction

from runs import lifecycle
from runs.models import Channel, Delivery, Worker
from runs.notifications import channels
from tests.runs.notifications.conftest import EVERYTHING, FAILURE, Ended
from webapp.accounts import people
from webapp.accounts.models import User

pytestmark = pytest.mark.django_db


def told(user: User) -> list[tuple[str, str]]:
    rows = Delivery.objects.filter(user=user).order_by("pk")
    return [(row.type, row.message["title"]) for row in rows]


def test_whoever_launched_a_run_is_told_in_tuneboard_without_setting_anything_up(
    lab: Any, end_a_run: Ended
) -> None:
    end_a_run(started_at=None)
    end_a_run(FAILURE, name="Second try")
    assert told(lab.member) == [
        ("run.succeeded", "First try has succeeded"),
        ("run.failed", "Second try has failed"),
    ]
    assert told(lab.viewer) == []
    texts = list(Delivery.objects.order_by("pk").values_list("message__text", flat=True))
    assert texts[0].startswith("Accuracy on the test rows: 87.5 %. It took ")
    assert texts[1] == "The trainer crashed. What to try: Try again."
    assert Delivery.objects.filter(in_app=True, status="sent", event__isnull=False).count() == 2


def test_the_log_is_in_no_message(lab: Any, end_a_run: Ended) -> None:
    end_a_run(FAILURE)
    assert "secret line" not in str(Delivery.objects.get().message)


def test_a_run_that_diverges_is_told_as_that_or_as_a_failure_where_only_failures_are_wanted(
    lab: Any, end_a_run: Ended
) -> None:
    channel = Channel.objects.create(
        user=lab.viewer, workspace=lab.workspace, kind="browser", scope="workspace", happenings=["failed"]
    )
    end_a_run({**FAILURE, "code": "diverged", "message": "The loss became NaN at step 40."})
    assert told(lab.member) == [("run.diverged", "First try has diverged")]
    assert told(lab.viewer) == [("run.failed", "First try has failed")]
    channel.happenings = ["succeeded"]
    channel.save()
    end_a_run({**FAILURE, "code": "diverged"})
    assert len(told(lab.viewer)) == 1


def test_a_workspace_wide_channel_hears_of_the_runs_of_others_and_one_of_my_runs_does_not(
    lab: Any, end_a_run: Ended
) -> None:
    for scope in ("workspace", "mine"):
        Channel.objects.all().delete()
        Channel.objects.create(
            user=lab.viewer, workspace=lab.workspace, kind="browser", scope=scope, happenings=["succeeded"]
        )
        end_a_run()
        assert len(told(lab.viewer)) == (1 if scope == "workspace" else 0)


def test_a_cancelled_run_is_told_to_those_alone_who_asked_for_it(lab: Any) -> None:
    run = lab.run()
    lifecycle.request_cancel(run.pk, lab.member)
    assert told(lab.member) == []
    Channel.objects.update(happenings=["cancelled"])
    run = lab.run(name="Other")
    lifecycle.request_cancel(run.pk, lab.member)
    assert told(lab.member) == [("run.cancelled", "Other was cancelled")]
    assert Delivery.objects.get().message["text"] == "Cancelled by anna."


def test_what_is_rolled_back_is_told_to_nobody(lab: Any, worker: Worker) -> None:
    lab.run()
    attempt = lifecycle.claim(worker, ["cpu"])
    assert attempt is not None
    with pytest.raises(RuntimeError), transaction.atomic():
        lifecycle.fail(attempt, FAILURE)
        raise RuntimeError
    assert not Delivery.objects.exists()
    lifecycle.fail(attempt, FAILURE)
    assert len(told(lab.member)) == 1


def test_a_run_that_is_tried_again_is_told_of_again(lab: Any, worker: Worker) -> None:
    run = lab.run()
    for _ in range(2):
        attempt = lifecycle.claim(worker, ["cpu"])
        assert attempt is not None
        lifecycle.fail(attempt, FAILURE)
        lifecycle.retry(run.pk, None)
    assert len(told(lab.member)) == 2


def test_whoever_has_left_is_told_nothing_and_leaves_no_secrets(
    lab: Any, receiver: Any, end_a_run: Ended
) -> None:
    choices = {**EVERYTHING, "scope": "workspace"}
    channels.add_webhook(lab.viewer, lab.workspace, name="", url=receiver.url, **choices)
    end_a_run()
    assert len(told(lab.viewer)) == 1
    people.remove(lab.workspace.memberships.get(user=lab.viewer))
    assert told(lab.viewer) == [] and not Channel.objects.filter(user=lab.viewer).exists()
    end_a_run()
    assert told(lab.viewer) == []


def test_whoever_has_switched_it_off_is_told_nothing(lab: Any, end_a_run: Ended) -> None:
    end_a_run()
    Channel.objects.update(enabled=False)
    end_a_run()
    assert len(told(lab.member)) == 1


def test_a_run_without_anybody_ends_as_well(lab: Any, worker: Worker) -> None:
    run = lab.run(created_by=None)
    attempt = lifecycle.claim(worker, ["cpu"])
    assert attempt is not None
    assert lifecycle.succeed(attempt, {}).status == "succeeded"
    assert run.events.filter(kind="succeeded").exists() and not Delivery.objects.exists()
