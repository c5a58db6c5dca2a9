"""Taking a trainer's events into the database, each exactly once.

Rows and the file offset that they reach are written in one transaction, which first locks the
attempt: killed anywhere, it loses nothing and doubles nothing, and a worker whose attempt is over
writes nothing. Steps repeated after a resume overwrite by (run, series, step).

What is stored has the time at which the database learnt of it, and not the trainer's: clocks of hosts are set, and
then a run's story would be out of order, and whoever reads points from a time on would miss some.

A batch is few statements whatever its size, and its points go as arrays: at 1,000 points a second
most of the cost is the database's own (benchmarks/ingest.py).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from django.db import connection, transaction

from runs.execution.event_file import Line
from runs.lifecycle import hold
from runs.models import Attempt, Event, SampleAnswer

PROGRESS = ("step", "total_steps", "epoch", "rate", "eta_seconds")
# What the story says of a phase that tells no more of itself.
PHASES = {
    "preparing": "Preparing the data and the model.",
    "training": "Training began.",
    "evaluating": "Evaluating on the validation rows for the first time.",
    "packaging": "Packaging the model.",
}

# One row where every line is new, which locks the attempt and moves its offset; else none.
ADVANCE = """
    UPDATE runs_attempt SET events_offset = %s WHERE id = %s AND finished_at IS NULL AND events_offset < %s
"""
POINTS = """
    INSERT INTO runs_metric (run_id, series, step, value, at)
    SELECT %s, *, statement_timestamp() FROM unnest(%s::text[], %s::bigint[], %s::float8[])
    ON CONFLICT (run_id, series, step) DO UPDATE SET value = excluded.value, at = excluded.at
"""


def take_in(attempt: Attempt, lines: Sequence[Line]) -> None:
    """Insert what has not been inserted yet; raises LeaseLost, and then nothing is written."""
    if not lines:
        return
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(ADVANCE, [lines[-1].end, attempt.pk, lines[0].end])
            is_new = bool(cursor.rowcount)
        if not is_new:  # some were taken in before, or the attempt is over
            stored = hold(attempt).events_offset
            lines = [line for line in lines if line.end > stored]
            if not lines:
                return
            Attempt.objects.filter(pk=attempt.pk).update(events_offset=lines[-1].end)
        batch = _Batch(attempt)
        for line in lines:
            batch.add(line.event)
        batch.write()


class _Batch:
    """Folds events into as few statements as there are tables."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._changes: dict[str, Any] = {}
        self._newest: dict[str, float] = {}  # by series
        self._found: dict[str, Any] = {}  # results
        # A statement may not touch a row twice: (series, step) → value
        self._points: dict[tuple[str, int], float] = {}
        self._answers: dict[tuple[int, int], SampleAnswer] = {}
        self._story: list[Event] = []
        self._touched = False

    def add(self, event: dict[str, Any]) -> None:
        """An event of a type that only the supervisor acts on, or of none known, changes nothing here."""
        match event["type"]:
            case "metric":
                self._metric(event)
            case "progress":
                self._changes |= {name: event[name] for name in PROGRESS if name in event}
            case "phase":
                self._phase(event)
            case "baseline":
                told = {key: event[key] for key in ("name", "title", "metrics") if key in event}
                self._changes["baseline"] = json.dumps(told)
            case "answers":
                self._answers_given(event)
            case "results":
                self._found.update(event["values"])
            case "message":
                self._tell("message", str(event["text"]))
            case _:
                return
        self._touched = True

    def write(self) -> None:
        """Everything at once; the run's row_version rises by one."""
        if not self._touched:
            return
        if self._points:
            with connection.cursor() as cursor:
                cursor.execute(POINTS, [self._attempt.run_id, *self._columns()])
        SampleAnswer.objects.bulk_create(
            self._answers.values(),
            update_conflicts=True,
            unique_fields=["run", "step", "number"],
            update_fields=["prompt", "expected", "answer"],
        )
        Event.objects.bulk_create(self._story)
        self._change_run()

    def _columns(self) -> tuple[list[str], list[int], list[float]]:
        """The points as (series, step, value)."""
        names, steps = zip(*self._points, strict=True)
        return list(names), list(steps), [float(value) for value in self._points.values()]

    def _change_run(self) -> None:
        """What is newest, merged by the database into what is there: nothing needs to be read first."""
        assignments = [f"{column} = %s" for column in self._changes]  # columns of ours, never a trainer's
        values = list(self._changes.values())
        for column, merged in (("metrics", self._newest), ("results", self._found)):
            if merged:
                assignments.append(f"{column} = {column} || %s::jsonb")
                values.append(json.dumps(merged))
        # When it last got on: by a step, or to another phase where steps do not come.
        if moved := [column for column in ("step", "phase") if column in self._changes]:
            other = " OR ".join(f"{column} IS DISTINCT FROM %s" for column in moved)
            assignments.append(f"last_step_at = CASE WHEN {other} THEN now() ELSE last_step_at END")
            values += [self._changes[column] for column in moved]
        assignments.append("row_version = row_version + 1")
        with connection.cursor() as cursor:
            query = f"UPDATE runs_run SET {', '.join(assignments)} WHERE id = %s"  # noqa: S608
            cursor.execute(query, [*values, self._attempt.run_id])

    def _tell(self, kind: str, message: str, **data: Any) -> None:
        self._story.append(
            Event(
                run_id=self._attempt.run_id,
                attempt=self._attempt.number,
                kind=kind,
                message=message,
                data=data,
            )
        )

    def _phase(self, event: dict[str, Any]) -> None:
        phase = str(event["phase"])[:20]
        self._changes["phase"] = phase
        # Training and evaluating take turns: the story tells of each once an attempt.
        told = any(item.kind == "phase" and item.data["phase"] == phase for item in self._story)
        mine = Event.objects.filter(run=self._attempt.run_id, attempt=self._attempt.number, kind="phase")
        if not told and not mine.filter(data__phase=phase).exists():
            said = str(event.get("message") or "")
            if said:
                said = f"{'Preparing: ' if phase == 'preparing' else ''}{said.removesuffix('.')}."
            self._tell("phase", said or PHASES.get(phase, f"{phase.capitalize()}."), phase=phase)

    def _metric(self, event: dict[str, Any]) -> None:
        step = int(event["step"])
        for series, value in event["values"].items():
            if not isinstance(value, int | float):
                continue  # NaN and the infinities arrive as null: there is no point to draw
            name = series[:60]
            self._newest[name] = value
            self._points[name, step] = value

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
