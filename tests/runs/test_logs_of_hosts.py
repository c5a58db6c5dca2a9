"""What each host of a run printed can be read, searched, followed and taken away as a log of one host can."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from runs import lifecycle
from runs.execution.log_keeper import LogKeeper
from runs.housekeeping.planning import plan
from runs.logs import forget_logs
from runs.models import Attempt, Log, LogChunk, Node, RetentionRule, Run, Worker
from webapp import storage

from .conftest import Lab, Script, poll, text_of


@dataclass
class Printing:
    """Two hosts of an attempt that print what a test says."""

    attempt: Attempt
    folder: Path

    def __post_init__(self) -> None:
        node = self.attempt.nodes.get()
        self.paths = {1: self.folder / "leads.txt", 2: self.folder / "follows.txt"}
        self.keepers = {
            1: LogKeeper(self.attempt, self.paths[1]),
            2: LogKeeper(self.attempt, self.paths[2], node),
        }

    def say(self, host: int, text: str) -> None:
        with self.paths[host].open("a") as file:
            file.write(text)
        while piece := self.keepers[host].next():
            self.keepers[host].keep(piece)

    def end(self) -> None:
        for host, keeper in self.keepers.items():
            whole = keeper.collect(self.folder / f"whole-{host}")
            assert whole is not None
            storage.put(whole, keeper.key)
            keeper.stored(whole.stat().st_size)
        self.attempt.nodes.update(finished_at=timezone.now(), outcome="done")
        Attempt.objects.filter(pk=self.attempt.pk).update(finished_at=timezone.now(), outcome="failed")
        Run.objects.filter(pk=self.attempt.run_id).update(status="failed", finished_at=timezone.now())


@pytest.fixture
def run(lab: Lab) -> Run:
    return lab.run(status="running", nodes=2, strategy="ddp", attempt=1)


@pytest.fixture
def printing(run: Run, tmp_path: Path) -> Printing:
    one, two = (Worker.objects.create(name=host, host=host, pid=1) for host in ("gpu-1", "gpu-2"))
    attempt = Attempt.objects.create(run=run, number=1, worker=one, lease_until=timezone.now())
    Node.objects.create(attempt=attempt, rank=1, worker=two, lease_until=timezone.now())
    found = Printing(attempt, tmp_path)
    found.say(1, "leading\n")
    found.say(2, "".join(f"following {number}\n" for number in range(1, 1201)))
    return found


def page_of(browser: Client, run: Run, **query: Any) -> str:
    return browser.get(f"/runs/{run.pk}/log/", query).content.decode()


@pytest.mark.parametrize("ended", [False, True])
def test_the_page_shows_the_host_that_leads_and_any_other_by_its_number(
    browser: Client, run: Run, printing: Printing, ended: bool
) -> None:
    if ended:
        printing.end()
    leads = page_of(browser, run)
    assert "attempt 1 on gpu-1, host 1 of 2, 1 line" in text_of(leads)
    assert "leading" in leads and "following" not in leads
    assert re.findall(r'<option value="(\d)"( selected)?>([^<]*)<', leads) == [
        ("1", " selected", "1, gpu-1 (leads)"),
        ("2", "", "2, gpu-2"),
    ]
    follows = page_of(browser, run, host=2)
    assert "attempt 1 on gpu-2, host 2 of 2, 1,200 lines" in text_of(follows)
    assert "following 1200" in follows and "leading" not in follows
    # Whatever is clicked there stays with that host.
    links = re.findall(r'href="\?([^"#]*)', follows)
    assert links and all(link.startswith("attempt=1&amp;host=2&amp;") for link in links)
    linked = page_of(browser, run, attempt=1, host=2, line=300)
    assert '<li id="L300" class="log-hit">' in linked


def test_a_host_is_searched_and_taken_away_by_itself(browser: Client, run: Run, printing: Printing) -> None:
    found = text_of(page_of(browser, run, host=2, q="following 100"))
    assert "11 lines match" in found and "1007 following 1007" in found
    assert "0 lines match" in text_of(page_of(browser, run, host=1, q="following"))
    assert f'href="/runs/{run.pk}/log/attempt-1.txt?host=2"' in page_of(browser, run, host=2)
    answer = browser.get(f"/runs/{run.pk}/log/attempt-1.txt?host=2")
    assert b"".join(answer.streaming_content).startswith(b"following 1\n")  # type: ignore[attr-defined]
    assert f"first-try-{run.pk}-attempt-1-host-2.txt" in answer["Content-Disposition"]
    leads = browser.get(f"/runs/{run.pk}/log/attempt-1.txt")
    assert b"".join(leads.streaming_content) == b"leading\n"  # type: ignore[attr-defined]
    assert leads["ETag"] != answer["ETag"]


@pytest.mark.parametrize("host", ["0", "3", "-1", "x", "99999999999999999999"])
def test_a_host_that_the_run_does_not_have_is_not_found(
    browser: Client, script: Script, run: Run, printing: Printing, host: str
) -> None:
    for path in ("log/", "log/new/", "log/attempt-1.txt"):
        assert browser.get(f"/runs/{run.pk}/{path}?host={host}").status_code == 404, path
    assert script.get(f"runs/{run.pk}/logs/1", host_number=host).status_code in {404, 422}
    assert script.get(f"runs/{run.pk}/logs/1/text", host_number=host).status_code in {404, 422}


def test_a_run_on_one_host_is_asked_for_none(browser: Client, lab: Lab) -> None:
    run = lab.run(status="running", attempt=1)
    Attempt.objects.create(run=run, number=1, lease_until=timezone.now(), log_tail="alone")
    page = page_of(browser, run)
    assert "alone" in page and 'name="host"' not in page and "host" not in text_of(page).split("alone")[0]
    assert browser.get(f"/runs/{run.pk}/log/?host=2").status_code == 404


def test_whoever_may_not_see_the_run_sees_no_host_of_it(
    lab: Lab, client: Client, run: Run, printing: Printing
) -> None:
    client.force_login(lab.stranger)
    for path in ("log/", "log/new/", "log/attempt-1.txt"):
        assert client.get(f"/runs/{run.pk}/{path}?host=2").status_code == 404, path


def test_the_log_of_any_host_is_followed_line_by_line(
    browser: Client, run: Run, printing: Printing, django_assert_num_queries: Any
) -> None:
    page = page_of(browser, run, host=2)
    asked = dict(re.findall(r'data-log-(url|since|attempt|tag|host)="([^"]*)"', page))
    address = f"{asked['url']}?attempt=1&host={asked['host']}&since={{}}".format
    with django_assert_num_queries(1):
        assert poll(browser, address(asked["since"]), asked["tag"]).status_code == 304
    printing.say(2, "new\n50%")
    answer = poll(browser, address(asked["since"]), asked["tag"])
    assert (answer.json()["lines"], answer.json()["unfinished"]) == ([[1201, "new"]], "50%")
    # A line of the other host is none of this one, and is asked for once.
    printing.say(1, "a line of the other\n")
    since = answer.json()["next"]
    other = poll(browser, address(since), answer["HX-PTag"])
    assert other.status_code == 200 and other.json()["lines"] == []
    assert poll(browser, address(since), other["HX-PTag"]).status_code == 304
    # The page of the run follows the host that leads.
    shown = browser.get(f"/runs/{run.pk}/").content.decode()
    assert "a line of the other" in shown and "following" not in shown
    assert "last lines of the host that leads" in text_of(shown)


def test_scripts_get_the_logs_of_all_hosts(script: Script, run: Run, printing: Printing) -> None:
    listed = script.get(f"runs/{run.pk}/logs").json()
    assert [(item["host_number"], item["host"], item["lines"]) for item in listed] == [
        (1, "gpu-1", 1),
        (2, "gpu-2", 1200),
    ]
    assert listed[1]["url"].endswith(f"/runs/{run.pk}/logs/1/text?host_number=2")
    address = f"runs/{run.pk}/logs/1"
    tail = script.get(address, host_number=2, tail=1).json()
    assert [line["text"] for line in tail["lines"]] == ["following 1200"]
    printing.say(2, "new\n")
    since = script.get(address, host_number=2, since=tail["next"]).json()
    assert [line["text"] for line in since["lines"]] == ["new"]
    assert script.get(address, host_number=2, search="following").json()["matches"] == 1200
    assert script.get(address, search="following").json()["matches"] == 0
    text = script.get(f"{address}/text", host_number=2)
    assert b"".join(text.streaming_content).endswith(b"following 1200\nnew\n")
    assert script.get(address, host_number=3).status_code == 404


def test_what_a_lost_host_printed_stays_as_far_as_it_was_taken_in(
    browser: Client, run: Run, printing: Printing
) -> None:
    """Its worker was killed: nothing of it comes to storage."""
    printing.attempt.nodes.update(finished_at=timezone.now(), outcome="lost")
    with pytest.raises(lifecycle.LeaseLost):
        printing.say(2, "too late\n")
    Attempt.objects.filter(run=run).update(finished_at=timezone.now(), outcome="lost")
    page = page_of(browser, run, host=2)
    assert "following 1200" in page and "too late" not in page


def test_the_logs_of_all_hosts_go_with_the_run(lab: Lab, run: Run, printing: Printing) -> None:
    printing.say(2, "not stored\n")
    printing.end()
    names = [key.rsplit("/", 1)[1] for key in storage.keys_under(f"runs/{run.pk}/logs")]
    assert sorted(names) == ["attempt-1-host-2.log", "attempt-1.log"]
    lifecycle.delete(run.pk)
    assert not Log.objects.exists() and not LogChunk.objects.exists()


def test_house_keeping_removes_and_counts_the_logs_of_all_hosts(
    browser: Client, lab: Lab, run: Run, printing: Printing
) -> None:
    printing.attempt.nodes.update(log_tail="following 1200")
    Run.objects.filter(pk=run.pk).update(status="failed", finished_at=timezone.now())
    (item,) = plan(RetentionRule(log_days=0), lab.workspace).items
    assert item.names == ("attempt-1.log", "attempt-1-host-2.log")
    forget_logs(run.pk)
    assert not LogChunk.objects.exists()
    for host in (1, 2):
        page = text_of(page_of(browser, run, host=host))
        assert "This log is no longer kept" in page and "following" not in page
