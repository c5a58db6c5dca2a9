"""Place in the queue and expected start, on made-up situations: right where it can be known, silent where not."""

from __future__ import annotations

import pytest

from runs.queueing.outlook import Host, Outlook, Place, Queued, Running, outlook
from runs.queueing.waiting import _about

A, B = 1, 2


def line(*runs: tuple[int, float | None], rank: int = 0, first: int = 1) -> list[Queued]:
    """(workspace, seconds) of runs that have waited in this order, numbered from `first`."""
    return [
        Queued(number, workspace, rank, number, seconds)
        for number, (workspace, seconds) in enumerate(runs, first)
    ]


def test_with_a_free_slot_it_starts_now() -> None:
    assert outlook(1, line((A, 60)), [], {}, [Host(1, 1)]) == Outlook(0, 0)


def test_it_waits_for_what_is_running_and_for_what_is_before_it() -> None:
    assert outlook(2, line((A, 60), (A, 60)), [Running(A, 30, hosts=[1])], {}, [Host(1, 1)]) == Outlook(1, 90)


def test_two_slots_halve_the_wait() -> None:
    waiting = line((A, 60), (A, 60), (A, 60))
    assert outlook(
        3, waiting, [Running(A, 10, hosts=[1]), Running(A, 40, hosts=[1])], {}, [Host(1, 2)]
    ) == Outlook(2, 70)


def test_a_time_that_hangs_on_something_unknown_is_not_told_but_the_place_is() -> None:
    assert outlook(1, line((A, 60)), [Running(A, None, hosts=[1])], {}, [Host(1, 1)]) == Outlook(0, None)
    assert outlook(2, line((A, None), (A, 60)), [Running(A, 30, hosts=[1])], {}, [Host(1, 1)]) == Outlook(
        1, None
    )


def test_what_is_unknown_behind_it_or_beside_it_does_no_harm() -> None:
    assert outlook(1, line((A, 60), (A, None)), [Running(A, 30, hosts=[1])], {}, [Host(1, 1)]) == Outlook(
        0, 30
    )
    assert outlook(
        1, line((A, None)), [Running(A, None, hosts=[1]), Running(A, 20, hosts=[1])], {}, [Host(1, 2)]
    ) == Outlook(0, 20)


def test_its_own_length_does_not_matter() -> None:
    assert outlook(1, line((A, None)), [Running(A, 5, hosts=[1])], {}, [Host(1, 1)]) == Outlook(0, 5)


def test_without_a_slot_only_the_place_is_told() -> None:
    assert outlook(3, line((A, 60), (A, 60), (A, 60)), [], {}, [Host(1, 0)]) == Outlook(2, None)


def test_workspaces_take_turns() -> None:
    waiting = [*line((A, 60), (A, 60), (A, 60)), *line((B, 60), first=4)]
    assert outlook(4, waiting, [Running(A, 10, hosts=[1])], {}, [Host(1, 2)]).ahead == 0
    assert outlook(2, waiting, [], {}, [Host(1, 2)]).ahead == 2


def test_weights_count() -> None:
    waiting = [*line((A, 60), (A, 60), (A, 60)), *line((B, 60), (B, 60), first=4)]
    equal = outlook(5, waiting, [], {A: Place(), B: Place()}, [Host(1, 5)]).ahead
    light = outlook(5, waiting, [], {A: Place(weight=3), B: Place()}, [Host(1, 5)]).ahead
    assert (equal, light) == (3, 4)


def test_a_higher_rank_goes_before_whoever_waits_longer() -> None:
    waiting = [*line((A, 60), (B, 60)), Queued(9, A, 1, 99, 60)]
    assert outlook(9, waiting, [Running(B, 7, hosts=[1])], {}, [Host(1, 1)]) == Outlook(0, 7)


def test_a_workspace_at_its_limit_waits_for_its_own_runs() -> None:
    places = {A: Place(limit=1), B: Place()}
    waiting = [*line((A, 60)), *line((B, 60), first=2)]
    assert outlook(1, waiting, [Running(A, 100, hosts=[1])], places, [Host(1, 3)]) == Outlook(1, 100)


def test_a_workspace_that_may_run_nothing_is_told_nothing() -> None:
    assert outlook(1, line((A, 60)), [], {A: Place(limit=0)}, [Host(1, 1)]) == Outlook(None, None)


def test_places_are_those_that_were_given_when_it_is_asked_twice() -> None:
    places = {A: Place(limit=2)}
    waiting = line((A, 60), (A, 60), (A, 60))
    assert (
        outlook(3, waiting, [], places, [Host(1, 2)])
        == outlook(3, waiting, [], places, [Host(1, 2)])
        == Outlook(2, 60)
    )


@pytest.mark.parametrize(
    ("seconds", "says"),
    [
        (60, "1 min"),
        (750, "12 min"),
        (3600, "1 h"),
        (5000, "1 h 30 min"),
        (7 * 3600 + 1900, "8 h"),
        (90_000, "1 d 1 h"),
    ],
)
def test_an_expected_start_is_as_precise_as_it_deserves(seconds: float, says: str) -> None:
    assert _about(seconds) == says
