"""Place and expected start where runs take several GPUs or hosts, on situations that can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from runs.queueing.outlook import Host, Outlook, Place, Queued, Running, outlook

A, B = 1, 2
EIGHT = Host(1, slots=8, gpus=8)


def run(number: int, gpus: int = 1, seconds: float | None = 60, **values: Any) -> Queued:
    """Of workspace A; a higher number has waited less long."""
    return Queued(number, values.pop("workspace", A), values.pop("rank", 0), number, seconds, gpus, **values)


def seconds(number: int, waiting: Sequence[Queued], *rest: Any, **values: Any) -> float | None:
    return outlook(number, waiting, *rest, **values).seconds


def test_a_run_on_eight_gpus_waits_until_all_eight_are_free() -> None:
    held = [Running(A, 10 * n, gpus=1, hosts=[1]) for n in range(1, 9)]
    assert outlook(1, [run(1, gpus=8)], held, {}, [EIGHT]) == Outlook(0, 80)
    assert outlook(1, [run(1, gpus=2)], held, {}, [EIGHT]) == Outlook(0, 20)


def test_smaller_ones_fit_beside_each_other() -> None:
    waiting = [run(1, gpus=4), run(2, gpus=2), run(3, gpus=2), run(4, gpus=1)]
    assert [seconds(n, waiting, [], {}, [EIGHT]) for n in range(1, 5)] == [0, 0, 0, 60]


def test_one_that_finds_too_few_lets_smaller_ones_go_first() -> None:
    waiting, held = [run(1, gpus=8), run(2, gpus=1, seconds=100)], [Running(A, 30, gpus=1, hosts=[1])]
    assert outlook(2, waiting, held, {}, [EIGHT]) == Outlook(0, 0)
    assert outlook(1, waiting, held, {}, [EIGHT]) == Outlook(1, 100)


def test_room_is_kept_for_one_that_has_waited_too_long() -> None:
    waiting = [run(1, gpus=8, waited=301), run(2, gpus=1, seconds=100), run(3, gpus=0)]
    held = [Running(A, 30, gpus=1, hosts=[1])]
    told = [outlook(n, waiting, held, {}, [EIGHT], patience=300) for n in (1, 2, 3)]
    assert told == [Outlook(1, 30), Outlook(2, 90), Outlook(0, 0)], "what needs no GPU delays nobody"


def test_room_is_kept_from_the_moment_that_its_patience_ends() -> None:
    # At 10 the large one has waited for 300 s: the second of the small ones is no longer let in before it.
    waiting = [run(1, gpus=2, waited=290.5), run(2, seconds=10), run(3, seconds=90)]
    held = [Running(A, 50, gpus=1, hosts=[1])]
    hosts = [Host(1, slots=2, gpus=2)]
    assert seconds(1, waiting, held, {}, hosts, patience=300) == 50
    assert seconds(3, waiting, held, {}, hosts, patience=300) == 50 + 60
    assert seconds(1, waiting, held, {}, hosts, patience=1000) == 10 + 90


def test_slots_cap_what_gpus_would_allow() -> None:
    assert seconds(2, [run(1), run(2)], [], {}, [Host(1, slots=1, gpus=8)]) == 60
    assert seconds(2, [run(1), run(2)], [], {}, [Host(1, slots=8, gpus=8)]) == 0


def test_with_more_slots_than_gpus_runs_share_them() -> None:
    waiting = [run(n) for n in range(1, 6)]
    assert [seconds(n, waiting, [], {}, [Host(1, slots=4, gpus=2)]) for n in (4, 5)] == [0, 60]


def test_free_gpus_of_two_hosts_do_not_add_up() -> None:
    hosts = [Host(1, slots=2, gpus=2), Host(2, slots=2, gpus=2)]
    held = [Running(A, 40, gpus=1, hosts=[1]), Running(A, 25, gpus=1, hosts=[2])]
    assert seconds(1, [run(1, gpus=2)], held, {}, hosts) == 25


def test_several_hosts_have_to_be_free_together() -> None:
    hosts = [Host(n, slots=8, gpus=8) for n in (1, 2, 3)]
    held = [Running(A, 10 * n, gpus=8, hosts=[n]) for n in (1, 2, 3)]
    told = [seconds(1, [run(1, gpus=8, nodes=nodes)], held, {}, hosts) for nodes in (1, 2, 3)]
    assert told == [10, 20, 30]


def test_one_on_several_hosts_gives_all_of_them_back() -> None:
    hosts = [Host(n, slots=1) for n in (1, 2)]
    held = [Running(A, 30, hosts=[1, 2])]
    assert [seconds(n, [run(1, 0), run(2, 0), run(3, 0)], held, {}, hosts) for n in (1, 2, 3)] == [30, 30, 90]


def test_hosts_of_other_versions_do_not_begin_a_run_together() -> None:
    hosts = [Host(1, 1, versions="2.13"), Host(2, 1, versions="2.14"), Host(3, 1, versions="2.14")]
    held = [Running(A, 90, hosts=[3])]
    assert seconds(1, [run(1, 0, nodes=2)], held, {}, hosts) == 90
    assert outlook(2, [run(1, 0), run(2, 0, nodes=3)], [], {}, hosts) == Outlook(1, None)


def test_hosts_without_the_memory_do_not_count() -> None:
    hosts = [Host(1, slots=1, gpus=1), Host(2, slots=1, gpus=1)]
    held = [Running(A, 10, gpus=1, hosts=[1]), Running(A, 70, gpus=1, hosts=[2])]
    assert seconds(1, [run(1, hosts=frozenset({2}))], held, {}, hosts) == 70


def test_runs_that_go_elsewhere_are_not_before_it() -> None:
    hosts = [Host(1, slots=1, gpus=1), Host(2, slots=1, gpus=0)]
    waiting = [run(1, gpus=0, hosts=frozenset({2})), run(2, gpus=0, hosts=frozenset({2})), run(3)]
    assert outlook(3, waiting, [Running(A, 5, gpus=1, hosts=[1])], {}, hosts) == Outlook(0, 5)


def test_a_run_on_eight_gpus_weighs_eight_times_in_the_share() -> None:
    hosts = [Host(1, slots=2, gpus=9)]
    held = [Running(A, 1000, gpus=8, hosts=[1]), Running(B, 10, gpus=1, hosts=[1])]
    waiting = [run(1, seconds=60), run(2, workspace=B, seconds=60)]
    assert outlook(1, waiting, held, {}, hosts) == Outlook(1, 70), "A has eight, so B goes before it"


def test_a_limit_counts_runs_wherever_they_are() -> None:
    places, gone = {A: Place(limit=1)}, 99  # a host that takes no more runs
    assert seconds(1, [run(1)], [Running(A, 45, hosts=[gone])], places, [EIGHT]) == 45


@pytest.mark.parametrize("able", [{2}, {1, 2}])
def test_an_unknown_end_matters_where_the_run_could_be(able: set[int]) -> None:
    hosts = [Host(1, slots=1), Host(2, slots=1)]
    held = [Running(A, None, hosts=[1]), Running(A, 700, hosts=[2])]
    known = [Running(A, None, hosts=[1]), Running(A, 20, hosts=[2])]
    waiting = [run(1, 0, hosts=frozenset(able))]
    assert seconds(1, waiting, held, {}, hosts) == (700 if able == {2} else None)
    assert seconds(1, waiting, known, {}, hosts) == 20


def test_an_unknown_end_matters_through_whoever_starts_then() -> None:
    hosts = [Host(1, slots=1), Host(2, slots=1)]
    held = [Running(A, None, hosts=[1]), Running(A, 700, hosts=[2])]
    waiting = [run(1, 0), run(2, 0, hosts=frozenset({2}))]
    # If the first ends later than it is taken to, the one before takes the second host.
    assert outlook(2, waiting, held, {}, hosts) == Outlook(1, None)


def test_one_that_says_that_it_is_done_counts_as_done() -> None:
    assert seconds(1, [run(1, 0)], [Running(A, 0.0, hosts=[1])], {}, [Host(1, 1)]) == 0
