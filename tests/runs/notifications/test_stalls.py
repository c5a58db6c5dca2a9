"""A run that gets nowhere is told of, once; and again when it goes on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from runs import lifecycle
from runs.execution.event_file import Line
from runs.execution.ingest import take_in
from runs.models import Attempt, Channel, Delivery, Run, Worker
from runs.notifications import stalls
from tests.runs.conftest import text_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def attempt(lab: Any, worker: Worker) -> Attempt:
    lab.run(name="Languages")
    claimed = lifecycle.claim(worker, ["cpu"])
    assert claimed is not None
    return claimed


class Trainer:
    """Reports what a training program would, at the end of its event file."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt, self.end = attempt, 0

    def says(self, **event: Any) -> None:
        self.end += 1
        line = Line(self.end, {"at": timezone.now().timestamp(), **event})
        take_in(self.attempt, [line])

    def trains(self, step: int) -> None:
        self.says(type="phase", phase="training")
        self.says(type="progress", step=step, total_steps=1000)


def silent_for(attempt: Attempt, minutes: float) -> None:
    """As if all that has happened had happened so much earlier."""
    earlier = timedelta(minutes=minutes)
    row = Run.objects.get(pk=attempt.run_id)
    Attempt.objects.filter(pk=attempt.pk).update(started_at=timezone.now() - earlier - timedelta(seconds=5))
    if row.last_step_at:
        Run.objects.filter(pk=row.pk).update(last_step_at=timezone.now() - earlier)


def story(attempt: Attempt) -> list[str]:
    events = attempt.run.events.filter(kind__in=("stalled", "recovered")).order_by("pk")
    return list(events.values_list("message", flat=True))


def told() -> list[tuple[str, str]]:
    return [(row.type, row.text) for row in Delivery.objects.order_by("pk")]


def test_a_run_without_a_step_for_a_quarter_of_an_hour_stalls_and_is_told_of_once(attempt: Attempt) -> None:
    Trainer(attempt).trains(120)
    stalls.look()
    silent_for(attempt, 14)
    stalls.look()
    assert story(attempt) == [] and told() == []
    silent_for(attempt, 15.1)
    version = Run.objects.get(pk=attempt.run_id).row_version
    for _ in range(3):
        stalls.look()
    assert story(attempt) == ["No step for 15 minutes."]
    assert told() == [("run.stalled", "No step for 15 minutes at step 120 of 1,000, while training.")]
    assert Run.objects.get(pk=attempt.run_id).row_version == version + 1  # the page's poll has something new


def test_it_is_told_when_steps_come_again_and_a_second_stall_is_told_anew(attempt: Attempt) -> None:
    trainer = Trainer(attempt)
    trainer.trains(120)
    silent_for(attempt, 22)
    stalls.look()
    trainer.trains(121)
    for _ in range(2):
        stalls.look()
    assert story(attempt) == ["No step for 22 minutes.", "Going on again after 22 minutes."]
    assert told()[1:] == [("run.recovered", "Going on again after 22 minutes.")]
    assert Run.objects.get(pk=attempt.run_id).stalled_since is None
    silent_for(attempt, 90)
    stalls.look()
    assert story(attempt)[2:] == ["No step for 1 hour 30 minutes."]
    assert [kind for kind, _ in told()] == ["run.stalled", "run.recovered", "run.stalled"]


@pytest.mark.parametrize("phase", ["preparing", "evaluating", "packaging"])
def test_phases_that_take_no_steps_have_a_larger_limit(attempt: Attempt, phase: str) -> None:
    Trainer(attempt).says(type="phase", phase=phase)
    Run.objects.update(phase=phase)
    silent_for(attempt, 30)
    stalls.look()
    assert story(attempt) == []
    silent_for(attempt, 61)
    stalls.look()
    assert story(attempt) == ["No step for 1 hour 1 minute."]


def test_coming_back_from_a_long_evaluation_is_no_stall(attempt: Attempt) -> None:
    trainer = Trainer(attempt)
    trainer.trains(120)
    trainer.says(type="phase", phase="evaluating")
    silent_for(attempt, 40)
    trainer.says(type="phase", phase="training")
    stalls.look()
    assert story(attempt) == []


