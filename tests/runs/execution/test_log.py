"""What a trainer prints is kept whole, attempt by attempt, and within bounds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from runs import lifecycle
from runs.execution.log_file import LogFile, printed
from runs.execution.log_keeper import LogKeeper
from runs.lifecycle import LeaseLost
from runs.logs import Line, LogReader, last_lines
from runs.models import Attempt, Log, LogChunk, Run
from tests.runs.execution.supervised import Supervised, until
from webapp import storage

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def attempt(submit: Callable[..., Run], claim: Callable[[], Attempt]) -> Attempt:
    submit()
    return claim()


def say(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def take_in(keeper: LogKeeper) -> None:
    while piece := keeper.next():
        keeper.keep(piece)


def text_of(attempt: Attempt) -> str:
    reader = LogReader(attempt)
    return b"".join(reader.read(0, reader.size)).decode()


def bring_to_storage(keeper: LogKeeper, folder: Path) -> None:
    whole = keeper.collect(folder / "whole")
    assert whole is not None
    storage.put(whole, keeper.key)
    keeper.stored(whole.stat().st_size)


def test_a_progress_bar_is_one_line_in_its_last_state() -> None:
    assert printed(b" 10%\r 50%\r100% done\r") == "100% done"
    assert printed(b"\x1b[32mgreen\x1b[0m and \x00plain") == "green and plain"
    assert printed("é".encode() + b"\xff") == "é�"
    assert printed(b"x" * 9000).endswith("x … (1,000 more characters)")


def test_lines_are_kept_as_they_are_printed_and_a_bar_that_still_moves_stands_below(
    attempt: Attempt, tmp_path: Path
) -> None:
    path = tmp_path / "log.txt"
    keeper = LogKeeper(attempt, path)
    assert keeper.next() is None
    say(path, "one\ntwo\n 1%\r 2%")
    take_in(keeper)
    reader = LogReader(attempt)
    assert [(line.number, line.text) for line in reader.tail(10)] == [(1, "one"), (2, "two")]
    assert reader.unfinished == " 2%"
    say(path, "\r 3%")
    take_in(keeper)
    assert LogReader(attempt).unfinished == " 3%"
    say(path, "\r100%\nthree\n")
    take_in(keeper)
    assert text_of(attempt) == "one\ntwo\n100%\nthree\n" and LogReader(attempt).unfinished == ""
    assert keeper.next() is None


def test_a_piece_whose_answer_was_lost_is_kept_once(attempt: Attempt, tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    keeper = LogKeeper(attempt, path)
    for text in ("one\n", "two\n"):
        say(path, text)
        piece = keeper.next()
        assert piece is not None
        again = LogKeeper(attempt, path)
        again.__dict__.update(keeper.__dict__)
        keeper.keep(piece)
        again.keep(piece)  # the same piece with the same knowledge, as after an error at the commit
    assert text_of(attempt) == "one\ntwo\n"


def test_many_short_lines_need_few_rows(attempt: Attempt, tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    keeper = LogKeeper(attempt, path)
    for number in range(200):
        say(path, f"line {number}\n")
        take_in(keeper)
    assert text_of(attempt) == "".join(f"line {number}\n" for number in range(200))
    assert LogChunk.objects.count() == 1


def test_what_is_new_since_an_offset_and_what_stands_around_a_line(attempt: Attempt, tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    keeper = LogKeeper(attempt, path)
    say(path, "".join(f"line {number}\n" for number in range(1, 20_001)))
    take_in(keeper)
    end = LogReader(attempt).log.size  # type: ignore[union-attr]
    say(path, "the newest\n")
    take_in(keeper)
    for stored in (False, True):
        if stored:
            bring_to_storage(keeper, tmp_path)
        reader = LogReader(attempt)
        assert reader.since(end, 1000) == ([Line(20_001, "the newest")], end + 11)
        assert reader.since(end + 11, 1000) == ([], end + 11)
        got: list[Line] = []
        offset = 0
        while offset < end + 11:
            lines, offset = reader.since(offset, 10_000)
            got += lines
        assert [line.text for line in got] == path.read_text().splitlines()
        assert [line.number for line in got] == list(range(1, 20_002))
        found = reader.lines(15_000, 2)
        assert [(line.number, line.text) for line in found] == [
            (15_000, "line 15000"),
            (15_001, "line 15001"),
        ]
        assert [line.text for line in reader.tail(2)] == ["line 20000", "the newest"]
    assert not LogChunk.objects.exists()


@pytest.mark.parametrize("stored", [False, True])
def test_of_a_log_that_is_too_long_the_middle_is_left_out_and_said_so(
    attempt: Attempt, tmp_path: Path, settings: Any, stored: bool
) -> None:
    settings.LOG_MAX_BYTES = 400_000
    path = tmp_path / "log.txt"
    keeper = LogKeeper(attempt, path)
    for number in range(1, 60_001):
        if number % 2000 == 1:
            take_in(keeper)
        say(path, f"this is line {number}\n")
    take_in(keeper)
    say(path, "and the last\n")
    take_in(keeper)
    kept = sum(len(bytes(chunk.data)) for chunk in LogChunk.objects.all())
    assert kept < 1.5 * settings.LOG_MAX_BYTES
    if stored:
        bring_to_storage(keeper, tmp_path)
    reader = LogReader(attempt)
    lines = reader.lines(1, 100_000)
    numbers = [line.number for line in lines]
    gap = numbers.index(0)
    assert numbers[:gap] == list(range(1, gap + 1))
    assert numbers[gap + 1 :] == list(range(numbers[gap + 1], 60_002))
    missing = numbers[gap + 1] - gap - 1
    assert missing > 10_000 and f"{missing:,} lines are left out" in lines[gap].text
    for line in lines:
        assert line.number in (0, 60_001) or line.text == f"this is line {line.number}"
    text = text_of(attempt)
    assert len(text.encode()) == reader.size and text.count("left out") == 1
    assert text.endswith("this is line 60000\nand the last\n")
    got: list[Line] = []
    offset, size = 0, reader.log.size  # type: ignore[union-attr]
    while offset < size:
        part, offset = reader.since(offset, 50_000)
        got += part
    assert got == lines


def test_a_trainer_that_prints_without_end_fills_nothing(
    attempt: Attempt, tmp_path: Path, settings: Any
) -> None:
    settings.LOG_MAX_BYTES = 1 << 20
    path = tmp_path / "log.txt"
    keeper = LogKeeper(attempt, path)
    with path.open("w") as file:
        for block in range(40):
            file.write("".join(f"{block} {number} " + "x" * 90 + "\n" for number in range(10_000)))
    pieces = 0
    while piece := keeper.next():
        keeper.keep(piece)
        pieces += 1
    assert pieces < 8
    reader = LogReader(attempt)
    assert reader.last_line == 400_000 and reader.size < 2 << 20
    assert reader.tail(1)[0].text.startswith("39 9999 ")


def test_who_has_lost_the_lease_adds_nothing_to_the_log(attempt: Attempt, tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    keeper = LogKeeper(attempt, path)
    say(path, "mine\n")
    take_in(keeper)
    Attempt.objects.filter(pk=attempt.pk).update(lease_until=timezone.now())
    assert lifecycle.lose_expired(attempt.pk) is not None
    say(path, "too late\n")
    piece = keeper.next()
    assert piece is not None
    with pytest.raises(LeaseLost):
        keeper.keep(piece)
    assert text_of(attempt) == "mine\n"


def test_a_worker_that_is_killed_leaves_the_log_as_far_as_it_was_taken_in(
    attempt: Attempt, tmp_path: Path
) -> None:
    """Nothing of a killed worker is run again: the lease expires, and the story's failure has the last lines."""
    path = tmp_path / "log.txt"
    keeper = LogKeeper(attempt, path)
    say(path, "before the kill\n")
    take_in(keeper)
    Run.objects.filter(pk=attempt.run_id).update(attempts_allowed=1)
    Attempt.objects.filter(pk=attempt.pk).update(lease_until=timezone.now())
    run = lifecycle.lose_expired(attempt.pk)
    assert run is not None and run.failure["code"] == "worker_lost"
    assert run.failure["log_tail"] == ["before the kill"]
    assert last_lines(Attempt.objects.get()) == ["before the kill"]


