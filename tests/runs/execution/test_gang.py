"""A run on several hosts holds all of them or none, whoever claims, dies or leaves meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from runs import lifecycle
from runs.execution import capacity, dispatch, gang, leftovers, samples
from runs.models import Attempt, Node, Run, Worker
from runs.models.worker import count_as_gone, online

Make = Callable[..., Any]
GPUS = [{"index": n, "name": "H200", "memory_bytes": 1} for n in range(2)]


@pytest.fixture
def hosts(transactional_db: None) -> list[Worker]:
    return [new_host(number) for number in range(3)]


def new_host(number: int, **values: Any) -> Worker:
    defaults: dict[str, Any] = {
        "host": f"host{number}",
        "pid": number,
        "queues": ["cpu"],
        "slots": 1,
        "versions": {"torch": "2.14"},
    }
    return Worker.objects.create(name=f"worker{number}", **{**defaults, **values})


@pytest.fixture
def submit(world: dict[str, Any], new_run: Make) -> Make:
    """Puts a run on so many hosts into the queue."""

    def made(nodes: int, **values: Any) -> Run:
        return lifecycle.submit(new_run(nodes=nodes, strategy="ddp", **values), None)

    return made


def status(run: Run) -> str:
    return str(Run.objects.get(pk=run.pk).status)


def test_one_claim_holds_all_hosts_and_the_others_find_their_parts(hosts: list[Worker], submit: Make) -> None:
    run = submit(3)
    attempt = lifecycle.claim(hosts[1], ["cpu"])
    assert attempt is not None and attempt.worker == hosts[1]
    assert status(run) == "running"
    assert [(node.rank, node.worker) for node in attempt.nodes.all()] == [(1, hosts[0]), (2, hosts[2])]
    assert run.events.get(kind="started").message == "Started on hosts host1, host0 and host2."
    mine = gang.next_node(hosts[0])
    assert mine is not None and (mine.rank, mine.attempt) == (1, attempt)
    assert gang.next_node(hosts[0]) is None  # once
    assert gang.next_node(hosts[1]) is None  # it leads


def test_with_too_few_hosts_nothing_is_held(hosts: list[Worker], submit: Make) -> None:
    busy = submit(1)
    assert lifecycle.claim(hosts[2], ["cpu"]) is not None
    run = submit(3)
    assert lifecycle.claim(hosts[0], ["cpu"]) is None
    assert (status(busy), status(run)) == ("running", "queued")
    assert not Node.objects.exists() and Attempt.objects.count() == 1
    # The same host takes a smaller run meanwhile.
    assert lifecycle.claim(hosts[0], ["cpu"]) is None
    two = submit(2)
    assert lifecycle.claim(hosts[0], ["cpu"]) is not None
    assert status(two) == "running"


@pytest.mark.parametrize(
    "change",
    [
        {"last_seen_at": timezone.now() - timedelta(hours=1)},
        {"queues": []},
        {"versions": {"torch": "2.13"}},
        {"slots": 0},
        {"draining": True},
        {"leaving": True},
    ],
    ids=["gone", "other queues", "other versions", "no slot", "drains", "leaves"],
)
def test_a_host_that_could_not_do_its_part_is_not_chosen(
    hosts: list[Worker], submit: Make, change: dict[str, Any]
) -> None:
    Worker.objects.filter(pk=hosts[2].pk).update(**change)
    run = submit(3)
    assert lifecycle.claim(hosts[0], ["cpu"]) is None
    assert status(run) == "queued"


def test_gpus_are_counted_by_host(transactional_db: None, submit: Make) -> None:
    hosts = [new_host(number, queues=["cpu", "gpu1", "gpu2"], slots=2, devices=GPUS) for number in range(2)]
    small = submit(1, queue="gpu1")
    assert lifecycle.claim(hosts[1], ["gpu1"]) is not None
    large = submit(2, queue="gpu2")
    assert lifecycle.claim(hosts[0], ["cpu", "gpu1", "gpu2"]) is None  # one of the other's two is taken
    fits = submit(2, queue="gpu1")
    assert lifecycle.claim(hosts[0], ["cpu", "gpu1", "gpu2"]) is not None
    assert (status(small), status(large), status(fits)) == ("running", "queued", "running")
    found = capacity.rooms(hosts)
    assert [(found[host.pk].slots, found[host.pk].gpus) for host in hosts] == [(1, 1), (0, 0)]


def test_a_promised_place_is_given_to_nobody_else(hosts: list[Worker], submit: Make) -> None:
    submit(2)
    assert lifecycle.claim(hosts[0], ["cpu"]) is not None
    waits = submit(1)
    assert lifecycle.claim(hosts[1], ["cpu"]) is None
    node = gang.next_node(hosts[1])
    assert node is not None  # from here on its slot is busy, and asks for nothing
    assert lifecycle.claim(hosts[2], ["cpu"]) is not None
    assert status(waits) == "running"


def test_who_has_waited_longer_goes_first(hosts: list[Worker], submit: Make) -> None:
    runs = [submit(1), submit(2), submit(1)]
    claimed = [lifecycle.claim(hosts[0], ["cpu"]), lifecycle.claim(hosts[1], ["cpu"])]
    assert [attempt and attempt.run for attempt in claimed] == runs[:2]
    assert [status(run) for run in runs] == ["running", "running", "queued"]


def test_a_run_that_cannot_begin_yet_does_not_keep_others_from_it(hosts: list[Worker], submit: Make) -> None:
    too_many, small = submit(4), submit(1)
    attempt = lifecycle.claim(hosts[0], ["cpu"])
    assert attempt is not None and attempt.run == small
    assert status(too_many) == "queued"


def test_claims_at_once_hold_whole_gangs_and_no_two_the_same_place(
    transactional_db: None, submit: Make
) -> None:
    """Four workers with a slot each, and runs on two hosts and on one, claimed by all at the same time."""
    hosts = [new_host(number) for number in range(4)]
    for _ in range(6):
        submit(2)
        submit(1)
    wrong: list[BaseException] = []
    begin = threading.Barrier(len(hosts))

    def work(host: Worker) -> None:
        try:
            begin.wait()
            for _ in range(12):
                node = gang.next_node(host)
                if node is None and not Attempt.objects.filter(worker=host, finished_at=None).exists():
                    attempt = lifecycle.claim(host, ["cpu"])
                    if attempt is not None and attempt.run.nodes == 1:
                        lifecycle.succeed(attempt, {})
        except BaseException as error:
            wrong.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(host,)) for host in hosts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a claim hangs"
    assert not wrong
    running = Attempt.objects.filter(finished_at=None, run__nodes=2)
    assert running.count() == 2  # four hosts, all of them busy
    taken = [attempt.worker_id for attempt in running]
    for attempt in running:
        assert attempt.nodes.count() == 1  # whole
        taken += [node.worker_id for node in attempt.nodes.all()]
    assert sorted(taken) == sorted(host.pk for host in hosts)


# -- when hosts go -------------------------------------------------------------------------------------
@pytest.fixture
def together(hosts: list[Worker], submit: Make) -> Attempt:
    submit(2)
    attempt = lifecycle.claim(hosts[0], ["cpu"])
    assert attempt is not None
    return attempt


def test_the_leader_sees_that_a_host_did_not_begin(together: Attempt, hosts: list[Worker]) -> None:
    assert gang.look_at_others(together) == gang.Others()
    Node.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    found = gang.look_at_others(together)
    assert found.failure is not None and not found.is_final
    assert found.failure["message"] == "The worker on host1, host 2 of the run, did not begin."


def test_the_leader_sees_that_a_host_was_lost_once_its_worker_starts_again(
    together: Attempt, hosts: list[Worker], settings: Any, tmp_path: Any
) -> None:
    settings.WORK_DIR = tmp_path
    gang.next_node(hosts[1])
    leftovers.clear(hosts[1])
    found = gang.look_at_others(together)
    assert found.failure is not None
    assert found.failure["message"] == "The worker on host1, host 2 of the run, stopped answering."


def test_what_a_lost_leader_held_elsewhere_is_let_go(together: Attempt) -> None:
    past = timezone.now() - timedelta(seconds=1)
    Attempt.objects.update(lease_until=past)
    Node.objects.update(lease_until=past)
    assert [run.status for run in dispatch.reap()] == ["queued"]
    assert capacity.finish_forgotten() == 1
    assert not Node.objects.filter(finished_at=None).exists()
    assert gang.next_node(together.nodes.get().worker) is None  # nobody begins it any more


def test_a_worker_that_is_told_to_leave_gives_back_what_it_has_not_begun(
    together: Attempt, hosts: list[Worker]
) -> None:
    """No attempt is lost for it: the leader sees it leave, as it sees one that trains."""
    capacity.leave(hosts[1])
    assert gang.next_node(hosts[1]) is None
    assert gang.look_at_others(together) == gang.Others(leaving=True)
    assert capacity.rooms([hosts[1]])[hosts[1].pk].slots == 1
    lifecycle.leave(together)
    assert lifecycle.claim(hosts[1], ["cpu"]) is None
    again = lifecycle.claim(hosts[0], ["cpu"])
    assert again is not None and [node.worker for node in again.nodes.all()] == [hosts[2]]
    assert [attempt.outcome for attempt in together.run.attempts.order_by("number")] == ["released", ""]


def test_a_worker_that_leaves_has_its_say_about_a_part_that_it_trains(
    together: Attempt, hosts: list[Worker]
) -> None:
    node = gang.next_node(hosts[1])
    assert node is not None
    capacity.leave(hosts[1])
    assert Node.objects.get(pk=node.pk).finished_at is None
    assert gang.look_at_others(together) == gang.Others()  # its slot says when it has seen to it


def test_nobody_leaves_in_the_middle_of_a_claim_that_counts_on_it(hosts: list[Worker], submit: Make) -> None:
    """What the claim then gives it, it gives back."""
    submit(2)
    leaving = threading.Thread(target=lambda: (capacity.leave(hosts[1]), connection.close()))
    with transaction.atomic():
        attempt = lifecycle.claim(hosts[0], ["cpu"])
        assert attempt is not None
        leaving.start()
        leaving.join(0.5)
        assert leaving.is_alive(), "it waits for the claim"
    leaving.join(10)
    assert gang.look_at_others(attempt) == gang.Others(leaving=True)


def beat(*workers: Worker) -> None:
    for worker in workers:
        samples.beat(worker.pk, {}, is_new=False)


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_worker_that_let_its_lease_run_out_gets_no_part_until_it_is_heard_of_again(
    together: Attempt, hosts: list[Worker], role: str
) -> None:
    """hosts[0] leads, hosts[1] follows; hosts[2] would begin it anew with either. All were heard of just now."""
    beat(*hosts)
    past = timezone.now() - timedelta(seconds=1)
    held = Attempt.objects.filter(pk=together.pk) if role == "leader" else together.nodes
    held.update(lease_until=past)
    gone, left = (hosts[0], hosts[1]) if role == "leader" else (hosts[1], hosts[0])
    if role == "leader":
        assert [run.status for run in dispatch.reap()] == ["queued"]
    else:
        failure = gang.look_at_others(together).failure
        assert failure is not None
        lifecycle.lose(together, failure)
    together.nodes.filter(worker=left).update(finished_at=timezone.now(), outcome="done")
    Worker.objects.filter(pk=hosts[2].pk).update(draining=True)

    assert gone not in online() and {left, hosts[2]} <= set(online())
    assert lifecycle.claim(left, ["cpu"]) is None and status(together.run) == "queued"
    capacity.finish_forgotten()
    assert lifecycle.claim(left, ["cpu"]) is None, "letting go for it is no sign of life"

    beat(gone)  # it was frozen, or cut off
    attempt = lifecycle.claim(left, ["cpu"])
    assert attempt is not None and [node.worker for node in attempt.nodes.all()] == [gone]


def test_a_lost_attempt_whose_workers_all_beat_costs_none_of_them_its_place(
    together: Attempt, hosts: list[Worker]
) -> None:
    lifecycle.lose(together, lifecycle.worker_lost(together))
    assert set(online()) == set(hosts)


def test_a_host_that_has_not_let_go_yet_gets_no_other_part_though_it_has_room(
    transactional_db: None, submit: Make
) -> None:
    """Nobody knows yet whether it is alive: its lease still lasts."""
    hosts = [new_host(number, slots=2) for number in range(2)]
    submit(2)
    attempt = lifecycle.claim(hosts[0], ["cpu"])
    assert attempt is not None and gang.next_node(hosts[1]) is not None
    lifecycle.lose(attempt, lifecycle.worker_lost(attempt))
    assert lifecycle.claim(hosts[0], ["cpu"]) is None
    attempt.nodes.update(finished_at=timezone.now(), outcome="done")
    assert lifecycle.claim(hosts[0], ["cpu"]) is not None


def test_a_beat_that_comes_while_a_worker_is_counted_out_counts(transactional_db: None) -> None:
    host = new_host(0)
    beats = threading.Thread(target=lambda: (beat(host), connection.close()))
    with transaction.atomic():
        count_as_gone(Worker.objects.filter(pk=host.pk))
        beats.start()
        beats.join(0.5)
        assert beats.is_alive(), "it waits for the row"
        assert host not in online()
    beats.join(10)
    assert host in online()


def test_a_large_run_that_has_waited_long_is_not_overtaken_for_ever(
    transactional_db: None, submit: Make, settings: Any
) -> None:
    first, second = (
        new_host(number, queues=["cpu", "gpu1", "gpu2"], slots=2, devices=GPUS) for number in range(2)
    )
    large = submit(1, queue="gpu2")
    every = ["cpu", "gpu1"]  # with one GPU of two free
    assert capacity.reserved(first, every, 1) == every
    Run.objects.filter(pk=large.pk).update(
        queued_at=timezone.now() - timedelta(seconds=settings.RESERVE_SECONDS + 1)
    )
    assert capacity.reserved(first, every, 1) == ["cpu"]
    assert capacity.reserved(second, every, 1) == every  # one host is enough
    Run.objects.filter(pk=large.pk).update(nodes=2)
    small = submit(1, queue="gpu1")
    Run.objects.filter(pk=large.pk).update(rank=-1)
    assert lifecycle.claim(first, ["gpu1"]) is not None and status(small) == "running"
    Run.objects.filter(pk=large.pk).update(rank=0)
    assert capacity.reserved(second, ["cpu", "gpu1", "gpu2"], 2) == ["cpu"]


def test_what_is_kept_free_is_for_the_run_that_it_is_kept_for(
    transactional_db: None, submit: Make, settings: Any
) -> None:
    first, _ = (
        new_host(number, queues=["cpu", "gpu1", "gpu2"], slots=2, devices=GPUS) for number in range(2)
    )
    large = submit(2, queue="gpu2")
    Run.objects.filter(pk=large.pk).update(
        queued_at=timezone.now() - timedelta(seconds=settings.RESERVE_SECONDS + 1)
    )
    attempt = lifecycle.claim(first, capacity.reserved(first, ["cpu", "gpu1", "gpu2"], 2))
    assert attempt is not None and attempt.run == large