def test_a_run_whose_steps_take_long_stalls_only_when_it_is_slower_than_itself(attempt: Attempt) -> None:
    Trainer(attempt).trains(2)
    now = timezone.now()
    Attempt.objects.filter(pk=attempt.pk).update(started_at=now - timedelta(minutes=60))
    Run.objects.filter(pk=attempt.run_id).update(
        last_step_at=now - timedelta(minutes=20)
    )  # 20 minutes a step
    stalls.look()
    assert story(attempt) == []
    Attempt.objects.filter(pk=attempt.pk).update(started_at=now - timedelta(minutes=105))
    Run.objects.filter(pk=attempt.run_id).update(last_step_at=now - timedelta(minutes=65))
    stalls.look()
    assert len(story(attempt)) == 1


def test_everybody_is_told_at_their_own_limit(
    lab: Any, attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    for person, limit in ((lab.member, 5), (lab.viewer, 30)):
        Channel.objects.create(
            user=person,
            workspace=lab.workspace,
            kind="browser",
            scope="workspace",
            stall_minutes=limit,
            happenings=["stalled", "recovered"],
        )
    trainer = Trainer(attempt)
    trainer.trains(120)
    Attempt.objects.filter(pk=attempt.pk).update(started_at=timezone.now() - timedelta(seconds=5))
    for minutes, people in ((4, []), (6, [lab.member]), (16, [lab.member]), (31, [lab.member, lab.viewer])):
        later = timezone.now() + timedelta(minutes=minutes, seconds=5)
        monkeypatch.setattr(stalls, "_database_time", lambda later=later: later)
        for _ in range(2):
            stalls.look()
        assert [row.user for row in Delivery.objects.order_by("pk")] == people
    assert story(attempt) == ["No step for 6 minutes."]


def test_whoever_was_told_of_no_stall_is_not_told_that_it_is_over(lab: Any, attempt: Attempt) -> None:
    Channel.objects.create(
        user=lab.viewer,
        workspace=lab.workspace,
        kind="browser",
        scope="workspace",
        stall_minutes=60,
        happenings=["stalled", "recovered"],
    )
    trainer = Trainer(attempt)
    trainer.trains(120)
    silent_for(attempt, 20)
    stalls.look()
    trainer.trains(121)
    stalls.look()
    assert [(row.user, row.type) for row in Delivery.objects.order_by("pk")] == [
        (lab.member, "run.stalled"),
        (lab.member, "run.recovered"),
    ]


def test_a_stall_ends_without_a_word_when_the_run_does(attempt: Attempt) -> None:
    Trainer(attempt).trains(120)
    silent_for(attempt, 20)
    stalls.look()
    lifecycle.lose(attempt, {"code": "crashed", "message": "It crashed.", "hint": "", "log_tail": []})
    stalls.look()
    assert Run.objects.get(pk=attempt.run_id).stalled_since is None
    assert [kind for kind, _ in told()] == ["run.stalled"] and len(story(attempt)) == 1


def test_a_paused_run_that_goes_on_after_a_day_does_not_stall_at_once(
    lab: Any, attempt: Attempt, worker: Worker
) -> None:
    Trainer(attempt).trains(120)
    silent_for(attempt, 24 * 60)
    lifecycle.request_pause(attempt.run_id, None)
    stalls.look()  # it is asked to stop: no step is expected
    lifecycle.leave(attempt)
    lifecycle.resume(attempt.run_id, None)
    stalls.look()
    assert lifecycle.claim(worker, ["cpu"]) is not None
    stalls.look()
    assert story(attempt) == []


def test_a_limit_of_nought_switches_it_off(attempt: Attempt, settings: Any) -> None:
    settings.STALL_MINUTES = settings.STALL_PHASE_MINUTES = 0
    Trainer(attempt).trains(120)
    silent_for(attempt, 24 * 60)
    stalls.look()
    assert story(attempt) == []


def test_the_page_of_the_run_says_so_and_stops_saying_so(browser: Any, attempt: Attempt) -> None:
    trainer = Trainer(attempt)
    trainer.trains(120)
    path = f"/runs/{attempt.run_id}/"
    assert "No step for" not in text_of(browser.get(path).content.decode()).split("Story")[0]
    silent_for(attempt, 20)
    stalls.look()
    assert "It may be busy with something long" in text_of(browser.get(path).content.decode())
    trainer.trains(121)
    assert "It may be busy" not in text_of(browser.get(path).content.decode())
