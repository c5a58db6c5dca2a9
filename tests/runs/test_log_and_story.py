"""What a run printed can be read, searched, followed and taken away; what happened to it reads like a story."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from runs.execution.log_keeper import LogKeeper
from runs.logs import forget_logs
from runs.models import Attempt, Event, Log, LogChunk, Run, Worker
from webapp import storage

from .conftest import Lab, Script, poll, text_of

NASTY = "<script>alert(1)</script>"
EVIL = r"^(.+)(.+)(.+)\1\2\3z$"


class Printed:
    """An attempt whose trainer prints what a test says."""

    def __init__(self, attempt: Attempt, folder: Path) -> None:
        self.attempt = attempt
        self.path = folder / f"log-{attempt.pk}.txt"
        self.keeper = LogKeeper(attempt, self.path)

    def say(self, text: str) -> Printed:
        with self.path.open("a") as file:
            file.write(text)
        while piece := self.keeper.next():
            self.keeper.keep(piece)
        return self

    def end(self) -> Printed:
        whole = self.keeper.collect(self.path.with_suffix(".whole"))
        assert whole is not None
        storage.put(whole, self.keeper.key)
        self.keeper.stored(whole.stat().st_size)
        Attempt.objects.filter(pk=self.attempt.pk).update(finished_at=timezone.now(), outcome="lost")
        return self


Begin = Callable[..., Printed]


@pytest.fixture
def begin(lab: Lab, tmp_path: Path) -> Begin:
    def start(run: Run, number: int = 1, host: str = "gpu-1") -> Printed:
        worker, _ = Worker.objects.get_or_create(name=host, defaults={"host": host, "pid": 1})
        Run.objects.filter(pk=run.pk).update(attempt=number)
        run.attempt = number
        attempt = Attempt.objects.create(run=run, number=number, worker=worker, lease_until=timezone.now())
        return Printed(attempt, tmp_path)

    return start


@pytest.fixture
def run(lab: Lab) -> Run:
    return lab.run(status="running")


def lines_shown(page: str) -> list[tuple[str, str]]:
    found = re.findall(
        r'<li id="L\d+"[^>]*><a class="log-number"[^>]*>(\d+)</a><span>(.*?)</span></li>', page, re.S
    )
    return [(number, text) for number, text in found]


def test_the_page_of_the_log_begins_at_its_end_and_leads_to_what_was_before(
    browser: Client, run: Run, begin: Begin
) -> None:
    begin(run).say("".join(f"line {number}\n" for number in range(1, 1201)))
    page = browser.get(f"/runs/{run.pk}/log/").content.decode()
    shown = lines_shown(page)
    assert shown[0] == ("701", "line 701") and shown[-1] == ("1200", "line 1200")
    assert "1,200 lines so far" in text_of(page) and "attempt 1 on gpu-1" in text_of(page)
    assert 'href="?attempt=1&amp;from=201"' in page and "Last lines" not in page
    earlier = lines_shown(browser.get(f"/runs/{run.pk}/log/?attempt=1&from=201").content.decode())
    assert (earlier[0][0], earlier[-1][0]) == ("201", "700")
    linked = browser.get(f"/runs/{run.pk}/log/?attempt=1&line=300").content.decode()
    assert '<li id="L300" class="log-hit">' in linked and lines_shown(linked)[0][0] == "290"


def test_what_is_printed_is_never_markup(browser: Client, run: Run, begin: Begin) -> None:
    begin(run).say(f"{NASTY}\n{NASTY}")
    for path in ("log/", f"log/?q={NASTY}", "log/?q=alert&regex=1", "", "events/"):
        assert NASTY not in browser.get(f"/runs/{run.pk}/{path}").content.decode(), path


def test_a_search_counts_every_match_and_shows_what_stands_around(
    browser: Client, run: Run, begin: Begin
) -> None:
    begin(run).say("".join(f"step {n}\n{'Loss is NaN' if n % 100 == 0 else 'fine'}\n" for n in range(1, 501)))
    page = browser.get(f"/runs/{run.pk}/log/?attempt=1&q=loss IS").content.decode()
    said = text_of(page)
    assert "5 lines match “loss IS”" in said and "200 Loss is NaN" in said and "199 step 100" in said
    assert page.count('class="log-hit"') == 5 and "step 99 " not in said
    found = text_of(browser.get(f"/runs/{run.pk}/log/?q=^step .00$&regex=1").content.decode())
    assert "5 lines match" in found
    one = text_of(browser.get(f"/runs/{run.pk}/log/?q=step 250").content.decode())
    assert "1 line matches" in one
    assert "0 lines match" in text_of(browser.get(f"/runs/{run.pk}/log/?q=nowhere").content.decode())


def test_of_very_many_matches_some_are_shown_and_the_rest_can_be_gone_on_to(
    browser: Client, run: Run, begin: Begin
) -> None:
    begin(run).say("".join(f"step {n}\n" for n in range(1, 12_001)))
    page = browser.get(f"/runs/{run.pk}/log/?q=step").content.decode()
    assert "12,000 lines match “step”; 200 shown here" in text_of(page)
    assert "from=201" in page
    following = text_of(browser.get(f"/runs/{run.pk}/log/?q=step&from=201").content.decode())
    assert "201 step 201" in following and "400 step 400" in following and "401 step 401" not in following


def test_an_expression_that_would_take_for_ever_is_refused_in_words(
    browser: Client, run: Run, begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runs.log_search.SECONDS", 0.3)
    begin(run).say("".join(f"{'abcd' * 30}{n}z\n" for n in range(3000)))
    answer = browser.get(f"/runs/{run.pk}/log/", {"q": EVIL, "regex": "1"})
    assert answer.status_code == 422 and "takes too long on this log" in text_of(answer.content.decode())
    wrong = browser.get(f"/runs/{run.pk}/log/", {"q": "(", "regex": "1"})
    assert wrong.status_code == 422 and "This is no regular expression: " in text_of(wrong.content.decode())
    assert browser.get(f"/runs/{run.pk}/log/", {"q": "a\0b", "regex": "1"}).status_code == 200


def test_attempts_are_kept_apart_and_chosen_by_number(browser: Client, run: Run, begin: Begin) -> None:
    begin(run, 1).say("of the first\n").end()
    begin(run, 2, "gpu-2").say("of the second\n")
    newest = text_of(browser.get(f"/runs/{run.pk}/log/").content.decode())
    assert "attempt 2 on gpu-2" in newest and "of the second" in newest and "of the first" not in newest
    first = text_of(browser.get(f"/runs/{run.pk}/log/?attempt=1").content.decode())
    assert "of the first" in first and "of the second" not in first and "1 line." in first
    assert browser.get(f"/runs/{run.pk}/log/?attempt=3").status_code == 404
    assert browser.get(f"/runs/{run.pk}/log/?attempt=x").status_code == 404


def test_a_log_that_was_removed_to_make_room_says_so(
    browser: Client, script: Script, run: Run, begin: Begin
) -> None:
    begin(run).say("gone soon\n").end()
    storage.delete_under(f"runs/{run.pk}/logs")
    assert "This log is no longer kept" in text_of(browser.get(f"/runs/{run.pk}/log/").content.decode())
    assert browser.get(f"/runs/{run.pk}/log/attempt-1.txt").status_code == 404
    assert script.get(f"runs/{run.pk}/logs/1").status_code == 404
    assert script.get(f"runs/{run.pk}/logs/1/text").status_code == 404
    assert script.get(f"runs/{run.pk}/logs").status_code == 200


def test_logs_that_house_keeping_forgets_are_gone_from_the_database_too(
    browser: Client, lab: Lab, begin: Begin
) -> None:
    run = lab.run(status="failed")
    begin(run, 1).say("of a worker that was lost\n")
    begin(run, 2).say("of another\n").end()
    storage.delete_under(f"runs/{run.pk}/logs")
    forget_logs(run.pk)
    for number in (1, 2):
        page = text_of(browser.get(f"/runs/{run.pk}/log/?attempt={number}").content.decode())
        assert "This log is no longer kept" in page and "of a" not in page
    assert not LogChunk.objects.exists()


@pytest.mark.parametrize("ended", [False, True])
def test_the_whole_log_is_a_text_file_that_can_be_had_in_parts(
    browser: Client, run: Run, begin: Begin, ended: bool
) -> None:
    text = "".join(f"line {number} ä\n" for number in range(20_000))
    printed = begin(run).say(text)
    if ended:
        printed.end()
    answer = browser.get(f"/runs/{run.pk}/log/attempt-1.txt")
    assert b"".join(answer.streaming_content).decode() == text  # type: ignore[attr-defined]
    assert (
        answer["Content-Type"] == "text/plain; charset=utf-8"
        and "attachment" in answer["Content-Disposition"]
    )
    data = text.encode()
    for asked, (first, last) in {
        "bytes=100000-199999": (100_000, 199_999),
        "bytes=-10": (len(data) - 10, len(data) - 1),
    }.items():
        part = browser.get(f"/runs/{run.pk}/log/attempt-1.txt", headers={"Range": asked})
        assert part.status_code == 206
        assert part["Content-Range"] == f"bytes {first}-{last}/{len(data)}"
        assert b"".join(part.streaming_content) == data[first : last + 1]  # type: ignore[attr-defined]
    beyond = browser.get(f"/runs/{run.pk}/log/attempt-1.txt", headers={"Range": "bytes=99999999-"})
    assert beyond.status_code == 416
    same = browser.get(f"/runs/{run.pk}/log/attempt-1.txt", headers={"If-None-Match": answer["ETag"]})
    assert same.status_code == 304
    assert browser.get(f"/runs/{run.pk}/log/attempt-2.txt").status_code == 404


# -- new lines -------------------------------------------------------------------------------------
def follow(page: str) -> dict[str, str]:
    """What the page tells static/js/log.js."""
    return dict(re.findall(r'data-log-(url|since|attempt|tag)="([^"]*)"', page))


def test_the_page_of_a_run_asks_for_new_lines_and_gets_no_others(
    browser: Client, run: Run, begin: Begin, django_assert_num_queries: Any
) -> None:
    printed = begin(run).say("first\nsecond\n 10%")
    page = browser.get(f"/runs/{run.pk}/").content.decode()
    assert "first" in page and "second" in page and " 10%" in page
    asked = follow(page)
    with django_assert_num_queries(1):
        assert poll(browser, asked["url"], asked["tag"]).status_code == 304
    version = Run.objects.get(pk=run.pk).row_version
    printed.say("\r 20%\nthird\n")
    assert Run.objects.get(pk=run.pk).row_version == version, "the page itself is not drawn again for a line"
    answer = poll(browser, f"{asked['url']}?attempt=1&since={asked['since']}", asked["tag"])
    found = answer.json()
    assert found["lines"] == [[3, " 20%"], [4, "third"]] and found["unfinished"] == ""
    assert not found["over"] and "no-store" in answer["Cache-Control"]
    assert poll(browser, asked["url"], answer["HX-PTag"]).status_code == 304
    printed.say("fourth")
    again = poll(browser, f"{asked['url']}?attempt=1&since={found['next']}", answer["HX-PTag"]).json()
    assert (again["lines"], again["unfinished"]) == ([], "fourth")


def test_new_lines_go_on_through_the_end_and_into_the_next_attempt(
    browser: Client, run: Run, begin: Begin
) -> None:
    printed = begin(run).say("one\n")
    asked = follow(browser.get(f"/runs/{run.pk}/log/").content.decode())
    printed.say("two\n").end()
    path = f"{asked['url']}?attempt=1&since={asked['since']}"
    ended = poll(browser, path, asked["tag"])
    assert ended.json()["lines"] == [[2, "two"]] and ended.json()["over"] is False
    begin(run, 2).say("of the second\n")
    newer = poll(browser, f"{asked['url']}?attempt=1&since={ended.json()['next']}", ended["HX-PTag"]).json()
    assert newer["attempt"] == 2 and newer["lines"] == [[1, "of the second"]]
    Run.objects.filter(pk=run.pk).update(status="succeeded")
    Attempt.objects.filter(run=run).update(finished_at=timezone.now())
    assert browser.get(asked["url"]).json()["over"] is True


def test_a_page_that_is_far_behind_gets_the_end(browser: Client, run: Run, begin: Begin) -> None:
    begin(run).say("".join(f"line {number} {'x' * 80}\n" for number in range(1, 10_001)))
    found = browser.get(f"/runs/{run.pk}/log/new/?attempt=1&since=0").json()
    assert found["lines"][-1][0] == 10_000 and 1000 < len(found["lines"]) < 3000
    assert all(text.startswith(f"line {number} ") for number, text in found["lines"])


def test_the_log_of_a_run_that_waits_is_empty(browser: Client, script: Script, lab: Lab) -> None:
    run = lab.run()
    assert "Nothing printed yet" in text_of(browser.get(f"/runs/{run.pk}/log/").content.decode())
    assert browser.get(f"/runs/{run.pk}/log/new/").json()["lines"] == []
    assert script.get(f"runs/{run.pk}/logs").json() == []


def test_a_log_from_before_whole_logs_were_kept_shows_its_last_lines(
    browser: Client, script: Script, lab: Lab
) -> None:
    run = lab.run(status="succeeded", attempt=1)
    Attempt.objects.create(
        run=run, number=1, lease_until=timezone.now(), finished_at=timezone.now(), log_tail="old\nlines"
    )
    assert not Log.objects.exists()
    assert lines_shown(browser.get(f"/runs/{run.pk}/log/").content.decode()) == [("1", "old"), ("2", "lines")]
    answer = browser.get(f"/runs/{run.pk}/log/attempt-1.txt")
    assert b"".join(answer.streaming_content) == b"old\nlines\n"  # type: ignore[attr-defined]
    assert [line["text"] for line in script.get(f"runs/{run.pk}/logs/1").json()["lines"]] == ["old", "lines"]


# -- over HTTP -------------------------------------------------------------------------------------
def test_scripts_read_search_and_follow_logs(script: Script, run: Run, begin: Begin) -> None:
    begin(run).say("of the first\n").end()
    printed = begin(run, 2, "gpu-2").say("".join(f"step {n}\n" for n in range(1, 1001)))
    listed = script.get(f"runs/{run.pk}/logs").json()
    assert [(item["attempt"], item["lines"], item["host"]) for item in listed] == [
        (2, 1000, "gpu-2"),
        (1, 1, "gpu-1"),
    ]
    assert listed[1]["outcome"] == "lost" and listed[0]["url"].endswith(f"/runs/{run.pk}/logs/2/text")
    tail = script.get(f"runs/{run.pk}/logs/2", tail=2).json()
    assert [line["text"] for line in tail["lines"]] == ["step 999", "step 1000"] and not tail["over"]
    middle = script.get(f"runs/{run.pk}/logs/2", line=500, tail=1).json()["lines"]
    assert [(line["number"], line["text"]) for line in middle] == [(500, "step 500")]
    printed.say("new\n50%")
    newer = script.get(f"runs/{run.pk}/logs/2", since=tail["next"]).json()
    assert [line["text"] for line in newer["lines"]] == ["new"] and newer["unfinished"] == "50%"
    found = script.get(f"runs/{run.pk}/logs/2", search="^STEP 10+$", regex=True).json()
    assert found["matches"] == 3
    assert [line["number"] for line in found["lines"] if line["match"]] == [10, 100, 1000]
    refused = script.get(f"runs/{run.pk}/logs/2", search="(", regex=True)
    assert refused.status_code == 422 and "search" in refused.json()["error"]["fields"]
    assert script.get(f"runs/{run.pk}/logs/3").status_code == 404
    text = script.get(f"runs/{run.pk}/logs/1/text")
    assert b"".join(text.streaming_content) == b"of the first\n"


# -- story -----------------------------------------------------------------------------------------
def tell(run: Run, attempt: int, kind: str, message: str, ago: int) -> None:
    Event.objects.create(
        run=run, attempt=attempt, kind=kind, message=message, at=timezone.now() - timedelta(seconds=ago)
    )


@pytest.fixture
def eventful(run: Run, begin: Begin) -> Run:
    begin(run, 1, "gpu-1")
    begin(run, 2, "gpu-2")
    tell(run, 0, "submitted", "Queued by anna.", 60)
    tell(run, 1, "started", "Started on host gpu-1.", 50)
    tell(run, 1, "checkpoint", "Checkpoint at step 1,200 (best so far).", 40)
    tell(run, 1, "lost", "Host gpu-1 was lost: it stopped answering.", 30)
    tell(run, 2, "resumed_from", "Resumed on gpu-2 from step 1,200.", 20)
    tell(run, 2, "message", "Stopped early.", 10)
    return run


def test_the_story_stands_newest_first_by_attempt(browser: Client, eventful: Run) -> None:
    for path in ("", "events/"):
        said = text_of(browser.get(f"/runs/{eventful.pk}/{path}").content.decode())
        order = [
            "Attempt 2 on gpu-2", "Stopped early.", "Resumed on gpu-2 from step 1,200.", "Attempt 1 on gpu-1",
            "Host gpu-1 was lost", "Checkpoint at step 1,200", "Before it started", "Queued by anna.",
        ]  # fmt: skip
        places = [said.index(part) for part in order]
        assert places == sorted(places), path


def test_the_story_can_be_narrowed(browser: Client, eventful: Run) -> None:
    def said(**query: str) -> str:
        return text_of(browser.get(f"/runs/{eventful.pk}/events/", query).content.decode())

    assert "Host gpu-1 was lost" in (found := said(part="problems")) and "Queued" not in found
    assert "Checkpoint at" in (found := said(part="checkpoints")) and "was lost" not in found
    assert "Stopped early" in (found := said(attempt="2")) and "Started on" not in found
    assert "Queued by anna" in (found := said(q="ANNA")) and "Started on" not in found
    assert "No event is like that" in said(q="zebra")


def test_scripts_read_the_story_in_parts(script: Script, eventful: Run) -> None:
    first = script.get(f"runs/{eventful.pk}/events", limit=4).json()
    assert [item["kind"] for item in first["events"]] == ["submitted", "started", "checkpoint", "lost"]
    rest = script.get(f"runs/{eventful.pk}/events", since=first["next"]).json()
    assert first["more"] and not rest["more"]
    assert [item["message"] for item in rest["events"]] == [
        "Resumed on gpu-2 from step 1,200.",
        "Stopped early.",
    ]
    problems = script.get(f"runs/{eventful.pk}/events", part="problems").json()["events"]
    assert [item["kind"] for item in problems] == ["lost"]
    assert script.get(f"runs/{eventful.pk}/events", part="zebra").status_code == 422