def test_each_attempt_has_its_own_log_and_storage_has_them_whole(
    submit: Callable[..., Run],
    claim: Callable[[], Attempt],
    supervise: Callable[[Attempt], Supervised],
) -> None:
    run = submit(steps=10, delay=0.01, die={"1": {"step": 4, "how": "SIGKILL"}})
    supervise(claim()).wait()
    supervise(claim()).wait()
    assert not LogChunk.objects.exists()
    for number in (1, 2):
        text = text_of(run.attempts.get(number=number))
        assert f"attempt {number}" in text and f"attempt {3 - number}" not in text
        with storage.open_file(f"runs/{run.pk}/logs/attempt-{number}.log") as source:
            assert source.read().decode() == text


def test_what_is_printed_is_in_the_database_while_the_run_goes_on(
    submit: Callable[..., Run],
    claim: Callable[[], Attempt],
    supervise: Callable[[Attempt], Supervised],
) -> None:
    run = submit(steps=100_000, delay=0.02, say="hello from the trainer")
    supervise(claim())
    until(lambda: Log.objects.filter(attempt__run=run, size__gt=0).exists())
    assert "hello from the trainer" in "\n".join(last_lines(run.attempts.get()))


def test_reading_goes_on_where_a_line_is_still_being_written(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    file = LogFile(path)
    assert not file.has_more and file.next() is None
    path.write_bytes("ä".encode()[:1])
    first = file.next()
    assert first is not None and first.data == b""
    path.write_bytes("ä\n".encode())
    second = file.next()
    assert second is not None and second.data.decode() == "ä\n"
