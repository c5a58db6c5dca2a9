"""A worker whose clock steps tells the same story, in order: what is stored is timed by the database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise

import pytest
from django.apps import apps
from django.db.models import DateTimeField
from django.utils import timezone

from runs import lifecycle
from runs.execution import checkpoints
from runs.execution.event_file import Line
from runs.execution.ingest import take_in
from runs.models import Attempt, Run, Worker
from runs.queueing import release
from tests.runs.conftest import Lab, Script
from webapp import clock

HOUR = timedelta(hours=1)
real_now = timezone.now
Step = Callable[[timedelta], None]


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Step:
    """Sets the clock of this host wrong by so much."""

    def by(shift: timedelta) -> None:
        monkeypatch.setattr(timezone, "now", lambda: real_now() + shift)

    return by


class Trainer:
    """Reports by its host's clock, as the real one does."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt, self._end = attempt, 0

    def says(self, **event: object) -> None:
        self._end += 1
        take_in(self._attempt, [Line(self._end, {"at": timezone.now().timestamp(), **event})])


@pytest.mark.parametrize(
    "shifts", [(HOUR, -HOUR), (-HOUR, HOUR)], ids=["ahead, then behind", "the other way"]
)
def test_the_story_is_in_order_and_its_times_are_true(
    new_run: Callable[..., Run], worker: Worker, step: Step, shifts: tuple[timedelta, timedelta]
) -> None:
    began = clock.now()
    run = lifecycle.submit(new_run(), None)
    attempt = lifecycle.claim(worker, ["cpu"])
    assert attempt is not None
    trainer = Trainer(attempt)
    trainer.says(type="phase", phase="training")
    trainer.says(type="metric", step=1, values={"loss": 3.0})
    step(shifts[0])
    trainer.says(type="message", text="Ahead.")
    trainer.says(type="metric", step=2, values={"loss": 2.0})
    checkpoints.record(attempt, {"step": 2, "keep": [2]}, checkpoints.prefix_of(attempt, 2), 10)
    step(shifts[1])
    trainer.says(type="message", text="Behind.")
    trainer.says(type="metric", step=3, values={"loss": 1.0})
    lifecycle.succeed(attempt, {})
    over = clock.now()

    told = list(run.events.all())
    kinds = [event.kind for event in told]
    assert kinds == ["submitted", "started", "phase", "message", "checkpoint", "message", "succeeded"]
    points = list(run.points.order_by("step"))
    attempt.refresh_from_db()
    run.refresh_from_db()
    assert attempt.finished_at is not None and run.started_at is not None and run.finished_at is not None
    stored = run.checkpoints.get()
    for moments in (
        [event.at for event in told],
        [point.at for point in points],
        [run.queued_at, attempt.started_at, attempt.finished_at],
        [run.started_at, run.finished_at],
        [stored.created_at],
    ):
        assert all(earlier <= later for earlier, later in pairwise([began, *moments, over]))


def test_a_script_that_follows_the_points_misses_none_when_the_clock_is_set_back(
    lab: Lab, script: Script, worker: Worker, step: Step
) -> None:
    run = lab.run()
    attempt = lifecycle.claim(worker, ["cpu"])
    assert attempt is not None
    trainer = Trainer(attempt)
    trainer.says(type="metric", step=1, values={"loss": 3.0})
    first = script.get(f"runs/{run.pk}/metrics").json()
    step(-HOUR)
    trainer.says(type="metric", step=2, values={"loss": 2.0})
    second = script.get(f"runs/{run.pk}/metrics", since=first["next"]).json()
    assert [point["step"] for point in second["points"]] == [2]


def test_a_scheduled_run_is_not_started_early_by_a_host_that_is_ahead(
    new_run: Callable[..., Run], step: Step
) -> None:
    step(HOUR)
    run = new_run(not_before=real_now() + HOUR / 2)
    assert release.waits_for(run) == Run.WaitsFor.TIME
    step(-HOUR)
    run = new_run(not_before=real_now() - HOUR / 2)
    assert release.waits_for(run) == Run.WaitsFor.NOTHING


def test_no_row_is_timed_by_the_host_that_writes_it() -> None:
    own = [
        f"{model.__name__}.{each.name}"
        for model in apps.get_app_config("runs").get_models()
        for each in model._meta.local_fields
        if isinstance(each, DateTimeField) and each.default is timezone.now
    ]
    assert own == ["Run.created_at"], "which the web server makes, as it does for all things of a workspace"
