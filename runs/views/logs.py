"""What a run printed and what happened to it: the log's page, its newest lines, the whole text, the story."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.http import Http404, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET, require_safe

from runs import log_search, logs
from runs import story as stories
from runs.log_download import text_response
from runs.models import Attempt, Run
from runs.presentation import RunPage
from webapp.polling import not_modified, polls, tagged
from webapp.requests import Request

PAGE = 500  # lines
NEW_BYTES = 131_072  # of one answer to a page that follows
BEFORE = 10  # lines shown above one that is linked to
EVENTS = 200

# Changes with each line of the newest attempt, on whichever host, with each new attempt, and with its end.
LOG_VERSION = """
(SELECT coalesce(max(attempt.number * 10000000000000
                     + coalesce((SELECT sum(read) FROM runs_log WHERE attempt_id = attempt.id)::bigint, 0) * 2
                     + (attempt.finished_at IS NOT NULL)::int), 0)
 FROM runs_attempt attempt
 WHERE attempt.run_id = thing.id AND attempt.number = thing.attempt)
"""


def _run(request: Request, pk: int) -> Run:
    runs = Run.objects.visible_to(request.user).select_related("base_model")
    run: Run = get_object_or_404(runs, pk=pk)
    return run


@require_GET
def log(request: Request, pk: int) -> HttpResponse:
    """The log of one host of an attempt, by pages of lines; with `q` the lines that match."""
    run = _run(request, pk)
    attempts = logs.attempts_with_hosts(run)
    attempt, rank = _chosen(attempts, request.GET.get("attempt")), _rank(run, request)
    context: dict[str, Any] = {
        "run": run,
        "page": RunPage(run),
        "attempts": attempts,
        "attempt": attempt,
        "q": request.GET.get("q", "").replace("\0", ""),
        "regex": bool(request.GET.get("regex")),
    }
    status = 200
    if attempt is not None:
        reader = logs.LogReader(attempt, rank)
        hosts = logs.hosts_of(attempt)
        host = f"host={rank + 1}" if run.nodes > 1 else ""
        context |= {
            "reader": reader,
            "hosts": list(enumerate(hosts, 1)),
            "number": rank + 1,
            "host": hosts[rank] if rank < len(hosts) else "",
            "host_query": host,
            "which": "&".join(part for part in (f"attempt={attempt.number}", host) if part),
        }
        try:
            if context["q"]:
                context["found"] = log_search.search(
                    reader,
                    context["q"],
                    regex=context["regex"],
                    from_line=_number(request.GET.get("from"), 1),
                )
            else:
                context |= _window(request, reader)
                context["tag"] = logs.tag_of(run, reader)
        except logs.LogGone as gone:
            context["gone"] = str(gone)
        except log_search.SearchError as refused:
            context["problem"], status = str(refused), 422
    return render(request, "runs/log.html", context, status=status)


def _chosen(attempts: list[Attempt], asked: str | None) -> Attempt | None:
    """The one that is asked for, else the newest; Http404 for one that never was."""
    if asked:
        found = [attempt for attempt in attempts if str(attempt.number) == asked]
        if not found:
            raise Http404("This run has no such attempt.")
        return found[0]
    return attempts[0] if attempts else None


def _rank(run: Run, request: Request) -> int:
    """Of the host that is asked for, else the one that leads; Http404 for one that the run does not have."""
    rank = logs.rank_of(run, request.GET.get("host"))
    if rank is None:
        raise Http404("This run has no such host.")
    return rank


def _number(text: str | None, otherwise: int) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 16 else otherwise


def _window(request: Request, reader: logs.LogReader) -> dict[str, Any]:
    """Lines around the one that is asked for, else the last ones."""
    last = reader.last_line
    newest = max(1, last - PAGE + 1)
    asked = _number(request.GET.get("line"), 0)
    first = max(1, asked - BEFORE) if asked else _number(request.GET.get("from"), newest)
    first = max(1, min(first, newest if not asked else last or 1))
    shown = reader.lines(first, PAGE)
    numbers = [line.number for line in shown if line.number]
    end = numbers[-1] if numbers else 0
    return {
        "lines": shown,
        "marked": asked,
        "first": numbers[0] if numbers else 0,
        "end": end,
        "earlier": max(1, numbers[0] - PAGE) if numbers and numbers[0] > 1 else 0,
        "later": end + 1 if end < last else 0,
        "follows": end >= last and not reader.is_over,
        "since": reader.log.size if reader.log else 0,
    }


@polls(Run, version=LOG_VERSION)
@require_GET
def new_lines(request: Request, pk: int) -> HttpResponse:
    """What a host of the newest attempt printed after an offset, as JSON; 304 while that is nothing."""
    run = _run(request, pk)
    rank = _rank(run, request)
    attempt = run.attempts.order_by("-number").first()
    reader = logs.LogReader(attempt, rank) if attempt is not None else None
    tag = logs.tag_of(run, reader)
    if request.htmx and (unchanged := not_modified(request, tag)):
        return unchanged
    answer: dict[str, Any] = {"attempt": 0, "lines": [], "next": 0, "unfinished": "", "over": run.is_over}
    if reader is not None and attempt is not None:
        size = reader.log.size if reader.log else 0
        same = request.GET.get("attempt") == str(attempt.number)
        start = _number(request.GET.get("since"), 0) if same else 0
        cut = size - start > NEW_BYTES  # more than a page shows: the end is what counts
        try:
            lines, after = reader.since(size - NEW_BYTES if cut else start, 2 * NEW_BYTES)
        except logs.LogGone:
            lines, after = [], size
        shown = [[line.number, line.text] for line in lines[int(cut) :]]  # the first may be half a line
        answer |= {"attempt": attempt.number, "lines": shown, "next": after}
        answer["unfinished"] = reader.unfinished
    return tagged(JsonResponse(answer), tag)


@require_safe
def download(request: Request, pk: int, attempt: int) -> HttpResponseBase:
    run = _run(request, pk)
    found = get_object_or_404(run.attempts, number=attempt)
    return text_response(request, run, found, _rank(run, request))


@require_GET
def story(request: Request, pk: int) -> HttpResponse:
    """Everything that happened to a run, newest first, by attempt."""
    run = _run(request, pk)
    chosen = stories.StoryFilter(request.GET)
    page = Paginator(chosen.apply(stories.newest_first(run)), EVENTS).get_page(request.GET.get("page"))
    attempts = list(run.attempts.select_related("worker").order_by("-number"))
    context = {
        "run": run,
        "page": page,
        "filter": chosen,
        "parts": [(name, title) for name, title, _ in stories.PARTS],
        "attempts": attempts,
        "chapters": stories.chapters(page.object_list, attempts),
    }
    return render(request, "runs/story.html", context)
