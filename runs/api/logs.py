"""What a run printed and what happened to it, over HTTP. Adds to the router of runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404
from ninja import Field, Query, Schema

from runs import log_search, logs, story
from runs.api.runs import router, runs_of
from runs.log_download import text_response
from runs.models import Attempt
from webapp.api import ERRORS, MOST_ROWS, ApiError

EVENTS = 1_000  # of one answer
LINES = 5_000
HOST: Any = Query(1, ge=1, le=MOST_ROWS, description="which host's, of a run on several")  # type: ignore[type-arg]


class EventOut(Schema):
    """A line of a run's story. `data` has its facts: step, worker, code …"""

    id: int
    attempt: int
    kind: str
    message: str
    data: dict[str, Any]
    at: datetime


class EventsOut(Schema):
    """Events in the order they were written; ask again with `since=next`."""

    events: list[EventOut]
    next: int
    more: bool


class LogOut(Schema):
    """What is kept of the output of an attempt, or of one of its hosts. `left_out`: lines in its middle that are not."""

    attempt: int
    host: str
    host_number: int = Field(description="from 1, which leads; above 1 for runs on several hosts")
    started_at: datetime
    finished_at: datetime | None
    outcome: str = Field(
        description="succeeded, failed, cancelled, paused, released, lost; empty while it runs"
    )
    lines: int
    left_out: int
    size: int = Field(description="bytes of the text that `url` gives")
    url: str


class LineOut(Schema):
    """A line; `number` counts from 1, and is 0 for a note about lines that are left out."""

    number: int
    text: str
    match: bool | None = Field(None, description="in an answer to `search`: whether this is a match")


class LinesOut(Schema):
    """Lines of a log. Ask again with `since=next` for what is printed after them."""

    attempt: int
    lines: list[LineOut]
    next: int
    over: bool = Field(description="true once the attempt prints no more")
    unfinished: str = Field(description="a last line that has no end yet, such as a progress bar")
    matches: int | None = Field(None, description="in an answer to `search`: how many lines match in all")
    next_line: int | None = Field(None, description="more matches: search again with `line=next_line`")


def _attempt(request: HttpRequest, run_id: int, number: int) -> Attempt:
    run = get_object_or_404(runs_of(request), pk=run_id)
    attempt = run.attempts.filter(number=number).first() if number <= MOST_ROWS else None
    if attempt is None:
        raise ApiError(404, "not_found", f"This run has no attempt {number}.")
    attempt.run = run
    found: Attempt = attempt
    return found


def _reader(request: HttpRequest, run_id: int, number: int, host_number: int) -> logs.LogReader:
    attempt = _attempt(request, run_id, number)
    rank = logs.rank_of(attempt.run, host_number)
    if rank is None:
        raise ApiError(404, "not_found", f"This run has no host {host_number}.")
    return logs.LogReader(attempt, rank)


@router.get("/{int:run_id}/events", response={200: EventsOut, **ERRORS}, summary="What happened to a run")
def run_events(
    request: HttpRequest,
    run_id: int,
    since: int = Query(0, ge=0, le=2**63 - 1, description="`next` of the last answer"),  # type: ignore[type-arg]
    part: Literal["", "problems", "checkpoints", "states"] = "",
    attempt: int | None = Query(None, ge=0, le=MOST_ROWS),  # type: ignore[type-arg]
    limit: int = Query(200, ge=1, le=EVENTS),  # type: ignore[type-arg]
) -> Any:
    """Oldest first."""
    run = get_object_or_404(runs_of(request), pk=run_id)
    asked = {"part": part, "attempt": "" if attempt is None else str(attempt)}
    events = story.StoryFilter(asked).apply(run.events.filter(pk__gt=since)).order_by("pk")
    found = list(events[: limit + 1])
    shown = found[:limit]
    return {"events": shown, "next": shown[-1].pk if shown else since, "more": len(found) > limit}


@router.get("/{int:run_id}/logs", response={200: list[LogOut], **ERRORS}, summary="Logs of a run")
def run_logs(request: HttpRequest, run_id: int) -> Any:
    """One for each attempt, newest first, and for each of its hosts where the run is on several."""
    run = get_object_or_404(runs_of(request), pk=run_id)
    return [
        _log_out(request, attempt, rank, host)
        for attempt in logs.attempts_with_hosts(run)
        for rank, host in enumerate(logs.hosts_of(attempt))
    ]


def _log_out(request: HttpRequest, attempt: Attempt, rank: int, host: str) -> dict[str, Any]:
    reader = logs.LogReader(attempt, rank)
    path = f"/api/v1/runs/{attempt.run_id}/logs/{attempt.number}/text"
    path += f"?host_number={rank + 1}" if rank else ""
    return {
        "attempt": attempt.number,
        "host": host,
        "host_number": rank + 1,
        "started_at": attempt.started_at,
        "finished_at": attempt.finished_at,
        "outcome": attempt.outcome,
        "lines": reader.last_line,
        "left_out": reader.log.left_out if reader.log else 0,
        "size": reader.size,
        "url": request.build_absolute_uri(path),
    }


@router.get("/{int:run_id}/logs/{int:attempt}", response={200: LinesOut, **ERRORS}, summary="Lines of a log")
def log_lines(
    request: HttpRequest,
    run_id: int,
    attempt: int,
    tail: int = Query(200, ge=1, le=LINES, description="the last so many lines"),  # type: ignore[type-arg]
    line: int | None = Query(None, ge=1, le=2**63 - 1, description="from this line on, `tail` lines"),  # type: ignore[type-arg]
    since: int | None = Query(None, ge=0, le=2**63 - 1, description="`next` of the last answer"),  # type: ignore[type-arg]
    search: str = Query("", max_length=log_search.LONGEST, description="lines with this text"),  # type: ignore[type-arg]
    regex: bool = Query(False, description="`search` is a regular expression"),  # type: ignore[type-arg]
    host_number: int = HOST,
) -> Any:
    """The last lines, or those from a line on, or what came since an answer, or those that match."""
    reader = _reader(request, run_id, attempt, host_number)
    size = reader.log.size if reader.log else 0
    answer: dict[str, Any] = {"attempt": attempt, "next": size, "over": reader.is_over}
    answer["unfinished"] = reader.unfinished
    try:
        if search:
            found = log_search.search(reader, search, regex=regex, from_line=line or 1)
            shown = [item for group in found.groups for item in group]
            answer["lines"] = [
                {"number": item.number, "text": item.text, "match": item.hit} for item in shown
            ]
            return answer | {"matches": found.count, "next_line": found.next_line or None}
        if since is not None:
            lines, after = reader.since(since, 1 << 20)
            return answer | {"lines": lines, "next": after}
        lines = reader.lines(line, tail) if line else reader.tail(tail)
    except logs.LogGone as gone:
        raise ApiError(404, "not_found", str(gone)) from gone
    except log_search.SearchError as refused:
        raise ApiError(422, "invalid", str(refused), {"search": str(refused)}) from refused
    return answer | {"lines": lines}


@router.get(
    "/{int:run_id}/logs/{int:attempt}/text", response={200: bytes, **ERRORS}, summary="Download a log"
)
def log_text(request: HttpRequest, run_id: int, attempt: int, host_number: int = HOST) -> HttpResponseBase:
    """The whole log as text; supports Range."""
    reader = _reader(request, run_id, attempt, host_number)
    return text_response(request, reader.attempt.run, reader.attempt, reader.rank)
