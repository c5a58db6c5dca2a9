"""What the page of a run shows, gathered from its rows. Each part is read when the template asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.utils import timezone

from runs import logs, next_steps, results, story
from runs.extending import Extension, may_extend
from runs.housekeeping.use import RunUse, use_of_run
from runs.lifecycle import CHANGES
from runs.models import Artifact, Attempt, Run, SampleAnswer
from runs.queueing.release import moment
from runs.queueing.waiting import Waiting, waiting
from runs.training.events import PREDICTIONS
from runs.training.tasks.common import Task
from webapp.templatetags.ui import NO_VALUE, duration, number, size

PHASES = (
    ("preparing", "Preparing"),
    ("training", "Training"),
    ("evaluating", "Evaluating"),
    ("packaging", "Packaging"),
)


@dataclass(frozen=True)
class Sample:
    """A prompt, what the base model said to it, what the newest model says, and all between."""

    prompt: str
    expected: str
    base: SampleAnswer | None
    newest: SampleAnswer | None
    earlier: list[SampleAnswer]


@dataclass(frozen=True)
class SettingRow:
    title: str
    value: str
    name: str
    help: str
    advanced: bool


class RunPage:
    """The parts of a run's page."""

    def __init__(self, run: Run) -> None:
        self.run = run

    @cached_property
    def task(self) -> Task | None:
        return results.task_of(self.run)

    @property
    def task_title(self) -> str:
        return self.task.title if self.task else self.run.task

    @property
    def method_title(self) -> str:
        return results.method_title(self.run)

    @cached_property
    def attempts(self) -> list[Attempt]:
        """The newest first."""
        return list(self.run.attempts.select_related("worker").order_by("-number"))

    @property
    def attempt(self) -> Attempt | None:
        """The newest try."""
        return next(iter(self.attempts), None)

    @property
    def phases(self) -> list[tuple[str, str]]:
        """(title, state) of each phase; state: done, now or later."""
        slugs = [slug for slug, _ in PHASES]
        if self.run.status == Run.Status.SUCCEEDED:
            return [(title, "done") for _, title in PHASES]
        at = slugs.index(self.run.phase) if self.run.phase in slugs else -1
        found = []
        for position, (_, title) in enumerate(PHASES):
            state = "done" if position < at else "now" if position == at else "later"
            found.append((title, "stopped" if state == "now" and self.run.is_over else state))
        return found

    @property
    def percent_done(self) -> float | None:
        """0…100, or None while the number of steps is not known."""
        return 100 * self.run.step / self.run.total_steps if self.run.total_steps else None

    @property
    def elapsed_seconds(self) -> float | None:
        if self.run.started_at is None:
            return None
        return ((self.run.finished_at or timezone.now()) - self.run.started_at).total_seconds()

    @cached_property
    def waiting(self) -> Waiting | None:
        """What it waits for, while it is queued or has been asked to stop."""
        return waiting(self.run)

    @cached_property
    def extension(self) -> Extension | None:
        """What it may have more of, from its last checkpoint."""
        return may_extend(self.run)

    @property
    def may_retry(self) -> bool:
        return self.run.status in CHANGES["retried"].sources and self.run.dataset_version_id is not None

    @property
    def may_pause(self) -> bool:
        run = self.run
        return run.status == Run.Status.QUEUED or (
            run.status == Run.Status.RUNNING and run.desired == Run.Desired.GO_ON
        )

    @cached_property
    def resume_step(self) -> int | None:
        """The step of its newest checkpoint, to go on from."""
        return self.run.checkpoints.order_by("-step").values_list("step", flat=True).first()

    @property
    def priorities(self) -> list[tuple[str, str, bool]]:
        """(name, title, whether it is the run's) of each, while it may be changed."""
        if self.run.status not in CHANGES["prioritised"].sources:
            return []
        return [(each.name.lower(), each.label, each == self.run.priority) for each in reversed(Run.Priority)]

    @property
    def scheduling(self) -> list[tuple[str, str]]:
        """(title, value) of what was said of when and where it runs."""
        run = self.run
        rows = []
        if run.priority != Run.Priority.NORMAL:
            rows.append(("Priority", run.get_priority_display()))
        if run.not_before is not None:
            rows.append(("Not before", moment(run)))
        if run.time_limit_seconds:
            rows.append(("Time limit", duration(run.time_limit_seconds)))
        if run.memory_bytes:
            rows.append(("Memory", f"about {size(run.memory_bytes)}"))
        return rows

    @cached_property
    def scores(self) -> list[results.Score]:
        return results.scores(self.run)

    @cached_property
    def score_splits(self) -> list[tuple[str, list[results.Score]]]:
        """Scores by split, the test split first; validation alone while there is no test score."""
        return [
            (split, found)
            for _, split in results.SPLITS
            if (found := [score for score in self.scores if score.split == split])
        ]

    @cached_property
    def confusion(self) -> results.Confusion | None:
        return results.confusion(self.run)

    @property
    def baseline_title(self) -> str:
        return str(self.run.baseline.get("title") or (self.task.baseline_title if self.task else "Baseline"))

    @cached_property
    def samples(self) -> list[Sample]:
        """The sample prompts in order; step 0 is the base model."""
        by_prompt: dict[int, list[SampleAnswer]] = {}
        for answer in self.run.answers.all():
            by_prompt.setdefault(answer.number, []).append(answer)
        found = []
        for answers in by_prompt.values():
            base = answers[0] if answers[0].step == 0 else None
            trained = [answer for answer in answers if answer.step > 0]
            found.append(
                Sample(
                    prompt=answers[0].prompt,
                    expected=answers[0].expected,
                    base=base,
                    newest=trained[-1] if trained else None,
                    earlier=list(reversed(trained[:-1])),
                )
            )
        return found

    @property
    def log_tail(self) -> str:
        """Of a run that failed: the last lines that it had printed by then."""
        lines = self.run.failure.get("log_tail")
        if lines:
            return "\n".join(str(line) for line in lines)
        return self.attempt.log_tail if self.attempt else ""

    @cached_property
    def log(self) -> logs.LiveLog:
        """The last lines of the newest attempt, and where its log goes on."""
        return logs.live_log(self.run, self.attempt)

    @cached_property
    def chapters(self) -> list[story.Chapter]:
        """The newest 200 lines of the story, newest first, by attempt."""
        events = story.newest_first(self.run)[:200]
        return story.chapters(events, self.attempts)

    @cached_property
    def next_steps(self) -> list[next_steps.Step]:
        """What can be done about the failure, where there is one."""
        return next_steps.after_failure(self.run)

    @cached_property
    def devices(self) -> str:
        """On how many it trains, and how they share the work."""
        run = self.run
        each = f"{run.processes} on each of {run.nodes} hosts" if run.nodes > 1 else str(run.processes)
        return f"{each}, {run.strategy.upper()}"

    @cached_property
    def artifacts(self) -> list[Artifact]:
        return list(self.run.artifacts.all())

    @property
    def predictions(self) -> bool:
        """Whether it keeps what its model said of the held-out rows."""
        return any(artifact.name == PREDICTIONS for artifact in self.artifacts)

    @property
    def artifacts_size(self) -> int:
        return sum(artifact.size for artifact in self.artifacts)

    @cached_property
    def storage(self) -> RunUse:
        """What it keeps in storage, and what is gone."""
        return use_of_run(self.run, [artifact.size for artifact in self.artifacts])

    @property
    def columns(self) -> list[tuple[str, str]]:
        """(title of the role, column)."""
        titles = {role.name: role.title for role in self.task.roles} if self.task else {}
        return [(titles.get(role, role), column) for role, column in self.run.columns.items()]

    @cached_property
    def settings(self) -> list[SettingRow]:
        """Every setting with its value, in the order of the form; those that the task no longer has by name."""
        values = dict(self.run.settings)
        rows = []
        for item in self.task.settings_for(self.run.method) if self.task else ():
            if item.name in values:
                value = self._value(values.pop(item.name), dict(item.choices), item.unit)
                rows.append(SettingRow(item.title, value, item.name, item.help, item.advanced))
        rows += [
            SettingRow(name, self._value(value, {}, ""), name, "", True) for name, value in values.items()
        ]
        return rows

    @property
    def common_settings(self) -> list[SettingRow]:
        return [row for row in self.settings if not row.advanced]

    @property
    def advanced_settings(self) -> list[SettingRow]:
        return [row for row in self.settings if row.advanced]

    @staticmethod
    def _value(value: Any, choices: dict[str, str], unit: str) -> str:
        if isinstance(value, bool):
            return "yes" if value else "no"
        if value is None or value == "":
            return NO_VALUE
        text = choices.get(str(value)) or number(value)
        return f"{text} {unit}".strip()
