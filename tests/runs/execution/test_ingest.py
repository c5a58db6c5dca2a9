"""A trainer's events are taken in exactly once, wherever the worker that takes them in is killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from runs import lifecycle
from runs.execution.event_file import EventFile
from runs.execution.ingest import take_in
from runs.models import Attempt, Event, Metric, Run, SampleAnswer

pytestmark = pytest.mark.django_db(transaction=True)

STORY: list[dict[str, Any]] = [
    {"type": "phase", "phase": "training", "message": "Training"},
    {"type": "baseline", "name": "majority", "title": "Majority class", "metrics": {"accuracy": 0.5}},
    {"type": "progress", "step": 1, "total_steps": 4, "epoch": 0.5, "rate": 10.0, "eta_seconds": 3.0},
    {"type": "metric", "step": 1, "values": {"loss": 1.5, "learning_rate": 0.1}},
    {"type": "answers", "step": 1, "items": [{"number": 0, "prompt": "Hi", "expected": "", "answer": "Ho"}]},
    {"type": "message", "text": "Two rows were skipped."},
    {"type": "metric", "step": 2, "values": {"loss": 1.25, "broken": None}},
    {"type": "results", "values": {"labels": ["a", "b"]}},
    {"type": "results", "values": {"confusion_matrix": [[1, 0], [0, 1]]}},
    {"type": "phase", "phase": "evaluating", "message": "Evaluating"},
    {"type": "phase", "phase": "training", "message": "Training"},
    {"type": "unheard of", "x": 1},
]


@pytest.fixture
def attempt(submit: Callable[..., Run], claim: Callable[[], Attempt]) -> Attempt:
    submit()
    return claim()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    lines = [json.dumps({**event, "at": 1_700_000_000 + n}) + "\n" for n, event in enumerate(STORY)]
    path.write_text("".join(lines))
    return path


def facts(run_id: int) -> dict[str, Any]:
    """Everything that ingestion writes about a run."""
    run = Run.objects.get(pk=run_id)
    return {
        "points": list(
            Metric.objects.filter(run=run).order_by("series", "step").values_list("series", "step", "value")
        ),
        "story": list(
            Event.objects.filter(run=run, kind__in=["phase", "message"]).values_list("kind", "message")
        ),
        "answers": list(SampleAnswer.objects.filter(run=run).values_list("step", "number", "answer")),
        "run": (run.phase, run.step, run.total_steps, run.rate, run.metrics, run.baseline, run.results),
        "offset": run.attempts.get().events_offset,
    }


def test_each_event_lands_where_it_belongs(attempt: Attempt, file: Path) -> None:
    take_in(attempt, EventFile(file).read())
    assert facts(attempt.run_id) == {
        "points": [("learning_rate", 1, 0.1), ("loss", 1, 1.5), ("loss", 2, 1.25)],
        "story": [
            ("phase", "Training."),
            ("message", "Two rows were skipped."),
            ("phase", "Evaluating."),  # and back to training, which the story has told already
        ],
        "answers": [(1, 0, "Ho")],
        "run": (
            "training",
            1,
            4,
            10.0,
            {"loss": 1.25, "learning_rate": 0.1},
            {"name": "majority", "title": "Majority class", "metrics": {"accuracy": 0.5}},
            {"labels": ["a", "b"], "confusion_matrix": [[1, 0], [0, 1]]},
        ),
        "offset": file.stat().st_size,
    }


def test_a_batch_is_one_change_of_the_page(attempt: Attempt, file: Path) -> None:
    take_in(attempt, EventFile(file).read())
    assert Run.objects.get().row_version == attempt.run.row_version + 1


def test_what_was_taken_in_before_is_not_taken_in_again(attempt: Attempt, file: Path) -> None:
    take_in(attempt, EventFile(file).read())
    before = facts(attempt.run_id)
    take_in(attempt, EventFile(file).read())
    assert facts(attempt.run_id) == before


def test_a_connection_killed_between_any_two_statements_loses_and_doubles_nothing(
    attempt: Attempt, file: Path
) -> None:
    """The server ends our session before statement 1, 2, 3 … and, last, before the commit."""
    lines = EventFile(file).read()
    half = lines[: len(lines) // 2]
    killed = 0
    while True:
        statement = Counted(killed + 1)
        try:
            with connection.execute_wrapper(statement):
                take_in(attempt, half)
        except OperationalError:
            killed += 1
            connection.close()
            assert not Metric.objects.exists() and not SampleAnswer.objects.exists()
            assert Attempt.objects.get().events_offset == 0
            continue
        break
    assert killed >= 6  # hold, read, points, answers, story, run, offset
    take_in(attempt, lines)
    found = facts(attempt.run_id)
    assert found["points"] == [("learning_rate", 1, 0.1), ("loss", 1, 1.5), ("loss", 2, 1.25)]
    assert [message for _, message in found["story"]] == [
        "Training.",
        "Two rows were skipped.",
        "Evaluating.",
    ]
    assert found["offset"] == file.stat().st_size


def test_a_commit_whose_answer_was_lost_counts_once(attempt: Attempt, file: Path) -> None:
    lines = EventFile(file).read()
    take_in(attempt, lines)  # committed, but the worker was told that the connection broke
    before = facts(attempt.run_id)
    take_in(attempt, lines)
    assert facts(attempt.run_id) == before


def test_a_worker_whose_attempt_is_over_writes_nothing(attempt: Attempt, file: Path) -> None:
    Attempt.objects.update(lease_until=timezone.now())
    assert lifecycle.lose_expired(attempt.pk)
    with pytest.raises(lifecycle.LeaseLost):
        take_in(attempt, EventFile(file).read())
    assert not Metric.objects.exists()


def test_a_step_repeated_after_a_resume_overwrites(attempt: Attempt, tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        path = tmp_path / f"{value}.jsonl"
        event = {"type": "metric", "step": 5, "values": {"loss": value}, "at": 1.0}
        path.write_text(json.dumps(event) + "\n" + json.dumps(event) + "\n")
        Attempt.objects.update(events_offset=0)
        take_in(attempt, EventFile(path).read())
    assert list(Metric.objects.values_list("step", "value")) == [(5, 2.0)]


def test_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    file = EventFile(path)
    assert file.read() == []  # there is no file yet
    path.write_bytes(b'{"type": "a", "at": 1}\n{"type": "b"')
    assert [line.event["type"] for line in file.read()] == ["a"]
    assert file.read() == []
    with path.open("ab") as more:
        more.write(b', "at": 1}\n')
    assert [(line.event["type"], line.end) for line in file.read()] == [("b", path.stat().st_size)]


def test_a_file_of_several_batches_is_read_to_its_end_though_nothing_is_added(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    line = json.dumps({"type": "metric", "at": 1.0, "step": 1, "values": {"loss": 0.5}}).encode() + b"\n"
    path.write_bytes(line * 40_000)
    file = EventFile(path)
    read = []
    while file.has_more:
        read += file.read()
    assert len(read) == 40_000 and read[-1].end == path.stat().st_size and not file.is_behind


def test_two_events_on_one_line_are_one_line_that_is_no_event(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"type": "a"},{"type": "b"}\n{"type": "c"}\n')
    found = [(line.event["type"], line.end) for line in EventFile(path).read()]
    assert found == [("c", path.stat().st_size)]


def test_a_batch_that_overlaps_with_what_was_taken_in_brings_only_the_rest(
    attempt: Attempt, file: Path
) -> None:
    lines = EventFile(file).read()
    take_in(attempt, lines[:6])
    take_in(attempt, lines[3:])
    found = facts(attempt.run_id)
    other = [message for _, message in found["story"]]
    assert other == ["Training.", "Two rows were skipped.", "Evaluating."]
    assert found["run"][4] == {"loss": 1.25, "learning_rate": 0.1} and found["offset"] == file.stat().st_size


def test_a_phase_that_says_nothing_of_itself_reads_like_a_story(attempt: Attempt, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    told = [("preparing", "Text classification, LoRA adapters, on CPU"), ("training", ""), ("packaging", "")]
    lines = [json.dumps({"type": "phase", "at": 1.0, "phase": p, "message": m}) + "\n" for p, m in told]
    path.write_text("".join(lines))
    take_in(attempt, EventFile(path).read())
    assert list(Event.objects.filter(kind="phase").values_list("message", flat=True)) == [
        "Preparing: Text classification, LoRA adapters, on CPU.", "Training began.", "Packaging the model.",
    ]  # fmt: skip


def test_a_line_that_is_no_event_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'\xff\xfe\nnull\n{"type": 3}\n{"type": "a", "text": "x\\u0000y"}\n')
    assert [line.event for line in EventFile(path).read()] == [{"type": "a", "text": "xy"}]


class Counted:
    """Has the server end this session just before the given statement."""

    def __init__(self, number: int) -> None:
        self._left = number

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            import psycopg

            backend = connection.connection.info.backend_pid
            values = connection.get_connection_params()
            keys = {"dbname", "user", "password", "host", "port"}
            with psycopg.connect(**{k: v for k, v in values.items() if k in keys}) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [backend])
        return execute(sql, params, many, context)
