"""Taking a trainer's events into the database, each exactly once.

Rows and the file offset that they reach are written in one transaction, which first locks the
attempt: killed anywhere, it loses nothing and doubles nothing, and a worker whose attempt is over
writes nothing. Steps repeated after a resume overwrite by (run, series, step).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now

from runs.execution.event_file import Line
from runs.lifecycle import hold
from runs.models import Attempt, Event, Metric, Run, SampleAnswer

PROGRESS = ("step", "total_steps", "epoch", "rate", "eta_seconds")


def take_in(attempt: Attempt, lines: Sequence[Line]) -> None:
    """Insert what has not been inserted yet; raises LeaseLost, and then nothing is written."""
    if not lines:
        return
    with transaction.atomic():
        stored = hold(attempt).events_offset
        batch = _Batch(attempt)
        for line in lines:
            if line.end > stored:
                batch.add(line.event)
        batch.write()
        Attempt.objects.filter(pk=attempt.pk).update(events_offset=max(stored, lines[-1].end))


class _Batch:
    """Folds events into as few statements as there are tables."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        # Whoever holds the attempt is the only one to write these.
        self._before: Run = Run.objects.only("phase", "step", "metrics", "results").get(pk=attempt.run_id)
        self._changes: dict[str, Any] = {}
        self._points: dict[tuple[str, int], Metric] = {}  # a statement may not touch a row twice
        self._answers: dict[tuple[int, int], SampleAnswer] = {}
        self._story: list[Event] = []
        self._touched = False

    def add(self, event: dict[str, Any]) -> None:
        """An event of a type that only the supervisor acts on, or of none known, changes nothing here."""
        known: dict[str, Callable[[dict[str, Any]], None]] = {
            "phase": self._phase,
            "progress": self._progress,
            "metric": self._metric,
            "baseline": self._baseline,
            "answers": self._answers_given,
            "results": self._results,
            "message": lambda event: self._tell("message", str(event["text"]), event),
        }
        if handle := known.get(event["type"]):
            handle(event)
            self._touched = True

    def write(self) -> None:
        """Everything at once; the run's row_version rises by one."""
        if not self._touched:
            return
        Metric.objects.bulk_create(
            self._points.values(),
            batch_size=2000,
            update_conflicts=True,
            unique_fields=["run", "series", "step"],
            update_fields=["value", "at"],
        )
        SampleAnswer.objects.bulk_create(
            self._answers.values(),
            update_conflicts=True,
            unique_fields=["run", "step", "number"],
            update_fields=["prompt", "expected", "answer"],
        )
        Event.objects.bulk_create(self._story)
        changes = self._changes | {"row_version": F("row_version") + 1}
        Run.objects.filter(pk=self._attempt.run_id).update(**changes)

    def _tell(self, kind: str, message: str, event: dict[str, Any], **data: Any) -> None:
        self._story.append(
            Event(
                run_id=self._attempt.run_id,
                attempt=self._attempt.number,
                kind=kind,
                message=message,
                data=data,
                at=_time(event),
            )
        )

    def _phase(self, event: dict[str, Any]) -> None:
        phase = str(event["phase"])[:20]
        if phase != self._changes.get("phase", self._before.phase):
            self._changes["last_step_at"] = Now()  # no step yet, but it got on
        self._changes["phase"] = phase
        # Training and evaluating take turns: the story tells of each once an attempt.
        told = any(item.kind == "phase" and item.data["phase"] == phase for item in self._story)
        mine = Event.objects.filter(run=self._attempt.run_id, attempt=self._attempt.number, kind="phase")
        if not told and not mine.filter(data__phase=phase).exists():
            message = str(event.get("message") or phase.capitalize())
            self._tell("phase", message, event, phase=phase)

    def _progress(self, event: dict[str, Any]) -> None:
        if event.get("step", 0) != self._changes.get("step", self._before.step):
            self._changes["last_step_at"] = Now()
        self._changes |= {name: event[name] for name in PROGRESS if name in event}

    def _metric(self, event: dict[str, Any]) -> None:
        newest = self._changes.setdefault("metrics", dict(self._before.metrics))
        step = int(event["step"])
        for series, value in event["values"].items():
            if not isinstance(value, int | float):
                continue  # NaN and the infinities arrive as null: there is no point to draw
            name = str(series)[:60]
            newest[name] = value
            self._points[name, step] = Metric(
                run_id=self._attempt.run_id, series=name, step=step, value=value, at=_time(event)
            )

    def _baseline(self, event: dict[str, Any]) -> None:
        self._changes["baseline"] = {key: event[key] for key in ("name", "title", "metrics") if key in event}

    def _results(self, event: dict[str, Any]) -> None:
        results = self._changes.setdefault("results", dict(self._before.results))
        results.update(event["values"])

    def _answers_given(self, event: dict[str, Any]) -> None:
        step = int(event["step"])
        for item in event["items"]:
            number = int(item["number"])
            self._answers[step, number] = SampleAnswer(
                run_id=self._attempt.run_id,
                step=step,
                number=number,
                prompt=str(item["prompt"]),
                expected=str(item.get("expected") or ""),
                answer=str(item["answer"]),
            )


def _time(event: dict[str, Any]) -> datetime:
    return datetime.fromtimestamp(float(event["at"]), UTC)
