"""One more host of a run: what it prints is kept, its end is told at once, and what it has lost it leaves alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from runs import lifecycle
from runs.execution.following import Following
from runs.execution.trainer import Trainer
from runs.logs import LogReader, last_lines
from runs.models import Attempt, Log, LogChunk, Node, Run, Worker
from tests.runs.execution.supervised import until
from webapp import storage

KEY = "runs/{}/logs/attempt-1-host-2.log"


class Followed:
    """A node that is followed in a thread of its own, as a slot does."""

    def __init__(self, node: Node) -> None:
        self.node = node
        following = Following(node, Trainer(), threading.Event(), {"tuneboard": "test"})

        def run() -> None:
            following.run()
            connection.close()

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def wait(self) -> Node:
        self.thread.join(60)
        assert not self.thread.is_alive(), "following does not end"
        found: Node = Node.objects.get(pk=self.node.pk)
        return found


Follow = Callable[..., Followed]


@pytest.fixture
def follow(new_run: Callable[..., Run], scripted: None, worker: Worker) -> Iterator[Follow]:
    """Claims a run with these settings for two hosts, and does the part of the second."""
    begun: list[Followed] = []

    def begin(**script: Any) -> Followed:
        Worker.objects.create(name="two", host="two", pid=2, queues=["cpu"], slots=1)
        lifecycle.submit(new_run(settings={"seed": 7, **script}, nodes=2, strategy="ddp"), None)
        attempt = lifecycle.claim(worker, ["cpu"])
        assert attempt is not None
        Attempt.objects.filter(pk=attempt.pk).update(rendezvous="127.0.0.1:1")
        node = Node.objects.select_related("attempt__run", "worker").get()
        begun.append(Followed(node))
        return begun[-1]

    yield begin
    Attempt.objects.filter(finished_at=None).update(finished_at=timezone.now())
    for each in begun:
        each.wait()


def test_what_a_host_prints_is_there_while_it_trains_and_whole_in_storage_afterwards(follow: Follow) -> None:
    followed = follow(steps=100_000, delay=0.02, say="hello from host 2")
    attempt = followed.node.attempt
    until(lambda: Log.objects.filter(attempt=attempt, rank=1, size__gt=0).exists())
    assert "hello from host 2" in "\n".join(last_lines(attempt, rank=1))
    assert not Log.objects.filter(rank=0).exists() and last_lines(attempt) == []
    Attempt.objects.filter(pk=attempt.pk).update(finished_at=timezone.now())
    node = followed.wait()
    assert (node.outcome, node.finished_at is not None) == ("done", True)
    assert not LogChunk.objects.exists()
    with storage.open_file(KEY.format(attempt.run_id)) as source:
        text = source.read().decode()
    reader = LogReader(attempt, 1)
    assert "hello from host 2" in text and b"".join(reader.read(0, reader.size)).decode() == text
    assert "hello from host 2" in node.log_tail


def test_a_log_that_finds_no_storage_stays_in_the_database_and_the_host_is_free(
    follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise OSError("the bucket is away")

    monkeypatch.setattr("runs.execution.following.storage.put", away)
    node = follow(steps=2, say="kept").wait()
    assert (node.outcome, node.finished_at is not None) == ("done", True)
    assert "kept" in "\n".join(last_lines(node.attempt, rank=1))
    assert LogChunk.objects.filter(rank=1).exists()


def test_why_it_failed_is_told_before_its_log_is_brought_away(
    follow: Follow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leader waits some seconds to hear of it; storage may take longer."""
    told: list[tuple[str, str, bool]] = []
    real = storage.put

    def slow(path: Path, key: str, **more: Any) -> None:
        node = Node.objects.get()
        told.append((node.outcome, node.failure.get("code", ""), node.finished_at is None))
        real(path, key, **more)

    monkeypatch.setattr("runs.execution.following.storage.put", slow)
    node = follow(steps=9, die={"1": {"step": 3, "how": "failed"}}).wait()
    assert told == [("failed", "diverged", True)] and node.finished_at is not None


def test_a_host_that_has_lost_its_part_stores_nothing_more(follow: Follow) -> None:
    followed = follow(steps=100_000, delay=0.02, say="mine")
    attempt = followed.node.attempt
    until(lambda: Log.objects.filter(attempt=attempt, rank=1, size__gt=0).exists())
    Node.objects.update(finished_at=timezone.now(), outcome="lost")  # as the dispatcher does
    before = Log.objects.get().size
    node = followed.wait()
    assert node.outcome == "lost" and Log.objects.get().size == before
    assert not storage.exists(KEY.format(attempt.run_id))
